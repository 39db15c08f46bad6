import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_s3 import keys

SHA256 = "0123456789abcdef" * 4


def test_the_key_is_the_one_of_the_contract() -> None:
    key = keys.object_key(
        prefix="reports/",
        dashboard="sales",
        rendered_at=datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
        sha256=SHA256,
        suffix=".pdf",
    )
    assert key == "reports/sales/2026/02/28/20260228T233000Z_0123456789abcdef.pdf"


@given(
    slug=st.from_regex(r"[-a-zA-Z0-9_]{1,100}", fullmatch=True),
    instant=st.datetimes(min_value=datetime(2, 1, 1), timezones=st.just(UTC)),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    prefix=st.from_regex(r"([a-z0-9._-]{1,20}/){0,12}", fullmatch=True),
)
def test_every_report_has_a_legal_key(slug: str, instant: datetime, sha256: str, prefix: str) -> None:
    key = keys.object_key(prefix=prefix, dashboard=slug, rendered_at=instant, sha256=sha256, suffix=".pdf")
    assert len(key.encode()) <= keys.MAX_KEY_BYTES
    assert key.isascii()
    assert key.startswith(prefix + slug)
    assert re.search(r"/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_[0-9a-f]{16}\.pdf$", key)


def test_no_dashboard_can_share_the_folder_of_the_connection_test() -> None:
    key = keys.connection_test_key(prefix="a/", tested_at=datetime(2026, 3, 1, tzinfo=UTC), sha256=SHA256)
    assert key == "a/connection.test/20260301T000000Z_0123456789abcdef.txt"


@given(filename=st.text(min_size=1, max_size=80).filter(lambda name: name.isprintable()))
def test_metadata_and_disposition_survive_any_file_name(filename: str) -> None:
    from urllib.parse import unquote

    metadata = keys.object_metadata(
        report_id="x", dashboard="sales", rendered_at=datetime(2026, 3, 1, tzinfo=UTC), sha256=SHA256, filename=filename
    )
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert unquote(metadata["filename"]) == filename
    disposition = keys.content_disposition(filename)
    assert disposition.isascii()
    assert disposition.isprintable()
    assert unquote(disposition.rpartition("UTF-8''")[2]) == filename
    assert disposition.count('"') == 2


@pytest.mark.parametrize("prefix", ["", "reports/", "a/b/c/", "x.y_z-1/", "it's(2)/"])
def test_a_usable_prefix_has_no_problem(prefix: str) -> None:
    assert keys.prefix_problem(prefix) == ""


@pytest.mark.parametrize("prefix", ["reports", "/reports/", "a//b/", "../", "a/../b/", "./", "a b/", "ü/", "a\\b/"])
def test_an_unusable_prefix_is_explained(prefix: str) -> None:
    assert "folder" in keys.prefix_problem(prefix).lower()
