"""Time of the queries of the timeline: `python -m benchmarks.asof`.

Uses 1,000,000 reports of 100 dashboards on PostgreSQL. Prints the median times of `as_of()`, of `latest_by_format()`,
which only the pages use, and of `SELECT 1` through the same connection, and the query plans. Exits 1 if a bar is
missed, or if a plan scans the whole table.
"""

import random
import statistics
import sys
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

from benchmarks import results
from benchmarks.installation import plans
from benchmarks.million import DASHBOARDS, ROWS, million, milliseconds, select_one


def main() -> int:
    """Measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, million(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from django.utils import timezone

        from anaphora.reports.models import Dashboard
        from anaphora.timeline import queries

        dashboards, chance, now = list(Dashboard.objects.all()), random.Random(1), timezone.now()
        works = {"as_of()": queries.as_of, "latest_by_format()": queries.latest_by_format}
        times: dict[str, list[float]] = {"SELECT 1": [], **{name: [] for name in works}}
        for _ in range(300):
            dashboard, when = chance.choice(dashboards), now - timedelta(minutes=chance.uniform(0, ROWS))
            for name, work in works.items():
                times[name].append(milliseconds(partial(work, dashboard, when)))
            times["SELECT 1"].append(milliseconds(select_one))
        with CaptureQueriesContext(connection) as captured:
            for work in works.values():
                work(dashboard, when)
        found = plans([query["sql"] for query in captured])
    print("\n\n".join(found))
    scans = [plan for plan in found if "Seq Scan on reports_report" in plan]
    print(f"\nAmong {ROWS:,} reports of {DASHBOARDS} dashboards:")
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, median in medians.items():
        print(f"{name:18} {median:5.2f} ms, 95 % under {sorted(times[name])[285]:.2f} ms")
    return results.finish(
        "asof",
        results.Bar("as_of() / SELECT 1", medians["as_of()"] / medians["SELECT 1"], at_most=8, aim=4),
        results.Bar("plans that scan the whole table", len(scans), at_most=0),
    )


if __name__ == "__main__":
    sys.exit(main())
