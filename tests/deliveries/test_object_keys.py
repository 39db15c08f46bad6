import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anaphora.deliveries import object_keys

SHA256 = "0123456789abcdef" * 4


def test_the_key_has_the_documented_format() -> None:
    key = object_keys.object_key(
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
    key = object_keys.object_key(prefix=prefix, dashboard=slug, rendered_at=instant, sha256=sha256, suffix=".pdf")
    assert len(key.encode()) <= object_keys.MAX_KEY_BYTES
    assert key.isascii()
    assert key.startswith(prefix + slug)
    assert re.search(r"/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_[0-9a-f]{16}\.pdf$", key)


def test_no_dashboard_can_share_the_folder_of_the_connection_test() -> None:
    key = object_keys.connection_test_key(prefix="a/", tested_at=datetime(2026, 3, 1, tzinfo=UTC), sha256=SHA256)
    assert key == "a/connection.test/20260301T000000Z_0123456789abcdef.txt"


def metadata_of(**changes: Any) -> dict[str, str]:
    values: dict[str, Any] = {
        "report_id": "00000000-0000-4000-8000-000000000001",
        "dashboard": "sales",
        "title": "Sales",
        "rendered_at": datetime(2026, 3, 1, tzinfo=UTC),
        "ingested_at": datetime(2026, 3, 1, 0, 1, 2, 34, tzinfo=UTC),
        "sha256": SHA256,
        "md5": SHA256[:32],
        "filename": "a.pdf",
    }
    return object_keys.object_metadata(**(values | changes))


KEY = "a/sales/2026/03/01/20260301T000000Z_0123456789abcdef.pdf"


def test_metadata_is_read_as_it_was_written() -> None:
    found = object_keys.described(prefix="a/", key=KEY, metadata=metadata_of(filename="ü €.pdf", title="Umsätze"))
    assert (found.filename, found.title, found.dashboard, found.sha256) == ("ü €.pdf", "Umsätze", "sales", SHA256)
    assert found.ingested_at == datetime(2026, 3, 1, 0, 1, 2, 34, tzinfo=UTC)
    assert object_keys.parts_of("a/", KEY) == ("sales", found.rendered_at)
    assert "title" not in metadata_of(title="ü" * 200), "too long for the metadata"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format-version": None}, "not have the metadata of a report"),
        ({"format-version": "2"}, "format version is 2"),
        ({"md5": None}, "lack md5"),
        ({"report-id": "x"}, "can't be read"),
        ({"rendered-at": "2026-03-01T00:00:00"}, "no time zone"),
        ({"rendered-at": "2026-03-02T00:00:00Z"}, "another key"),
        ({"dashboard": "stock"}, "another key"),
        ({"sha256": "ab"}, "no digests"),
        ({"sha256": "f" * 64}, "another key"),
        ({"filename": "%0A"}, "no file"),
        ({"filename": ""}, "no file"),
        ({"filename": "%FF"}, "can't be read"),
    ],
)
def test_unusable_metadata_is_explained(changes: dict[str, str | None], why: str) -> None:
    changed: dict[str, str | None] = {**metadata_of(), **changes}
    metadata = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(object_keys.Unclear, match=why):
        object_keys.described(prefix="a/", key=KEY, metadata=metadata)


def test_keys_show_the_kind_of_object() -> None:
    manifest = object_keys.manifest_key(prefix="a/", day=date(2026, 3, 1))
    again = object_keys.manifest_key(prefix="a/", day=date(2026, 3, 1), again=7)
    assert {object_keys.kind_of("a/", key) for key in (manifest, again)} == {"manifest"}
    key = object_keys.public_key_key(prefix="a/", fingerprint=SHA256)
    verifier = object_keys.verifier_key(prefix="a/", sha256=SHA256)
    beside = {f"{manifest}.sig", f"{again}.tsr", key, verifier}
    assert {object_keys.kind_of("a/", key) for key in beside} == {"proof"}
    check = object_keys.immutability_check_key(prefix="a/", checked_at=datetime(2026, 3, 1, tzinfo=UTC), sha256=SHA256)
    assert object_keys.kind_of("a/", check) == "test"
    catalogue = "a/sales/catalogue/2026-03-01.jsonl"
    test = object_keys.connection_test_key(prefix="a/", tested_at=datetime(2026, 3, 1, tzinfo=UTC), sha256=SHA256)
    assert [object_keys.kind_of("a/", key) for key in (KEY, catalogue, test)] == ["report", "catalogue", "test"]
    for other in ("a/holiday.jpg", "sales/2026/03/01/20260301T000000Z_0123456789abcdef.pdf", "a/", ""):
        assert object_keys.kind_of("a/", other) == ""
    with pytest.raises(ValueError, match="holiday"):
        object_keys.parts_of("a/", "a/holiday.jpg")


@given(filename=st.text(min_size=1, max_size=80).filter(lambda name: name.isprintable()))
def test_metadata_and_disposition_survive_any_file_name(filename: str) -> None:
    from urllib.parse import quote, unquote

    metadata = metadata_of(filename=filename)
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    assert unquote(metadata["filename"]) == filename
    disposition = object_keys.content_disposition(filename)
    assert disposition.isascii()
    assert disposition.isprintable()
    named = unquote(disposition.rpartition("UTF-8''")[2])
    assert named == filename or (
        filename.startswith(named[:20]) and len(quote(filename, safe="")) > object_keys.MAX_NAME_BYTES
    )
    assert len(disposition) < 600
    assert disposition.count('"') == 2


@pytest.mark.parametrize("prefix", ["", "reports/", "a/b/c/", "x.y_z-1/", "it's(2)/"])
def test_a_usable_prefix_has_no_problem(prefix: str) -> None:
    assert object_keys.prefix_problem(prefix) == ""


@pytest.mark.parametrize("prefix", ["reports", "/reports/", "a//b/", "../", "a/../b/", "./", "a b/", "ü/", "a\\b/"])
def test_an_unusable_prefix_is_explained(prefix: str) -> None:
    assert "folder" in object_keys.prefix_problem(prefix).lower()
