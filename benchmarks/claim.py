"""Time to claim a batch with 1,000,000 deliveries in the table, 1,000 of them due: `python -m benchmarks.claim`.

Uses PostgreSQL. Prints the median time of a claim, the time of `SELECT 1` through the same connection, and the query
plans. Exits 1 if a bar is missed, or if a plan scans the whole table.
"""

import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.installation import installation, plans

ROWS, DUE, BATCH = 1_000_000, 1_000, 50

_FILL = f"""
INSERT INTO reports_dashboard (slug, title) SELECT 'dashboard-' || n, '' FROM generate_series(1, 100) n;
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT gen_random_uuid(), 1 + n % 100 + (SELECT min(id) - 1 FROM reports_dashboard),
    timestamptz '2024-01-01' + n * interval '1 minute', 'report.pdf', 'application/pdf', 200000,
    md5(n::text) || md5(n::text), md5(n::text), '', now(), 'none', 0 FROM generate_series(1, {ROWS}) n;
INSERT INTO deliveries_delivery (report_id, interface_id, state, priority, attempts, due_at, diagnosis, detail,
    object_key, version_id, etag, sha256, size, integrity, delivered_at)
  SELECT id, (SELECT id FROM deliveries_interface), 'delivered', 0, 0, rendered_at, '', '', 'key', '', '', sha256,
    size, 'etag', now() FROM reports_report;
UPDATE deliveries_delivery SET state = 'pending', delivered_at = NULL WHERE id IN
  (SELECT id FROM deliveries_delivery ORDER BY random() LIMIT {DUE});
"""


def main() -> int:
    """Fill a table, measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from anaphora.deliveries import queue
        from delivery_s3.models import S3Interface

        interface = S3Interface.objects.create(
            name="benchmark", access_key_id="KEY", secret_access_key="SECRET", bucket_name="b"
        )
        with connection.cursor() as cursor:
            cursor.execute(_FILL)
            cursor.execute("VACUUM ANALYZE")
        times, bare = [], []
        with CaptureQueriesContext(connection) as queries:
            queue.claim(interface.pk, uuid.uuid4(), BATCH)
        for _ in range(DUE // BATCH - 1):
            bare.append(_milliseconds(lambda: _select_one(connection)))
            times.append(_milliseconds(lambda: queue.claim(interface.pk, uuid.uuid4(), BATCH)))
        found = plans([query["sql"] for query in queries])
    scans = [plan for plan in found if re.search(r"Seq Scan on deliveries_delivery", plan)]
    print("\n\n".join(found))
    print(
        f"\nclaim of {BATCH} among {ROWS:,} deliveries, {DUE:,} due: median {statistics.median(times):.1f} ms, "
        f"longest {max(times):.1f} ms; SELECT 1 {statistics.median(bare):.2f} ms"
    )
    return results.finish(
        "claim",
        results.Bar("claim / SELECT 1", statistics.median(times) / statistics.median(bare), at_most=25, aim=12),
        results.Bar("plans that scan the whole table", len(scans), at_most=0),
    )


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _select_one(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


if __name__ == "__main__":
    sys.exit(main())
