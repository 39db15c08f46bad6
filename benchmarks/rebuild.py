"""Time to bring the index of 20,000 reports back from a bucket: `python -m benchmarks.rebuild`.

On PostgreSQL, from `shelf.c`, a bucket that answers at once. Prints what a run takes, and what it takes to find that
all is there already; exits 1 if the second takes more than a fifth of the first.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.installation import installation
from benchmarks.sink import program

REPORTS = 20_000


def main() -> int:
    """Rebuild twice, print; return the exit status."""
    with (
        tempfile.TemporaryDirectory() as folder,
        installation(Path(folder)),
        program("shelf", str(REPORTS)) as endpoint,
    ):
        from anaphora.deliveries import rebuild
        from anaphora.deliveries.models import Delivery
        from anaphora.reports.models import Report
        from delivery_s3.models import S3Interface

        interface = S3Interface.objects.create(
            name="benchmark", provider="other", access_key_id="KEY", secret_access_key="SECRET", bucket_name="b",
            endpoint_url=endpoint,
        )  # fmt: skip
        times = []
        for _ in range(2):
            started = time.perf_counter()
            for progress in rebuild.rebuild(interface):
                if progress.unclear:
                    raise SystemExit(f"unclear: {progress.unclear[0]}")
            times.append(time.perf_counter() - started)
        complete = Report.objects.count() == Delivery.objects.count() == REPORTS
    first, again = times
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{REPORTS:,} objects: {first:.0f} s, {REPORTS / first:,.0f} a second; again: {again:.1f} s; {memory} MB")
    if not complete:
        raise SystemExit("Not all were restored")
    return results.finish(
        "rebuild", results.Bar("again / first", again / first, at_most=0.2), per_second=REPORTS / first
    )


if __name__ == "__main__":
    sys.exit(main())
