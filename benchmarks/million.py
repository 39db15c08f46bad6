"""A database with 1,000,000 delivered reports, for measurements of large tables.

It is filled once in a run of several measurements: the first one keeps a copy, BENCH_TEMPLATE, for the others.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.installation import DATABASE, installation

ROWS, DASHBOARDS, INTERFACES = 1_000_000, 100, 4

# A superuser fills without the triggers that check foreign keys and count reports, which take half of the time.
_FILL = f"""
SELECT set_config('session_replication_role', 'replica', true) WHERE current_setting('is_superuser') = 'on';
INSERT INTO reports_dashboard (slug, title) SELECT 'dashboard-' || n, '' FROM generate_series(1, {DASHBOARDS}) n;
INSERT INTO reports_report (id, dashboard_id, rendered_at, filename, content_type, size, sha256, md5, file, ingested_at,
    preview, pages)
  SELECT gen_random_uuid(), n % {DASHBOARDS} + (SELECT min(id) FROM reports_dashboard),
    now() - n * interval '1 minute', 'report.pdf',
    CASE WHEN n % 3 = 0 THEN 'text/csv' ELSE 'application/pdf' END, 200000,
    md5(n::text) || md5(n::text), md5(n::text), '', now() - n * interval '1 minute', 'none', 0
  FROM generate_series(1, {ROWS}) n;
DELETE FROM reports_reportcount;
INSERT INTO reports_reportcount (dashboard_id, reports) SELECT dashboard_id, count(*) FROM reports_report GROUP BY 1;
INSERT INTO deliveries_delivery (report_id, interface_id, state, priority, attempts, due_at, diagnosis, detail,
    object_key, version_id, etag, sha256, size, integrity, delivered_at)
  SELECT id, (SELECT min(id) FROM deliveries_interface) + (extract(minute FROM rendered_at)::int % {INTERFACES}),
    'delivered', 0, 0, rendered_at, '', '', 'key', '', '', sha256, size, 'etag', rendered_at FROM reports_report;
"""


@contextmanager
def million(folder: Path) -> Iterator[None]:
    """Create an installation with `ROWS` reports, each delivered to one of the interfaces, and with statistics."""
    template = os.environ.get("BENCH_TEMPLATE", "")
    with psycopg.connect(DATABASE, autocommit=True) as server:
        found = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template]).fetchone()
    with installation(folder, template=template if found else ""):
        if not found:
            _fill()
            if template:
                _copy(os.environ["DATABASE_URL"].rpartition("/")[2], template)
        yield


def drop_template() -> None:
    """Drop the copy, if there is one."""
    with psycopg.connect(DATABASE, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {os.environ['BENCH_TEMPLATE']}")


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def select_one() -> None:
    """Execute the simplest query; the time of others is given as a multiple of its time."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


def _fill() -> None:
    from django.db import connection, transaction

    from delivery_s3.models import S3Interface

    for number in range(INTERFACES):
        S3Interface.objects.create(
            name=f"interface {number}", access_key_id="KEY", secret_access_key="SECRET", bucket_name="bucket"
        )
    with connection.cursor() as cursor:
        with transaction.atomic():
            cursor.execute(_FILL)
        cursor.execute("VACUUM ANALYZE")


def _copy(name: str, to: str) -> None:
    from django.db import connections

    connections.close_all()
    with psycopg.connect(DATABASE, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {to} TEMPLATE {name}")
