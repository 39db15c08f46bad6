"""Time of an as-of query: `python -m benchmarks.asof`.

Uses 1,000,000 reports of 100 dashboards on PostgreSQL. Prints the median time of `timeline.as_of()` with all its
queries, the time of `SELECT 1` through the same connection, and the query plans. Exits 1 if a bar is missed, or if a
plan scans the whole table.
"""

import random
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from benchmarks import results
from benchmarks.installation import plans
from benchmarks.million import DASHBOARDS, ROWS, million


def main() -> int:
    """Measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, million(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from django.utils import timezone

        from anaphora.reports.models import Dashboard
        from anaphora.timeline.queries import as_of

        dashboards, chance, now = list(Dashboard.objects.all()), random.Random(1), timezone.now()
        times, bare = [], []
        for _ in range(300):
            when = now - timedelta(minutes=chance.uniform(0, ROWS))
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
    print(
        f"\nas_of() among {ROWS:,} reports of {DASHBOARDS} dashboards: median {median:.1f} ms, 95 % under {high:.1f} ms"
    )
    return results.finish(
        "asof",
        results.Bar("as_of() / SELECT 1", median / statistics.median(bare), at_most=8, aim=4),
        results.Bar("plans that scan the whole table", len(scans), at_most=0),
    )


if __name__ == "__main__":
    sys.exit(main())
