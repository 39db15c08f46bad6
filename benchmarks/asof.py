"""Time of an as-of query: `python -m benchmarks.asof`.

Uses 1,000,000 reports of 1,000 dashboards on PostgreSQL. Prints the median time of `timeline.as_of()` with all its
queries, the time of `SELECT 1` through the same connection, and the query plans. Exits 1 if a bar is missed, or if a
plan scans the whole table.
"""

import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import results
from benchmarks.installation import installation, plans

_FILL = """
INSERT INTO reports_dashboard (slug, title) SELECT 'dashboard-' || n, '' FROM generate_series(1, 1000) n;
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT gen_random_uuid(), (SELECT min(id) FROM reports_dashboard) + n % 1000,
    timestamptz '2023-01-01' + (n / 1000) * interval '1 day' + (n % 86400) * interval '1 second', 'report.pdf',
    CASE WHEN n % 3 = 0 THEN 'text/csv' ELSE 'application/pdf' END, 200000,
    md5(n::text) || md5(n::text), md5(n::text), '', now(), 'none', 0
  FROM generate_series(1, 1000000) n;
"""


def main() -> int:
    """Fill a table, measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from anaphora.reports.models import Dashboard
        from anaphora.timeline.queries import as_of

        with connection.cursor() as cursor:
            cursor.execute(_FILL)
            cursor.execute("VACUUM ANALYZE")
        dashboards, chance = list(Dashboard.objects.all()), random.Random(1)
        times, bare = [], []
        for _ in range(300):
            when = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=chance.uniform(0, 1000))
            dashboard = chance.choice(dashboards)
            started = time.perf_counter()
            as_of(dashboard, when)
            times.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
            bare.append((time.perf_counter() - started) * 1000)
        with CaptureQueriesContext(connection) as queries:
            as_of(dashboard, when)
        found = plans([query["sql"] for query in queries])
    print("\n\n".join(found))
    scans = [plan for plan in found if "Seq Scan on reports_report" in plan]
    median, high = statistics.median(times), sorted(times)[int(len(times) * 0.95)]
    print(f"\nas_of() among 1,000,000 reports of 1,000 dashboards: median {median:.1f} ms, 95 % under {high:.1f} ms")
    return results.finish(
        "asof",
        results.Bar("as_of() / SELECT 1", median / statistics.median(bare), at_most=8, aim=4),
        results.Bar("plans that scan the whole table", len(scans), at_most=0),
    )


if __name__ == "__main__":
    sys.exit(main())
