"""Creates policies and reports for tests, in the same way as users do where possible."""

import io
import itertools
from datetime import UTC, datetime
from typing import Any

from anaphora.deliveries.models import ArchivePolicy, Interface
from anaphora.reports.ingest import ingest
from anaphora.reports.models import Report

numbers = itertools.count(1)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_policy(interface: Interface, **changes: Any) -> ArchivePolicy:
    return ArchivePolicy.objects.create(**({"name": f"policy {next(numbers)}", "interface": interface} | changes))


def make_report(content: bytes | None = None, **changes: Any) -> Report:
    number = next(numbers)
    values: dict[str, Any] = {
        "source": io.BytesIO(content or f"%PDF-1.7 report {number}".encode()),
        "filename": f"report {number}.pdf",
        "dashboard": "sales",
        "rendered_at": NOON,
    }
    return ingest(**(values | changes)).report
