"""As-of queries: the function, the command and the API."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import housekeeping
from anaphora.deliveries.engine import deliver_due
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import queries
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def reports() -> list[Report]:
    """Reports of three days at 06:00 UTC, and a report of another dashboard in between."""
    made = [
        make_report(f"%PDF-1.7 {day}".encode(), rendered_at=datetime(2026, 3, day, 6, tzinfo=UTC)) for day in (1, 2, 3)
    ]
    make_report(dashboard="stock", rendered_at=datetime(2026, 3, 2, 7, tzinfo=UTC))
    return made


def sales(when: datetime) -> queries.AsOf:
    return queries.as_of(Dashboard.objects.get(slug="sales"), when)


def test_the_latest_at_or_before_with_its_neighbours(reports: list[Report]) -> None:
    first, second, third = reports
    found = sales(second.rendered_at + timedelta(hours=3))
    assert (found.report, found.previous, found.next) == (second, first, third)
    assert sales(second.rendered_at).report == second
    assert sales(second.rendered_at - timedelta(seconds=1)).report == first
    before = sales(first.rendered_at - timedelta(days=1))
    assert (before.report, before.previous, before.next) == (None, None, first)
    latest = sales(third.rendered_at + timedelta(days=100))
    assert (latest.report, latest.next) == (third, None)


def test_each_format_has_its_own(reports: list[Report]) -> None:
    csv = make_report(b"a,b\n1,2\n", filename="a.csv", rendered_at=datetime(2026, 3, 1, 5, tzinfo=UTC))
    sales = Dashboard.objects.get(slug="sales")
    found = queries.latest_by_format(sales, datetime(2026, 3, 2, 12, tzinfo=UTC))
    assert found == {"application/pdf": reports[1], "text/csv": csv}
    assert queries.latest_by_format(sales, datetime(2026, 3, 1, 5, 30, tzinfo=UTC)) == {"text/csv": csv}
    assert queries.latest_by_format(sales, datetime(2026, 2, 1, tzinfo=UTC)) == {}


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01T14:00", "2026-03-01T13:00:00+00:00"),
        ("2026-03-01T14:00:00Z", "2026-03-01T14:00:00+00:00"),
        ("2026-03-01T14:00-05:00", "2026-03-01T19:00:00+00:00"),
        ("2026-03-01", "2026-03-01T22:59:59.999999+00:00"),
        ("2026-03-29", "2026-03-29T21:59:59.999999+00:00"),
        ("2026-10-25", "2026-10-25T22:59:59.999999+00:00"),
    ],
)
def test_a_date_alone_means_the_end_of_that_day(text: str, instant: str) -> None:
    assert queries.parse_instant(text, BERLIN).isoformat() == instant


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "9999-12-31", "0001-01-01T00:00+14:00"])
def test_an_invalid_instant_is_explained(text: str) -> None:
    with pytest.raises(queries.InvalidInstant):
        queries.parse_instant(text, BERLIN)


class TestCommand:
    def test_it_shows_the_report_and_writes_its_file(self, reports: list[Report], tmp_path: Path) -> None:
        out = io.StringIO()
        call_command("as_of", "sales", "2026-03-02T12:00Z", "--json", "--output", tmp_path / "then.pdf", stdout=out)
        shown = json.loads(out.getvalue())
        assert shown["id"] == str(reports[1].pk)
        assert shown["next_rendered_at"] == "2026-03-03T06:00:00+00:00"
        assert (tmp_path / "then.pdf").read_bytes() == b"%PDF-1.7 2"
        call_command("as_of", "sales", "2026-03-09", stdout=out)
        assert "the latest" in out.getvalue()

    def test_the_file_may_come_from_the_store(self, interface: S3Interface, tmp_path: Path) -> None:
        make_policy(interface)
        report = make_report(b"%PDF-1.7 x")
        deliver_due(interface.pk)
        Dashboard.objects.update(keep_local_days=0)
        housekeeping.run_housekeeping(datetime.now(UTC) + timedelta(days=1))
        assert not report.local_path.exists()
        call_command("as_of", "sales", "2026-12-31", "--output", tmp_path / "then.pdf", stdout=io.StringIO())
        assert (tmp_path / "then.pdf").read_bytes() == b"%PDF-1.7 x"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing", "2026-03-01"], "no dashboard"),
            (["sales", "soon"], "is not a date or time"),
            (["sales", "2025-01-01"], "no report of sales"),
            (["sales", "2026-03-09", "--output", "/nonexistent/x"], "Cannot write to"),
        ],
    )
    def test_errors_are_explained(self, reports: list[Report], arguments: list[str], words: str) -> None:
        with pytest.raises(CommandError, match=words):
            call_command("as_of", *arguments, stdout=io.StringIO())


class TestApi:
    @pytest.fixture
    def get(self, client: Client) -> Any:
        cache.clear()
        token = tokens.create("reader", [Scope.READ])[1]
        return lambda path, **headers: client.get(
            f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"} | headers
        )

    def test_as_of(self, get: Any, reports: list[Report]) -> None:
        found = get("/dashboards/sales/as-of/2026-03-02T12:00Z").json()
        assert found["report"]["id"] == str(reports[1].pk)
        assert found["next_rendered_at"] == "2026-03-03T06:00:00Z"
        assert get("/dashboards/sales/as-of/2026-03-03").json()["next_rendered_at"] is None
        assert get("/dashboards/sales/as-of/2025-01-01").status_code == 404
        assert get("/dashboards/nothing/as-of/2026-01-01").status_code == 404
        assert get("/dashboards/sales/as-of/soon").json()["field"] == "when"
        make_report(b"a,b\n1,2\n", filename="a.csv", rendered_at=datetime(2026, 3, 1, 5, tzinfo=UTC))
        of_format = get("/dashboards/sales/as-of/2026-03-03?content_type=text/csv").json()
        assert (of_format["report"]["filename"], of_format["next_rendered_at"]) == ("a.csv", None)

    def test_unchanged_content_is_not_sent_again(self, get: Any, reports: list[Report]) -> None:
        for path in ("/dashboards", "/reports", "/dashboards/sales/as-of/2026-03-03"):
            first = get(path)
            assert first["Cache-Control"] == "private, no-cache"
            again = get(path, **{"If-None-Match": first["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
        make_report(rendered_at=datetime(2026, 3, 3, 7, tzinfo=UTC))
        assert get(path, **{"If-None-Match": first["ETag"]}).status_code == 200

    def test_dashboards(self, get: Any, reports: list[Report]) -> None:
        found = {each["slug"]: each for each in get("/dashboards").json()}
        assert (found["sales"]["reports"], found["sales"]["latest"]) == (3, "2026-03-03T06:00:00Z")

    def test_reports_by_pages(self, get: Any, reports: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("anaphora.api.routes.PAGE_SIZE", 2)
        first = get("/reports").json()
        rest = get(f"/reports?cursor={first['cursor']}").json()
        assert [len(each["reports"]) for each in (first, rest)] == [2, 2]
        assert rest["cursor"] is None
        seen = [each["rendered_at"] for each in first["reports"] + rest["reports"]]
        assert seen == sorted(seen, reverse=True)
        for span in ("from=2026-03-02&to=2026-03-02", "from=2026-03-02T06:00Z&to=2026-03-02T06:00Z"):
            within = get(f"/reports?dashboard=sales&{span}").json()["reports"]
            assert [each["id"] for each in within] == [str(reports[1].pk)]
        assert get("/reports?cursor=x").json()["field"] == "cursor"
        assert get("/reports?from=x").json()["field"] == "from"
        assert get("/reports?from=0001-01-01&to=9999-12-30").json() == first

    def test_the_file_with_its_digest_as_etag(self, get: Any, reports: list[Report]) -> None:
        path = f"/reports/{reports[0].pk}/content"
        answer = get(path)
        assert answer.getvalue() == b"%PDF-1.7 1"
        assert answer["ETag"] == f'"{reports[0].sha256}"'
        assert get(path, **{"If-None-Match": answer["ETag"]}).status_code == 304
        reports[0].local_path.unlink()
        assert get(path).status_code == 404
        assert get("/reports/00000000-0000-0000-0000-000000000000/content").status_code == 404
