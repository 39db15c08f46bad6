"""Previews, pages and comparisons: rendering, and the limits for malicious files."""

import io
import json
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from PIL import Image, ImageDraw

from anaphora.deliveries import engine, files
from anaphora.reports.models import Preview, Report
from anaphora.timeline import previews, render_worker, tasks
from delivery_s3.models import S3Interface
from tests.support import hostile
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT

pytestmark = pytest.mark.django_db


def png(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (800, 600), mode: str = "RGB") -> bytes:
    image = Image.new(mode, size, "white" if mode == "RGB" else (0, 0, 0, 0))
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill="red")
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def two_pages() -> bytes:
    pages = [Image.new("RGB", (600, 400), colour) for colour in ("white", "blue")]
    target = io.BytesIO()
    pages[0].save(target, "PDF", save_all=True, append_images=pages[1:])
    return target.getvalue()


def fresh(report: Report) -> Report:
    return Report.objects.select_related("dashboard").get(pk=report.pk)


def test_missing_previews_are_created_in_a_separate_folder() -> None:
    drawn = [make_report(png(), filename="a.png"), make_report(two_pages(), filename="b.pdf")]
    other = make_report(b"a,b\n1,2\n", filename="c.csv")
    tasks.make_previews()
    for report, pages in zip(drawn, (1, 2), strict=True):
        assert (fresh(report).preview, fresh(report).pages) == (Preview.MADE, pages)
        with Image.open(report.preview_path) as image:
            assert (image.format, image.size) == ("WEBP", (480, 360))
    assert not other.preview_path.exists()
    assert not list(previews.reports_without_preview())
    assert not list(drawn[0].preview_path.parent.glob("*.part"))


def test_a_transparent_image_gets_a_white_background() -> None:
    report = make_report(png(mode="RGBA"), filename="a.png")
    page = previews.render_page(report, 1)
    with Image.open(io.BytesIO(page.image)) as image:
        assert image.convert("RGB").getpixel((10, 10)) == (255, 255, 255)


def test_pages_are_numbered_from_one() -> None:
    report = make_report(two_pages(), filename="b.pdf")
    page = previews.render_page(report, 2)
    assert page.pages == 2
    with Image.open(io.BytesIO(page.image)) as image:
        colour: Any = image.convert("RGB").getpixel((10, 10))
        assert colour[2] > 200 > 60 > colour[0]
    for number in (0, 3):
        with pytest.raises(previews.RenderError, match="has 2 pages"):
            previews.render_page(report, number)


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (hostile.png_bomb(), "bomb.png", "The image is too large"),
        (hostile.encrypted_pdf(), "secret.pdf", "encrypted"),
        pytest.param(hostile.growing_pdf(), "growing.pdf", "within the limits|longer than", marks=pytest.mark.heavy),
        pytest.param(hostile.slow_pdf(), "slow.pdf", "within the limits|longer than", marks=pytest.mark.heavy),
        (b"%PDF-1.7 nothing", "cut.pdf", "cannot be read"),
        (png()[:200], "cut.png", "cannot be rendered"),
        (hostile.pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>"]), "empty.pdf", "PDF"),
    ],
)
def test_a_hostile_file_affects_only_its_preview(content: bytes, name: str, reason: str) -> None:
    harmless = make_report(png(), filename="a.png")
    harm = make_report(content, filename=name)
    before = time.monotonic()
    with pytest.raises(previews.RenderError, match=reason):
        previews.render_page(harm, 1)
    assert time.monotonic() - before < 2 * previews.TIMEOUT_SECONDS
    assert previews.make_previews(60) is False
    assert fresh(harmless).preview == Preview.MADE
    assert fresh(harm).preview == Preview.NONE
    assert not list(previews.reports_without_preview()), "it is not tried again"


def test_rendering_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(previews.RenderError, match="longer than"):
        previews.render_page(make_report(png(), filename="a.png"), 1)


def test_the_render_worker_gets_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    run = subprocess.run

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return run(*args, **kwargs)

    monkeypatch.setattr(subprocess, "run", watched)
    previews.render_page(make_report(png(), filename="a.png"), 1)
    assert [kwargs["env"] for kwargs in seen] == [{}]
    source = Path(previews.__file__).with_name("render_worker.py").read_text()
    assert "anaphora." not in source
    assert "django" not in source


def test_large_files_and_other_types_are_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(previews.RenderError, match="Only PDF, PNG and JPEG"):
        previews.render_page(make_report(b"a,b\n1,2\n", filename="c.csv"), 1)
    monkeypatch.setattr(previews, "MAX_FILE_SIZE", 10)
    with pytest.raises(previews.RenderError, match="larger than"):
        previews.render_page(make_report(png(), filename="a.png"), 1)


def test_a_report_without_a_local_copy_is_rendered_from_its_store(interface: S3Interface) -> None:
    make_policy(interface)
    report = make_report(png(), filename="a.png")
    assert engine.deliver_due(interface.pk).complete
    report.local_path.unlink()
    Report.objects.filter(pk=report.pk).update(file="")
    before = set(settings.FILE_UPLOAD_TEMP_DIR.iterdir())  # an upload of another test may not have been closed yet
    tasks.make_previews()
    assert fresh(report).preview == Preview.WAITING, "previews are not a reason to download the whole archive"
    S3Interface.objects.update(bucket_name="there-is-none")
    tasks.make_preview(str(report.pk))
    assert fresh(report).preview == Preview.WAITING, "it may be available later"
    S3Interface.objects.update(bucket_name=interface.bucket_name)
    tasks.make_preview(str(report.pk))
    assert fresh(report).preview == Preview.MADE
    assert set(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) <= before, "its download was removed"


class TestCompare:
    """Areas are in percent of the width."""

    def compare(self, one: bytes, other: bytes) -> previews.Comparison:
        reports = [
            make_report(content, filename="x.pdf" if content.startswith(b"%PDF") else "x.png")
            for content in (one, other)
        ]
        return previews.compare_pages(reports[0], reports[1], 1)

    def test_nothing_changed(self) -> None:
        found = self.compare(png((0, 0, 9, 9)), png((0, 0, 9, 9)) + b"trailing")
        assert (found.areas, found.share, found.same_size, found.pages) == ([], 0, True, 1)

    def test_changes_are_marked_at_their_position(self) -> None:
        found = self.compare(png(), png((400, 300, 479, 379), (40, 40, 47, 47)))
        small, large = found.areas
        assert small == pytest.approx((5, 5, 1, 1), abs=1.1)
        assert large == pytest.approx((50, 37.5, 10, 10), abs=1.1)
        assert 0.01 < found.share < 0.03

    def test_the_part_that_only_one_image_has_is_changed(self) -> None:
        found = self.compare(png(), png(size=(800, 700)))
        assert not found.same_size
        ((left, top, width, height),) = found.areas
        assert (left, width) == (0, 100)
        assert top == pytest.approx(75, abs=1.5)
        assert height == pytest.approx(12.5, abs=1.5)

    def test_images_are_scaled_to_the_same_width(self) -> None:
        found = self.compare(png((400, 300, 479, 379)), png((200, 150, 239, 189), size=(400, 300)))
        assert not found.same_size
        assert found.share < 0.01

    def test_a_pdf_and_its_other_edition(self) -> None:
        other = Image.new("RGB", (600, 400), "white")
        ImageDraw.Draw(other).rectangle((300, 200, 359, 259), fill="black")
        target = io.BytesIO()
        other.save(target, "PDF")
        found = self.compare(two_pages(), target.getvalue())
        assert found.pages == 2
        assert len(found.areas) == 1
        assert found.areas[0] == pytest.approx((50, 33.3, 10, 10), abs=1.7)


@pytest.mark.django_db(transaction=True)
def test_a_crash_of_the_render_worker_does_not_affect_the_worker(
    start_celery: Callable[..., Path], celery_processes: list[subprocess.Popen[bytes]]
) -> None:
    reports = [make_report(hostile.growing_pdf(), filename="a.pdf"), make_report(png(), filename="b.png")]
    log = start_celery()
    for report in reports:
        tasks.make_preview.delay(str(report.pk))
    end = time.monotonic() + 60
    while time.monotonic() < end and Report.objects.filter(preview=Preview.WAITING).exists():
        time.sleep(0.2)
    assert [fresh(report).preview for report in reports] == [Preview.NONE, Preview.MADE], log.read_text()
    assert celery_processes[0].poll() is None
    assert "Traceback" not in log.read_text()
    assert "WorkerLost" not in log.read_text()


class TestTheProgram:
    """`render_worker` in this process, without its limits."""

    @pytest.fixture
    def draw(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Iterator[Callable[..., tuple[int, str]]]:
        monkeypatch.setattr(render_worker, "_set_limits", lambda: None)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)

        def run(what: str, *contents: bytes, arguments: tuple[str, ...] = ()) -> tuple[int, str]:
            files = []
            for number, content in enumerate(contents):
                path = tmp_path / str(number)
                path.write_bytes(content)
                files += [str(path), "application/pdf" if content.startswith(b"%PDF") else "image/png"]
            status = render_worker.main([what, *files, *arguments])
            said = capsys.readouterr()
            return status, said.out + said.err

        with warnings.catch_warnings():
            yield run

    def test_it_renders(self, draw: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        target = str(tmp_path / "out.webp")
        for content in (png(), png(mode="RGBA"), two_pages(), png(size=(3000, 40))):
            status, said = draw("page", content, arguments=("1", "400", target))
            assert status == 0, said
            with Image.open(target) as image:
                assert image.width == json.loads(said)["width"] == 400
            assert draw("preview", content, arguments=(target,))[0] == 0
            with Image.open(target) as image:
                assert image.size == render_worker.PREVIEW_SIZE

    def test_it_compares(self, draw: Callable[..., tuple[int, str]]) -> None:
        pictured = png((400, 300, 479, 379))
        assert json.loads(draw("compare", png(), png(), arguments=("1",))[1])["areas"] == []
        assert len(json.loads(draw("compare", png(), pictured, arguments=("1",))[1])["areas"]) == 1
        narrow = json.loads(draw("compare", png(size=(400, 300)), png(size=(800, 700)), arguments=("1",))[1])
        assert (narrow["same_size"], len(narrow["areas"])) == (False, 1)

    def test_it_explains_why_it_cannot_render(self, draw: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        for content, page in (
            (hostile.png_bomb(), "1"),
            (hostile.encrypted_pdf(), "1"),
            (b"%PDF-1.7 nothing", "1"),
            (png()[:60], "1"),
            (png(), "2"),
            (two_pages(), "3"),
        ):
            status, said = draw("page", content, arguments=(page, "400", str(tmp_path / "out.webp")))
            assert status == 2, said
            assert said.strip()
        Image.MAX_IMAGE_PIXELS = 100
        assert draw("compare", png(size=(9000, 8000)), png(), arguments=("1",))[0] == 2

    def test_its_limits_match_the_documentation(self) -> None:
        limits = "r.getrlimit(r.RLIMIT_AS), r.getrlimit(r.RLIMIT_CPU)"
        script = f"import render_worker, resource as r; render_worker._set_limits(); print({limits})"
        folder = Path(render_worker.__file__).parent
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"({2**30}, {2**30}) (10, 10)"
        assert "1 GiB" in (ROOT / "docs" / "timeline.md").read_text()


class TestMany:
    def test_too_many_waiting_requests_are_refused_immediately(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reports = [make_report(png(), filename=f"{number}.png") for number in range(8)]
        for report in reports:
            _ = report.dashboard.slug, report.local_path
        go = threading.Event()

        def wait(*arguments: str) -> dict[str, Any]:
            try:
                go.wait(10)
                return {"pages": 1}
            finally:
                previews._slots.release()

        monkeypatch.setattr(previews, "_run_in_slot", wait)

        def look(report: Report) -> str:
            try:
                previews.render_page(report, 1)
            except previews.RenderError as error:
                return "refused" if error.temporary else "failed"
            return "drawn"

        with ThreadPoolExecutor(8) as pool:
            looks = [pool.submit(look, report) for report in reports]
            done, _ = wait_for(looks, timeout=2)
            assert [each.result() for each in done] == ["refused"] * 4
            go.set()
            assert sorted(each.result() for each in looks) == ["drawn"] * 4 + ["refused"] * 4

    def test_a_slow_store_blocks_only_a_few_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reports = [make_report(png(), filename=f"{number}.png") for number in range(8)]
        go = threading.Event()
        fetching: list[Report] = []

        @contextmanager
        def fetch(report: Report) -> Iterator[Any]:
            fetching.append(report)
            if go.wait(10):
                raise files.Unavailable("The store was slow.")
            yield

        monkeypatch.setattr(files, "opened", fetch)

        def look(report: Report) -> str:
            try:
                previews.render_page(report, 1)
            except previews.RenderError as error:
                return str(error)
            return "drawn"

        with ThreadPoolExecutor(8) as pool:
            looks = [pool.submit(look, report) for report in reports]
            done, _ = wait_for(looks, timeout=2)
            assert [each.result() for each in done] == ["Too many images are being rendered. Try again."] * 4
            assert len(fetching) == 4
            go.set()
        monkeypatch.undo()
        assert look(reports[0]) == "drawn", "the slots are free again"

    def test_a_page_that_failed_is_not_rendered_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        report = make_report(png()[:200], filename="cut.png")
        with pytest.raises(previews.RenderError) as first:
            previews.render_page(report, 1)
        monkeypatch.setattr(previews, "_render", None)
        with pytest.raises(previews.RenderError) as again:
            previews.render_page(report, 1)
        assert str(again.value) == str(first.value)


@pytest.mark.namespace
def test_the_render_worker_has_neither_network_nor_processes() -> None:
    script = """
import os, resource, socket, render_worker
before = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/user")
render_worker._set_limits()
after = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/user")
print(before[0] != after[0], before[1] != after[1], resource.getrlimit(resource.RLIMIT_NPROC))
"""
    folder = Path(render_worker.__file__).parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True (0, 0)"
