"""The pages of the timeline without a browser: content, permissions, and the source of the bytes."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from anaphora.api import tokens
from anaphora.api.models import ApiToken, Scope
from anaphora.deliveries import engine
from anaphora.deliveries.models import ArchivePolicy, Delivery
from anaphora.reports.models import Dashboard, Preview, Report
from anaphora.timeline import previews, tables
from delivery_s3.models import S3Interface
from tests.support.addresses import addresses, one_of_each
from tests.support.buckets import Bucket
from tests.support.factories import make_policy, make_report
from tests.timeline.test_previews import png, two_pages

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def viewer(client: Client) -> Client:
    """A user who may only view reports, without access to the admin."""
    user = User.objects.create_user("auditor", password="password of the test")
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_report", "read_report"]))
    client.force_login(user)
    client.cookies["zone"] = "Europe/Berlin"
    return client


def raw(answer: Any) -> bytes:
    content: bytes = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return content


def text(answer: Any) -> str:
    return raw(answer).decode()


def archived(interface: S3Interface, content: bytes, **changes: Any) -> Report:
    """Return a report that is in the bucket and has no local copy."""
    if not ArchivePolicy.objects.exists():
        make_policy(interface)
    report = make_report(content, **changes)
    assert engine.deliver_due(interface.pk).complete
    report.local_path.unlink()
    Report.objects.filter(pk=report.pk).update(file="")
    return Report.objects.get(pk=report.pk)


class TestFind:
    """Finding a report by dashboard, date and time."""

    @pytest.mark.parametrize(
        ("query", "path"),
        [
            ({"dashboard": "sales"}, "/timeline/sales/"),
            ({"dashboard": "Umsätze"}, "/timeline/sales/"),
            ({"dashboard": "SALE"}, "/timeline/sales/"),
            ({"dashboard": "sales", "date": "2026-03-01", "time": "14:00"}, "/timeline/sales/20260301T130059Z/"),
            ({"dashboard": "sales", "date": "2026-03-01", "time": "14:00:07"}, "/timeline/sales/20260301T130007Z/"),
            ({"dashboard": "sales", "date": "2026-03-01"}, "/timeline/sales/20260301T225959Z/"),
        ],
    )
    def test_it_redirects_to_the_report(self, viewer: Client, query: dict[str, str], path: str) -> None:
        Dashboard.objects.create(slug="sales", title="Umsätze")
        answer = viewer.get("/timeline/", query)
        assert (answer.status_code, answer["Location"]) == (302, path)

    def test_unknown_dashboards_are_named(self, viewer: Client) -> None:
        make_report()
        make_report(dashboard="salt")
        assert "Several dashboards match &#x27;sal&#x27;. Select one." in text(
            viewer.get("/timeline/", {"dashboard": "sal"})
        )
        page = text(viewer.get("/timeline/", {"dashboard": "sales", "date": "soon"}))
        assert "is not a date or time" in page
        assert "A time needs a date." in text(viewer.get("/timeline/", {"dashboard": "sales", "time": "14:00"}))
        assert viewer.get("/timeline/", {"dashboard": "a\0b"}).status_code == 200

    def test_several_matches_keep_the_date(self, viewer: Client) -> None:
        for dashboard in ("sales-north", "sales-south"):
            make_report(dashboard=dashboard)
        page = viewer.get("/timeline/", {"dashboard": "sales", "date": "2026-03-05"}).content.decode()
        assert "No dashboard matches" not in page
        assert "Several dashboards match" in page
        assert "/timeline/sales-north/20260305T" in page
        assert 'value="2026-03-05"' in page

    def test_the_first_page_has_the_dashboards_with_the_latest_reports_first(self, viewer: Client) -> None:
        make_report(dashboard="old", rendered_at=NOON - timedelta(days=2))
        make_report(dashboard="new")
        Dashboard.objects.create(slug="empty")
        page = text(viewer.get("/timeline/"))
        assert page.index("/timeline/new/") < page.index("/timeline/old/")
        assert "/timeline/empty/" not in page
        assert "1 Mar 2026, 13:00 CET" in page

    def test_suggestions_contain_the_entered_text(self, viewer: Client) -> None:
        for slug in ("sales", "wholesale", "stock"):
            Dashboard.objects.create(slug=slug)
        found = viewer.get("/timeline/dashboards.json", {"q": "SALE"}).json()["dashboards"]
        assert [each["slug"] for each in found] == ["sales", "wholesale"]


class TestThen:
    """The page of an instant."""

    def test_it_shows_since_when_and_until_when_in_the_viewer_s_zone(self, viewer: Client) -> None:
        make_report(png(), filename="a.png")
        make_report(png((0, 0, 9, 9)), filename="b.png", rendered_at=NOON + timedelta(days=1))
        page = text(viewer.get("/timeline/sales/20260301T130000Z/"))
        assert "Sunday, 1 March 2026, 13:00:00 CET" in page
        assert "This was the latest at 1 Mar 2026, 14:00 CET" in page
        assert "current until 2 Mar 2026, 13:00 CET" in page
        assert "Times are in Europe/Berlin" in page
        for zone in ("America/New_York", "Etc/GMT+12"):
            viewer.cookies["zone"] = zone
            assert f"Times are in {zone}" in text(viewer.get("/timeline/sales/20260301T130000Z/"))
        for zone in ("../../etc/passwd", "Mars/Base", "", "Europe"):
            viewer.cookies["zone"] = zone
            assert "Times are in UTC" in text(viewer.get("/timeline/sales/20260301T130000Z/"))

    def test_before_the_first_report_it_links_to_the_first(self, viewer: Client) -> None:
        make_report()
        page = text(viewer.get("/timeline/sales/20200101T000000Z/"))
        assert "no report at or before" in page
        assert '<a href="/timeline/sales/20260301T120000Z/">The first report</a>' in page

    @pytest.mark.parametrize(
        "stamp",
        ["00010101T000000Z", "99991231T235959Z", "20261301T000000Z", "20260301T250000Z", "20260301T000000", "today"],
    )
    def test_an_invalid_instant_is_not_found(self, viewer: Client, stamp: str) -> None:
        make_report()
        assert viewer.get(f"/timeline/sales/{stamp}/").status_code == 404

    def test_a_damaged_image_is_reported_and_offered_for_download(self, viewer: Client) -> None:
        whole = make_report(png(), filename="a.png", dashboard="whole")
        cut = make_report(png()[:200], filename="cut.png", dashboard="cut")
        page = text(viewer.get("/timeline/cut/"))
        assert "The file is damaged and cannot be rendered" in page
        assert f'<a href="/reports/{cut.pk}/file/" download="cut.png">Download the original file</a>' in page
        assert "The image cannot be rendered" in text(viewer.get("/timeline/cut/")), "also once it is known"
        assert "The image cannot be rendered" not in text(viewer.get(f"/timeline/{whole.dashboard.slug}/"))

    def test_each_format_is_displayed_appropriately(self, viewer: Client) -> None:
        make_report(png(), filename="a.png", dashboard="picture")
        make_report(two_pages(), filename="a.pdf", dashboard="paper")
        make_report("a;ü\n1;<b>2</b>\n".encode("cp1252"), filename="a.csv", dashboard="table")
        svg = make_report(b"<svg xmlns='x'><script>alert(1)</script></svg>", filename="a.svg", dashboard="drawing")
        make_report(b"%PDF-1.7 broken", filename="a.pdf", dashboard="broken")
        assert 'class="picture" src="/reports/' in text(viewer.get("/timeline/picture/"))
        assert text(viewer.get("/timeline/paper/")).count('class="picture"') == 2
        page = text(viewer.get("/timeline/table/"))
        assert '<th scope="col">ü</th>' in page
        assert "&lt;b&gt;2&lt;/b&gt;" in page
        page = text(viewer.get("/timeline/drawing/"))
        assert "can only be downloaded" in page
        assert f'src="/reports/{svg.pk}/file/"' not in page
        assert "cannot be rendered" in text(viewer.get("/timeline/broken/")) or "It cannot be displayed" in text(
            viewer.get("/timeline/broken/")
        )

    def test_each_format_has_its_own_neighbours(self, viewer: Client) -> None:
        for day in range(3):
            make_report(b"a,b\n%d,2\n" % day, filename="a.csv", rendered_at=NOON + timedelta(days=day))
            make_report(rendered_at=NOON + timedelta(days=day, hours=1))
        page = text(viewer.get("/timeline/sales/20260302T150000Z/?type=text/csv"))
        assert 'rel="prev" href="/timeline/sales/20260301T120000Z/?type=text%2Fcsv"' in page
        assert 'rel="next" href="/timeline/sales/20260303T120000Z/?type=text%2Fcsv"' in page
        assert 'aria-current="true">CSV</a>' in page
        page = text(viewer.get("/timeline/sales/20260302T150000Z/"))  # the PDF came last; its walk is of PDFs
        assert 'rel="next" href="/timeline/sales/20260303T130000Z/?type=application%2Fpdf"' in page

    def test_the_latest_of_one_format_is_not_called_the_latest_of_all(self, viewer: Client) -> None:
        make_report(png(), filename="a.png")
        make_report(filename="b.pdf", rendered_at=NOON + timedelta(hours=1))
        page = viewer.get("/timeline/sales/", {"type": "image/png"}).content.decode()
        assert "It is the latest PNG." in page

    def test_each_report_of_an_instant_has_its_own_page(self, viewer: Client, admin_client: Client) -> None:
        first, second = make_report(png(), filename="1.png"), make_report(png((0, 0, 9, 9)), filename="2.png")
        page = text(viewer.get("/timeline/sales/"))
        assert f'src="/reports/{second.pk}/file/"' in page
        assert "2 reports were rendered at this instant" in page
        links = [f"/timeline/sales/20260301T120000Z/?report={each.pk}" for each in (first, second)]
        assert page.count(f'href="{links[0]}"') == 2, "in the list and in the strip"
        page = text(viewer.get(links[0]))
        assert f'src="/reports/{first.pk}/file/"' in page
        assert f'<a href="{links[0]}" class="permanent"' in page
        elsewhere = text(viewer.get(f"/timeline/sales/20260401T120000Z/?report={first.pk}"))
        assert "This was the latest at" not in elsewhere
        assert links[0] in text(admin_client.get(reverse("admin:reports_report_change", args=[first.pk])))
        Dashboard.objects.create(slug="other")
        for path in (
            f"/timeline/other/?report={first.pk}",
            "/timeline/sales/?report=1",
            f"/timeline/sales/?report={UUID(int=1)}",
        ):
            assert viewer.get(path).status_code == 404

    def test_a_report_alone_at_its_instant_has_a_plain_address(self, viewer: Client) -> None:
        make_report()
        make_report(b"a,b\n1,2\n", filename="a.csv")
        page = text(viewer.get("/timeline/sales/?type=text/csv"))
        assert "rendered at this instant" not in page
        assert 'href="/timeline/sales/20260301T120000Z/?type=text%2Fcsv" aria-current="true"' in page

    def test_the_calendar_has_the_days_and_the_gaps(self, viewer: Client) -> None:
        for day in (1, 2, 5):
            make_report(rendered_at=datetime(2026, 3, day, 23, 30, tzinfo=UTC))  # in Berlin the next day
        page = text(viewer.get("/timeline/sales/"))
        assert "2 March 2026: 1 report" in page
        assert "6 March 2026: 1 report" in page
        assert page.count("day gap") == 2 + 1, "two days, and the legend"
        assert "2026" in text(viewer.get("/timeline/sales/?year=2025"))
        for year in ("99999", "0", "-1", "9" * 5000, "x", "²"):
            assert viewer.get("/timeline/sales/", {"year": year}).status_code == 200

    def test_a_small_size_is_shown_once(self, viewer: Client) -> None:
        make_report(b"a,b\n1,2\n", filename="a.csv")
        page = viewer.get("/timeline/sales/").content.decode()
        assert "text/csv, 8 bytes</dd>" in page

    def test_the_receipt_is_in_words(self, viewer: Client, interface: S3Interface) -> None:
        make_policy(interface)
        report = make_report(png(), filename="a.png")
        assert "waiting or in progress" in text(viewer.get("/timeline/sales/"))
        assert engine.deliver_due(interface.pk).complete
        page = text(viewer.get("/timeline/sales/"))
        row = Delivery.objects.get()
        for word in (report.sha256, row.object_key, interface.bucket_name, "The page displays the local copy"):
            assert word in page
        assert "The store" in page
        assert "No retention was requested" in page
        assert interface.secret_access_key.reveal() not in page

    def test_without_a_policy_the_page_explains_it(self, viewer: Client) -> None:
        make_report()
        assert "No archive policy covers" in text(viewer.get("/timeline/sales/"))

    def test_users_without_admin_access_get_no_links_to_the_admin(self, viewer: Client) -> None:
        make_report()
        page = text(viewer.get("/timeline/sales/"))
        assert 'href="/admin/' not in page
        assert viewer.get("/")["Location"] == "/timeline/"


class TestBytes:
    """The local copy while there is one, else the store."""

    def test_from_the_store_they_are_the_same(self, viewer: Client, interface: S3Interface) -> None:
        content = png((5, 5, 50, 50))
        report = archived(interface, content, filename="a.png")
        page = text(viewer.get("/timeline/sales/"))
        assert "The local copy was removed" in page
        answer = viewer.get(f"/reports/{report.pk}/file/")
        assert raw(answer) == content
        assert answer["ETag"] == f'"{report.sha256}"'
        assert "immutable" in answer["Cache-Control"]
        again = viewer.get(f"/reports/{report.pk}/file/", headers={"If-None-Match": answer["ETag"]})
        assert (again.status_code, again.content) == (304, b"")

    @pytest.mark.parametrize("here", [True, False])
    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-5", -5, None), ("bytes=3-999999", 3, None)],
    )
    def test_a_range_of_bytes(
        self,
        viewer: Client,
        interface: S3Interface,
        asked: str,
        start: int,
        end: int | None,
        here: bool,  # noqa: FBT001
    ) -> None:
        content = two_pages()
        report = make_report(content) if here else archived(interface, content)
        answer = viewer.get(f"/reports/{report.pk}/file/", headers={"Range": asked})
        wanted = content[start:end]
        assert answer.status_code == 206
        assert raw(answer) == wanted
        assert answer["Content-Length"] == str(len(wanted))
        first = content.index(wanted) if start else 0
        assert answer["Content-Range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(content)}"

    def test_ignored_ranges(self, viewer: Client) -> None:
        report = make_report(b"%PDF-1.7 0123456789")
        path = f"/reports/{report.pk}/file/"
        assert viewer.get(path, headers={"Range": "bytes=99-"}).status_code == 416
        for headers in (
            {"Range": "bytes=0-1,4-5"},
            {"Range": "lines=1-2"},
            {"Range": "bytes=-"},
            {"Range": "bytes=0-1", "If-Range": '"other"'},
        ):
            answer = viewer.get(path, headers=headers)
            assert (answer.status_code, len(raw(answer))) == (200, report.size)

    def test_a_range_of_another_content_is_not_sent(
        self, viewer: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        report = archived(interface, two_pages())
        bucket.client.put_object(Bucket=bucket.name, Key=Delivery.objects.get().object_key, Body=b"something else")
        answer = viewer.get(f"/reports/{report.pk}/file/", headers={"Range": "bytes=0-4"})
        assert answer.status_code == 404
        assert "Stored object changed" in text(answer)

    def test_an_unavailable_file_is_explained(self, viewer: Client, interface: S3Interface) -> None:
        report = archived(interface, png(), filename="a.png")
        S3Interface.objects.update(bucket_name="there-is-none")
        page = text(viewer.get("/timeline/sales/"))
        assert "The file is unavailable" in page
        assert "Reading needs s3:GetObject" in page
        for name in ("file", "preview", "pages/1"):
            assert viewer.get(f"/reports/{report.pk}/{name}/").status_code == 404
        Delivery.objects.all()._raw_delete("default")
        assert "neither here nor archived" in text(viewer.get("/timeline/sales/"))

    def test_presigned_urls_if_enabled(
        self, viewer: Client, interface: S3Interface, settings: Any, bucket: Bucket
    ) -> None:
        settings.PRESIGN_DOWNLOADS = True
        content = b"<svg xmlns='x'/>"
        report = archived(interface, content, filename="ü.svg")
        answer = viewer.get(f"/reports/{report.pk}/file/")
        assert (answer.status_code, answer["Cache-Control"]) == (302, "no-store")
        assert urlsplit(answer["Location"]).netloc == urlsplit(interface.endpoint_url).netloc
        assert interface.secret_access_key.reveal() not in answer["Location"]
        if not bucket.server.ca_bundle:
            given = requests.get(answer["Location"], timeout=10)
            assert given.content == content
            if bucket.server.kind != "rclone":
                assert given.headers["Content-Disposition"].startswith("attachment")
        here = make_report(png(), filename="a.png")
        assert raw(viewer.get(f"/reports/{here.pk}/file/")) == png()

    def test_previews_are_created_when_requested(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        cache.clear()
        asked: list[str] = []
        monkeypatch.setattr("anaphora.timeline.tasks.make_preview.delay", asked.append)
        report = make_report(png(), filename="a.png")
        path = f"/reports/{report.pk}/preview/"
        for _ in range(3):
            answer = viewer.get(path)
            assert (answer.status_code, answer["Cache-Control"]) == (404, "no-store")
        assert asked == [str(report.pk)]
        previews.make_preview(report)
        answer = viewer.get(path)
        assert (answer.status_code, answer["Content-Type"]) == (200, "image/webp")
        assert raw(answer)
        other = make_report(b"a,b\n1,2\n", filename="a.csv")
        assert viewer.get(f"/reports/{other.pk}/preview/").status_code == 404
        assert len(asked) == 1
        Report.objects.filter(pk=report.pk).update(preview=Preview.NONE)

    def test_pages_can_be_kept(self, viewer: Client) -> None:
        report = make_report(two_pages())
        answer = viewer.get(f"/reports/{report.pk}/pages/2/")
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.format == "WEBP"
        again = viewer.get(f"/reports/{report.pk}/pages/2/", headers={"If-None-Match": answer["ETag"]})
        assert again.status_code == 304
        assert viewer.get(f"/reports/{report.pk}/pages/3/").status_code == 404


class TestCompare:
    """The comparison of two instants."""

    def get(self, viewer: Client, **query: str) -> str:
        return text(viewer.get("/timeline/sales/compare/", query, follow=True))

    def test_entered_instants_redirect_to_a_url_for_all_time_zones(self, viewer: Client) -> None:
        make_report()
        answer = viewer.get("/timeline/sales/compare/", {"from": "2026-03-01", "to": "2026-03-02T14:00", "type": "a/b"})
        assert answer["Location"] == ("/timeline/sales/compare/?from=20260301T225959Z&to=20260302T130000Z&type=a%2Fb")

    def test_the_form_of_a_report_compares_with_the_previous_one(self, viewer: Client) -> None:
        make_report(png(), filename="a.png", rendered_at=NOON + timedelta(seconds=8))
        make_report(png((0, 0, 9, 9)), filename="b.png", rendered_at=NOON + timedelta(minutes=1, seconds=9))
        assert 'name="from" step="1" required value="2026-03-01T13:00:08"' in text(viewer.get("/timeline/sales/"))

    def test_changes_are_marked(self, viewer: Client) -> None:
        make_report(png(), filename="a.png")
        make_report(png((400, 300, 479, 379)), filename="b.png", rendered_at=NOON + timedelta(days=1))
        page = self.get(viewer, **{"from": "20260301T120000Z", "to": "2026-03-02T14:00"})
        assert "1 area changed" in page
        assert page.count("--x:") == 2, "on both sides"
        assert "No visible changes" in self.get(viewer, **{"from": "2026-03-02", "to": ""})
        assert "the same report" in self.get(viewer, **{"from": "2026-03-02", "to": "2026-03-03"})

    def test_tables_cell_by_cell(self, viewer: Client) -> None:
        make_report(b"region,revenue\nnorth,1\nsouth,2\n", filename="a.csv")
        make_report(b"region,revenue\nnorth,1\nsouth,3\n", filename="a.csv", rendered_at=NOON + timedelta(days=1))
        page = self.get(viewer, **{"from": "2026-03-01", "to": "2026-03-02"})
        assert "<mark>2</mark>" in page
        assert "<mark>3</mark>" in page
        assert page.count("<mark>") == 2

    def test_an_inserted_row_is_the_only_change(self, viewer: Client) -> None:
        make_report(b"region,revenue\nnorth,1\nsouth,2\n", filename="a.csv")
        content = b"region,revenue\ncentral,9\nnorth,1\nsouth,2\n"
        make_report(content, filename="a.csv", rendered_at=NOON + timedelta(days=1))
        page = self.get(viewer, **{"from": "2026-03-01", "to": "2026-03-02"})
        assert page.count("<mark>") == 2
        assert "<mark>central</mark>" in page
        assert "<mark>9</mark>" in page

    def test_reports_that_cannot_be_compared_are_explained(self, viewer: Client, interface: S3Interface) -> None:
        make_report(b"a,b\n1,2\n", filename="a.csv")
        make_report(png(), filename="b.png", rendered_at=NOON + timedelta(days=1))
        assert "Only PDF, PNG and JPEG files" in self.get(viewer, **{"from": "2026-03-01", "to": "2026-03-02"})
        assert "no report at or before" in self.get(viewer, **{"from": "2020-01-01", "to": "2026-03-02"})
        page = self.get(viewer, **{"from": "soon", "to": "2026-03-02T14:00"})
        assert "is not a date or time" in page
        assert 'value="2026-03-02T14:00"' in page
        archived(interface, b"a,b\n1,3\n", filename="a.csv", rendered_at=NOON + timedelta(hours=1))
        S3Interface.objects.update(bucket_name="there-is-none")
        page = self.get(viewer, **{"from": "2026-03-01T13:00", "to": "2026-03-01T15:00"})
        assert "Reading needs s3:GetObject" in page

    def test_the_pages_of_a_pdf_one_by_one(self, viewer: Client) -> None:
        make_report(two_pages())
        make_report(two_pages() + b"\n", rendered_at=NOON + timedelta(days=1))
        page = self.get(viewer, **{"from": "2026-03-01", "to": "2026-03-02"})
        assert "Page 1 of 2" in page
        assert "page=2" in page
        assert "Page 2 of 2" in self.get(viewer, **{"from": "20260301T225959Z", "to": "20260302T225959Z", "page": "2"})
        assert "has 2 pages" in self.get(viewer, **{"from": "20260301T225959Z", "to": "20260302T225959Z", "page": "7"})


class TestTable:
    """CSV files as tables."""

    @pytest.mark.parametrize(
        ("content", "head", "rows", "complete"),
        [
            (b"a,b\n1,2\n", ["a", "b"], 1, True),
            ("\ufeffa;b\n1;2\n".encode(), ["a", "b"], 1, True),
            (b"a,b\n" + b"1,2\n" * 600, ["a", "b"], 500, False),
            (b"a,b\n" + b'"' + b"x" * 200_000 + b'",2\n', ["a", "b"], 0, False),
            (",".join(f"c{n}" for n in range(99)).encode() + b"\n" + b"1," * 98 + b"1\n", None, 1, False),
            (b"a,b\n1\n1,2,3\n", ["a", "b", ""], 2, True),
            (b"a,b\n" + "ü,ü\n".encode() * 500_000, ["a", "b"], 500, False),
        ],
    )
    def test_it_is_read(self, content: bytes, head: list[str] | None, rows: int, complete: bool) -> None:  # noqa: FBT001
        found = tables.read_csv(make_report(content, filename="a.csv"))
        assert (len(found.rows), found.complete) == (rows, complete)
        assert head is None or found.head == head

    @pytest.mark.parametrize(
        ("content", "last"),
        [
            (b"a;b\n1,5;2,25\n", ["1,5", "2,25"]),
            (b"Report of 1 March, 2026\na\tb\tc\n1\t2\t3\n4\t5\t6\n", ["4", "5", "6"]),
            (b'a,b\n"x;y","z"\n1,2\n', ["1", "2"]),
            (b'"a","b"\n' + b'"1","2"\n' * 400 + b'"said ""so""","3"\n', ['said "so"', "3"]),
            (b"one\ntwo\n", ["two"]),
        ],
    )
    def test_the_delimiter_is_detected(self, content: bytes, last: list[str]) -> None:
        assert tables.read_csv(make_report(content, filename="a.csv")).rows[-1] == last

    def test_detection_is_fast_for_difficult_content(self) -> None:
        assert tables.read_csv(make_report(b"a,b\n" + b'\n"' * 5000, filename="a.csv")).head[:2] == ["a", "b"]


# Permissions.

SECRET_WORDS = ("confidential-file", "confidential-title", "confidential-slug")


@pytest.fixture
def everything(interface: S3Interface) -> dict[str, Any]:
    found = one_of_each(interface, png())
    call_command("write_manifests", "--until", str(timezone.now().date()), stdout=io.StringIO())
    return found


def test_without_the_permission_no_url_shows_anything(
    client: Client, everything: dict[str, Any], django_user_model: type[User]
) -> None:
    known = addresses(everything)
    for part in ("/file/", "/preview/", "/pages/1/", "/content/", "/compare/", "T000000Z/", "as-of", "/api/v1/reports"):
        assert any(part in path for path in known), part
    staff_of_others = django_user_model.objects.create_user("staff", is_staff=True)
    staff_of_others.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    for user in (None, django_user_model.objects.create_user("nobody"), staff_of_others):
        client.logout()
        if user:
            client.force_login(user)
        for path in known:
            answer = client.get(path)
            assert answer.status_code < 500, path
            shown = text(answer)
            assert not any(word in shown for word in SECRET_WORDS), (user, path)
            assert b"WEBP" not in shown.encode("utf-8", "replace"), (user, path)
            if "/reports/" in path or "/timeline" in path or "/api/v1/dashboards" in path:
                assert answer.status_code in {301, 302, 401, 403, 404, 405}, (user, path)
            if answer.status_code == 302:
                assert not any(word in answer["Location"].partition("?")[0] for word in SECRET_WORDS), path


def test_with_the_permission_only_reports_are_visible(viewer: Client, everything: dict[str, Any]) -> None:
    seen = {}
    for path in addresses(everything):
        answer = viewer.get(path)
        assert answer.status_code < 500, path
        seen[path] = answer.status_code
        shown = raw(answer)
        assert everything["interface"].secret_access_key.reveal().encode() not in shown
        assert everything["interface"].access_key_id.encode() not in shown
        if path.startswith(("/admin/", "/api/")):
            assert answer.status_code in {301, 302, 401, 404, 405} or path in {"/admin/jsi18n/", *OPEN}, path
    for path, status in seen.items():
        if path.startswith(("/timeline", "/reports/")):
            assert status == (302 if path.endswith("/compare/") else 200), path


def test_administrators_see_everything_but_secrets(admin_client: Client, everything: dict[str, Any]) -> None:
    for path in addresses(everything):
        if path.endswith("/logout/"):
            continue
        answer = admin_client.get(path)
        shown = raw(answer)
        assert answer.status_code < 500, path
        assert everything["interface"].secret_access_key.reveal().encode() not in shown, path
        if path.startswith(("/timeline", "/reports/", "/admin/reports/report/", "/admin/deliveries/delivery/")):
            # Reports cannot be added or deleted by hand, and suggestions from file names need a POST.
            evidence = path.endswith(("/add/", "/delete/", "/guess/"))
            assert answer.status_code in ({403} if evidence else {200, 302, 405}), path


OPEN = {"/api/v1/", "/api/v1/docs", "/api/v1/openapi.json", "/admin/login/", "/admin/logout/"}
"""URLs that show no data of the installation."""


def test_ids_cannot_be_guessed_and_tokens_open_what_their_scope_says(
    client: Client, everything: dict[str, Any]
) -> None:
    _, reader = tokens.create("reader", [Scope.READ])
    _, ingester = tokens.create("ingester", [Scope.INGEST])
    assert isinstance(everything["report"].pk, UUID)
    for path in addresses(everything):
        if not path.startswith("/api/v1/") or path in OPEN:
            continue
        for token, allowed in ((reader, True), (ingester, False)):
            answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
            shown = raw(answer)
            assert (answer.status_code == 200) is allowed, (path, answer.status_code)
            assert allowed or not any(word.encode() in shown for word in SECRET_WORDS)
    assert ApiToken.objects.filter(last_used_at__isnull=False).exists()


def test_a_user_without_admin_access_can_log_in_and_out(client: Client, viewer: Client) -> None:
    viewer.logout()
    assert viewer.get("/")["Location"] == "/login/?next=/"
    answer = viewer.get("/timeline/sales/")
    assert answer["Location"] == "/login/?next=/timeline/sales/"
    make_report()
    assert "Anaphora archive" in text(viewer.get(answer["Location"]))
    values = {"username": "auditor", "password": "password of the test", "next": "/timeline/sales/"}
    assert viewer.post(reverse("login"), values)["Location"] == "/timeline/sales/"
    page = text(viewer.get("/timeline/sales/"))
    assert 'action="/logout/"' in page
    assert viewer.post(reverse("logout"))["Location"] == "/timeline/"
    assert viewer.get("/timeline/sales/").status_code == 302
    viewer.force_login(User.objects.create_superuser("admin"))
    assert viewer.get("/")["Location"] == "/admin/"


def test_pages_run_the_same_number_of_queries_for_many_reports(
    viewer: Client, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for number in range(40):
        make_report(b"a,b\n%d,2\n" % number, filename="a.csv", rendered_at=NOON + timedelta(hours=number))
    with django_assert_max_num_queries(25):
        viewer.get("/timeline/sales/")


class TestWithoutContents:
    """`view_report` shows which reports there are; what they contain needs `read_report`."""

    @pytest.fixture
    def lister(self, client: Client) -> Client:
        user = User.objects.create_user("lister", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_report"))
        client.force_login(user)
        return client

    def test_the_timeline_explains_the_missing_permission(self, lister: Client) -> None:
        earlier = make_report(b"region,revenue\nnorth,secret-figure\n", filename="a.csv", rendered_at=NOON)
        report = make_report(png(), filename="a.png", rendered_at=NOON + timedelta(days=1))
        for path in ("/timeline/", "/timeline/sales/", f"/timeline/sales/{earlier.rendered_at:%Y%m%dT%H%M%SZ}/"):
            page = text(lister.get(path))
            assert "secret-figure" not in page
            assert "<img" not in page
            assert "/file/" not in page
        assert "You may not read this report" in page
        assert earlier.sha256 in page
        compared = text(lister.get("/timeline/sales/compare/?from=20260301T120000Z&to=20260302T120000Z"))
        assert "You may not read these reports" in compared
        assert "secret-figure" not in compared
        assert "/file/" not in compared
        details = text(lister.get(f"/admin/reports/report/{report.pk}/change/"))
        assert report.sha256 in details
        assert "/content/" not in details

    @pytest.mark.parametrize(
        "path",
        ["/reports/{}/file/", "/reports/{}/evidence/", "/reports/{}/preview/", "/reports/{}/pages/1/",
         "/admin/reports/report/{}/content/"],
    )  # fmt: skip
    def test_no_url_returns_contents(self, lister: Client, path: str) -> None:
        report = make_report(png(), filename="a.png")
        previews.make_preview(report)
        assert lister.get(path.format(report.pk)).status_code == 403
        User.objects.get().user_permissions.set(Permission.objects.filter(codename="read_report"))
        assert lister.get(path.format(report.pk)).status_code == 403, "reading needs viewing"
