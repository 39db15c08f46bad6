"""CPU time of delivering a report as the tables grow: `python -m benchmarks.growth`.

Delivers 600 reports in this process to a minimal endpoint, with 1,000, 100,000 and 1,000,000 deliveries in the table,
on PostgreSQL. Exits 1 if a report needs more than 1.2 times as much CPU time with the largest table as with the
smallest.
"""

import hashlib
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import results
from benchmarks.million import ROWS, million
from benchmarks.sink import sink

DUE, ROUNDS, SIZES = 600, 5, (ROWS, 100_000, 1_000)
_FILL = """
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT gen_random_uuid(), (SELECT min(id) FROM reports_dashboard), timestamptz '2000-01-01' + n * interval '1 minute',
    'report.pdf', 'application/pdf', 200000, md5(n::text) || md5(n::text), md5(n::text), '', now(), 'none', 0
  FROM generate_series(1, %s) n;
INSERT INTO deliveries_delivery (report_id, interface_id, state, priority, attempts, due_at, diagnosis, detail,
    object_key, version_id, etag, sha256, size, integrity, delivered_at)
  SELECT id, (SELECT min(id) FROM deliveries_interface), 'delivered', 0, 0, rendered_at, '', '', 'key', '', '', sha256,
    size, 'etag', now() FROM reports_report;
"""


def main() -> int:
    """Measure, print; return the exit status."""
    costs = {}
    with tempfile.TemporaryDirectory() as name, million(Path(name)), sink() as endpoint:
        from django.db import connection

        for size in SIZES:
            with connection.cursor() as cursor:
                if size < ROWS:
                    cursor.execute("TRUNCATE reports_report CASCADE")
                    cursor.execute(_FILL, [size])
                interface = _make_due_reports(endpoint.endpoint)
                cursor.execute("VACUUM ANALYZE")
            costs[size] = min([_milliseconds(interface) for _ in range(ROUNDS + 1)][1:])  # other work only adds to it
            print(f"{size:9,} deliveries: {costs[size]:.2f} ms of CPU per report", flush=True)
    ratio = costs[ROWS] / costs[min(SIZES)]
    return results.finish("growth", results.Bar("at 1,000,000 / at 1,000", ratio, at_most=1.2), cpu_ms=costs)


def _make_due_reports(endpoint: str) -> int:
    from anaphora.deliveries.models import Delivery
    from anaphora.reports.models import Dashboard, Report, local_location
    from delivery_s3.models import S3Interface

    interface = S3Interface.objects.earliest("pk")
    S3Interface.objects.filter(pk=interface.pk).update(provider="other", endpoint_url=endpoint)
    content = b"%PDF-1.7" + os.urandom(199_992)
    Path(local_location()).mkdir(parents=True, exist_ok=True)
    Path(local_location(), "report.pdf").write_bytes(content)
    dashboard = Dashboard.objects.earliest("pk")
    reports = Report.objects.bulk_create(
        Report(
            dashboard=dashboard, rendered_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number),
            filename="report.pdf", content_type="application/pdf", size=len(content), file="report.pdf", preview="none",
            sha256=hashlib.sha256(content).hexdigest(), md5=hashlib.md5(content).hexdigest(),
        )
        for number in range(DUE)
    )  # fmt: skip
    Delivery.objects.bulk_create(
        Delivery(report=report, interface_id=interface.pk, due_at="2000-01-01T00:00Z") for report in reports
    )
    return interface.pk


def _milliseconds(interface_id: int) -> float:
    from anaphora.deliveries import engine
    from anaphora.deliveries.models import Delivery, State

    due = Delivery.objects.filter(report__file="report.pdf")
    due.update(state=State.PENDING, object_key="", size=None, delivered_at=None)
    used = time.process_time()
    drained = engine.deliver_due(interface_id)
    used = time.process_time() - used
    assert drained.delivered == DUE, drained
    return used / DUE * 1000


if __name__ == "__main__":
    sys.exit(main())
