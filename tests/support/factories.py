"""Makes what tests need, through the same doors as users where there is one."""

import io
import itertools
from datetime import UTC, datetime
from typing import Any

from anaphora.deliveries.models import ArchivePolicy
from anaphora.reports.ingest import ingest
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from delivery_s3.secret import Secret
from delivery_s3.storage import Connection
from tests.support.servers import S3Server

_numbers = itertools.count(1)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_connection(server: S3Server, bucket: str, **changes: Any) -> Connection:
    values: dict[str, Any] = {
        "access_key_id": server.access_key_id,
        "secret_access_key": Secret(server.secret_access_key),
        "region": server.region,
        "bucket_name": bucket,
        "endpoint_url": server.endpoint,
        "ca_bundle": server.ca_bundle,
        "connect_timeout": 2,
        "read_timeout": 5,
    }
    return Connection(**(values | changes))


def make_interface(server: S3Server, bucket: str, **changes: Any) -> S3Interface:
    values: dict[str, Any] = {
        "name": f"interface {next(_numbers)}",
        "provider": "other",
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        "region": server.region,
        "bucket_name": bucket,
        "endpoint_url": server.endpoint,
        "ca_bundle": server.ca_bundle,
    }
    return S3Interface.objects.create(**(values | changes))


def make_policy(interface: S3Interface, **changes: Any) -> ArchivePolicy:
    return ArchivePolicy.objects.create(**({"name": f"policy {next(_numbers)}", "interface": interface} | changes))


def make_report(content: bytes | None = None, **changes: Any) -> Report:
    number = next(_numbers)
    values: dict[str, Any] = {
        "source": io.BytesIO(content or f"%PDF-1.7 report {number}".encode()),
        "filename": f"report {number}.pdf",
        "dashboard": "sales",
        "rendered_at": NOON,
    }
    return ingest(**(values | changes)).report
