"""Time to bring the index back from a bucket: `python -m benchmarks.rebuild`.

On PostgreSQL, over HTTP, from `shelf.c`, a bucket that answers at once: 5,000 reports by one HEAD request each, these
again when all is there already, and 100,000 reports from a manifest; first and last take turns. Exits 1 if manifests
are not at least 20 times as fast per report, or if finding that all is there takes more than a fifth of the first time.
"""

import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.installation import installation
from benchmarks.sink import program

HEADS, LISTED, ROUNDS = 5_000, 100_000, 2
DAY = date(2025, 6, 1)
"""On which the reports of `shelf.c` were stored."""

# What `shelf.c` says of its reports.
_FILL = """
CREATE TEMPORARY TABLE shelf AS
  SELECT n, n / 1000 AS dashboard, timestamptz '2025-01-01 00:00Z' + n %% 1000 * interval '1 hour' AS rendered_at,
    (lpad(to_hex(n * 2654435761 %% 4294967296), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id,
    lpad(to_hex(n), 16, '0') AS hex, timestamptz '2025-06-01 00:00Z' AS delivered_at
  FROM generate_series(0, %s::bigint - 1) n;
INSERT INTO reports_dashboard (slug, title)
  SELECT DISTINCT 'd-' || lpad(dashboard::text, 4, '0'), '' FROM shelf;
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT shelf.id, reports_dashboard.id, rendered_at, 'report.pdf', 'application/pdf', 200000, hex || repeat('0', 48),
    repeat('0', 16) || hex, '', rendered_at, 'none', 0
  FROM shelf JOIN reports_dashboard ON slug = 'd-' || lpad(dashboard::text, 4, '0');
INSERT INTO deliveries_delivery (report_id, interface_id, state, priority, attempts, due_at, diagnosis, detail,
    object_key, version_id, etag, sha256, size, integrity, delivered_at)
  SELECT id, %s, 'delivered', 0, 0, delivered_at, '', '',
    'd-' || lpad(dashboard::text, 4, '0')
      || to_char(rendered_at AT TIME ZONE 'UTC', '/YYYY/MM/DD/YYYYMMDD"T"HH24MISS"Z_"') || hex || '.pdf',
    '', repeat('0', 16) || hex, hex || repeat('0', 48), 200000, 'etag', delivered_at
  FROM shelf ORDER BY rendered_at, n;
DROP TABLE shelf;
"""


def main() -> int:
    """Rebuild, print; return the exit status."""
    first, again, by_manifest = [], [], []
    with ExitStack() as stack:
        stack.enter_context(installation(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        with_objects = _interface("objects", stack.enter_context(program("shelf", str(HEADS))))
        with_manifest = _interface("manifest", stack.enter_context(program("shelf", str(LISTED))))
        _write_manifest(with_manifest)
        for _ in range(ROUNDS):
            _forget()
            first.append(_rebuild(with_objects, HEADS))
            again.append(_rebuild(with_objects, HEADS))
            _forget()
            by_manifest.append(_rebuild(with_manifest, LISTED))
            rates = HEADS / first[-1], HEADS / again[-1], LISTED / by_manifest[-1]
            print("reports a second: {:,.0f} by HEAD, {:,.0f} again, {:,.0f} by manifest".format(*rates), flush=True)
    per_second = {"head": HEADS * ROUNDS / sum(first), "manifest": LISTED * ROUNDS / sum(by_manifest)}
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    return results.finish(
        "rebuild",
        results.Bar("again / first", sum(again) / sum(first), at_most=0.2),
        results.Bar(
            "from a manifest / by HEAD, reports a second", per_second["manifest"] / per_second["head"], at_least=20
        ),
        per_second=per_second,
    )


def _interface(name: str, endpoint: str) -> Any:
    from delivery_s3.models import S3Interface

    return S3Interface.objects.create(
        name=name, provider="other", access_key_id="KEY", secret_access_key="SECRET", bucket_name="b",
        endpoint_url=endpoint,
    )  # fmt: skip


def _write_manifest(interface: Any) -> None:
    """Put the manifest of all its reports into an interface's bucket."""
    from django.db import connection

    from anaphora.deliveries import manifests

    with connection.cursor() as cursor:
        cursor.execute(_FILL, [LISTED, interface.pk])
    list(manifests.write(interface, until=DAY, now=datetime(2025, 6, 2, 2, tzinfo=UTC)))


def _forget() -> None:
    """Lose the index, as a lost database does."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE reports_dashboard, deliveries_manifest CASCADE")


def _rebuild(interface: Any, expected: int) -> float:
    """Rebuild the index; return the seconds."""
    from anaphora.deliveries import rebuild
    from anaphora.deliveries.models import Delivery
    from anaphora.reports.models import Report

    started = time.perf_counter()
    for progress in rebuild.rebuild(interface):
        if progress.unclear:
            raise SystemExit(f"unclear: {progress.unclear[0]}")
    seconds = time.perf_counter() - started
    if not Report.objects.count() == Delivery.objects.count() == expected:
        raise SystemExit("Not all were restored")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
