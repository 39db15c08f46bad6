"""Time to claim a batch with 1,000,000 deliveries in the table, 1,000 of them due: `python -m benchmarks.claim`.

Uses PostgreSQL. Prints the median time of a claim, the time of `SELECT 1` through the same connection, and the query
plans. Exits 1 if a bar is missed, or if a plan scans the whole table.
"""

import re
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

from benchmarks import results
from benchmarks.installation import plans
from benchmarks.million import ROWS, million, milliseconds, select_one

DUE, BATCH = 1_000, 50

_MAKE_DUE = """
UPDATE deliveries_delivery SET state = 'pending', delivered_at = NULL WHERE id IN
  (SELECT id FROM deliveries_delivery WHERE interface_id = %s ORDER BY random() LIMIT %s)
"""


def main() -> int:
    """Measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, million(Path(folder)):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from anaphora.deliveries import queue
        from anaphora.deliveries.models import Interface

        interface = Interface.objects.earliest("pk")
        with connection.cursor() as cursor:
            cursor.execute(_MAKE_DUE, [interface.pk, DUE])
            cursor.execute("VACUUM ANALYZE deliveries_delivery")
        times, bare = [], []
        with CaptureQueriesContext(connection) as queries:
            queue.claim(interface.pk, uuid.uuid4(), BATCH)
        for _ in range(DUE // BATCH - 1):
            bare.append(milliseconds(select_one))
            times.append(milliseconds(lambda: queue.claim(interface.pk, uuid.uuid4(), BATCH)))
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


if __name__ == "__main__":
    sys.exit(main())
