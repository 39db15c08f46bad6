import errno
import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from anaphora.reports.ingest import Batch
from anaphora.reports.models import Report

pytestmark = pytest.mark.django_db


def run(*arguments: Any, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("ingest", *(str(each) for each in arguments), **options, stdout=out, stderr=err)
    except CommandError as error:
        err.write(str(error))
    return out.getvalue(), err.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for number in range(3):
        file = tmp_path / f"report {number}.pdf"
        file.write_bytes(b"%PDF " + bytes([number]))
        os.utime(file, (1_770_000_000 + number, 1_770_000_000 + number))
        made.append(file)
    return made


def test_one_line_for_each_report(files: list[Path]) -> None:
    out, err = run(*files, "--dashboard", "sales")
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["new"] * 3
    assert [report.filename for report in Report.objects.order_by("filename")] == [file.name for file in files]


def test_without_a_date_the_modification_time_counts(files: list[Path]) -> None:
    run(files[0], "--dashboard", "sales")
    run(files[0], "--dashboard", "sales")
    assert Report.objects.get().rendered_at == datetime.fromtimestamp(1_770_000_000, UTC)


def test_json_for_machines(files: list[Path]) -> None:
    out, _ = run(files[0], "--dashboard", "sales", "--rendered-at", "2026-03-01T14:00:00+01:00", "--json")
    facts = json.loads(out)
    report = Report.objects.get()
    assert facts == {
        "id": str(report.pk),
        "created": True,
        "dashboard": "sales",
        "rendered_at": "2026-03-01T13:00:00+00:00",
        "filename": "report 0.pdf",
        "size": 6,
        "sha256": report.sha256,
    }


def test_what_can_be_taken_in_is_and_what_cannot_is_named(files: list[Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.pdf"
    empty.touch()
    out, err = run(files[0], tmp_path / "missing.pdf", empty, files[1], "--dashboard", "sales")
    assert len(out.splitlines()) == 2
    assert "missing.pdf: file: The file cannot be read: No such file" in err
    assert "empty.pdf: file: The file is empty" in err
    assert "2 of 4 not ingested" in err
    assert Report.objects.count() == 2


def test_errors_in_json_name_the_field(files: list[Path]) -> None:
    out, _ = run(files[0], "--dashboard", "no slug", "--json")
    assert json.loads(out)["field"] == "dashboard"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a,b\n1,2\n")))
    out, err = run("-", "--dashboard", "sales", "--filename", "table.csv")
    assert (out.split()[0], err) == ("new", "")
    assert Report.objects.get().content_type == "text/csv"


def test_standard_input_needs_a_name() -> None:
    assert "--filename" in run("-", "--dashboard", "sales")[1]


@pytest.mark.parametrize("date", ["yesterday", "2026-13-01T00:00:00Z"])
def test_a_date_that_is_none_is_named(files: list[Path], date: str) -> None:
    assert "is not a date and time such as" in run(files[0], "--dashboard", "sales", "--rendered-at", date)[1]


def test_a_date_without_a_time_zone_is_refused(files: list[Path]) -> None:
    assert "has no time zone" in run(files[0], "--dashboard", "sales", "--rendered-at", "2026-03-01T14:00:00")[1]


def test_files_come_in_together_and_one_that_is_refused_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "MAX_FILES", 4)
    made = []
    for number in range(10):
        file = tmp_path / f"{number}.pdf"
        file.write_bytes(b"" if number == 5 else b"%PDF " + bytes([number % 9]))  # the last one is the first again
        os.utime(file, (1_770_000_000, 1_770_000_000))
        made.append(file)
    out, err = run(*made, "--dashboard", "sales", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert [each.get("filename", "") or Path(each["file"]).name for each in facts] == [
        *(f"{number}.pdf" for number in range(9)),
        "0.pdf",
    ]
    assert [each.get("created") for each in facts] == [True] * 5 + [None] + [True] * 3 + [False]
    assert facts[-1]["id"] == facts[0]["id"]
    assert "1 of 10 not ingested" in err
    assert Report.objects.count() == 8
    local = list((settings.DATA_DIR / "reports").rglob("*.pdf"))
    assert sorted(path.stem for path in local) == sorted(each["id"] for each in facts[:-1] if "id" in each)


def test_a_disk_that_fails_leaves_nothing_of_a_batch(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("anaphora.reports.ingest.os.fsync", fsync)
    out, err = run(*files, "--dashboard", "sales")
    assert (out, err.count("disk is full"), Report.objects.count()) == ("", 3, 0)
    assert not list((settings.DATA_DIR / "reports").rglob("*.pdf"))
