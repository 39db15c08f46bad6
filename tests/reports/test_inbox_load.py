"""10,000 reports through the inbox at once: none is lost, and memory is bounded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, worker_environment

NUMBER = 10_000
_SCAN = """
import django, resource
django.setup()
from anaphora.reports import inbox
inbox.scan(seconds=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
taken = 0
while (found := inbox.scan()).ingested:
    taken += found.ingested
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.heavy
@pytest.mark.django_db(transaction=True)
def test_ten_thousand_reports_in_one_go(tmp_path: Path) -> None:
    from anaphora.reports.models import Report

    for number in range(NUMBER):
        folder = tmp_path / "inbox" / f"dashboard-{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"2026-03-01T06{number // 60 % 60:02}{number % 60:02}Z-{number}.csv").write_text(f"a,b\n1,{number}\n")
    environment = worker_environment() | {"INBOX_DIR": str(tmp_path / "inbox"), "INBOX_SETTLE_SECONDS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", _SCAN],
        cwd=ROOT,
        env=environment | {"INBOX_KEEP_DAYS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    taken, kilobytes = map(int, result.stdout.split())
    assert Report.objects.count() == NUMBER
    assert kilobytes < 30_000, "memory grows with the number of files"
    left = [name for _, _, names in os.walk(tmp_path / "inbox") for name in names]
    assert len(left) == NUMBER
    assert not list((tmp_path / "inbox").glob("dashboard-*/*"))
    assert taken > 0
