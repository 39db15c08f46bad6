"""Time to claim a batch with 1,000,000 deliveries in the table, 1,000 of them due: `python -m benchmarks.claim`.

On PostgreSQL. Prints the median time of a claim and the plans of what it reads; exits 1 if the claim takes 20 ms or
more, or if a plan goes through the whole table.
"""

import re
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from benchmarks.installation import installation, plans

ROWS, DUE, BAR_MS = 1_000_000, 1_000, 20

_FILL = f"""
INSERT INTO reports_dashboard (slug, title) SELECT 'dashboard-' || n, '' FROM generate_series(1, 100) n;
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT gen_random_uuid(), 1 + n % 100 + (SELECT min(id) - 1 FROM reports_dashboard),
    timestamptz '2024-01-01' + n * interval '1 minute', 'report.pdf', 'application/pdf', 200000,
    md5(n::text) || md5(n::text), md5(n::text), '', now(), 'none', 0 FROM generate_series(1, {ROWS}) n;
INSERT INTO deliveries_delivery (report_id, interface_id, state, priority, attempts, due_at, diagnosis, detail,
    object_key, version_id, etag, sha256, size, integrity, delivered_at)
  SELECT id, (SELECT id FROM delivery_s3_s3interface), 'delivered', 0, 0, rendered_at, '', '', 'key', '', '', sha256,
    size, 'etag', now() FROM reports_report;
UPDATE deliveries_delivery SET state = 'pending', delivered_at = NULL WHERE id IN
  (SELECT id FROM deliveries_delivery ORDER BY random() LIMIT {DUE});
"""


def main() -> int:
    """Fill a table, measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from anaphora.deliveries import engine, queue
        from delivery_s3.models import S3Interface

        interface = S3Interface.objects.create(
            name="benchmark", access_key_id="KEY", secret_access_key="SECRET", bucket_name="b"
        )
        with connection.cursor() as cursor:
            cursor.execute(_FILL)
            cursor.execute("VACUUM ANALYZE")
        times = []
        with CaptureQueriesContext(connection) as queries:
            queue.claim(interface.pk, uuid.uuid4(), engine.BATCH)
        for _ in range(DUE // engine.BATCH - 1):
            started = time.perf_counter()
            batch = queue.claim(interface.pk, uuid.uuid4(), engine.BATCH)
            times.append((time.perf_counter() - started) * 1000)
            assert len(batch) == engine.BATCH
        found = plans([query["sql"] for query in queries])
    scans = [plan for plan in found if re.search(r"Seq Scan on deliveries_delivery", plan)]
    print("\n\n".join(found))
    kept = statistics.median(times) < BAR_MS and not scans
    print(
        f"\nclaim of {engine.BATCH} among {ROWS:,} deliveries, {DUE:,} due: median {statistics.median(times):.1f} ms,"
    )
    print(f"longest {max(times):.1f} ms; the bar is {BAR_MS} ms by an index: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
