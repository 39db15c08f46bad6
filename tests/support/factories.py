"""Creates S3 interfaces for tests, in addition to the objects of `tests.support.reports`."""

from typing import Any

from anaphora.secret import Secret
from delivery_s3.connection import Connection
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.reports import NOON, make_policy, make_report, numbers
from tests.support.servers import S3Server

__all__ = ["NOON", "interface_form", "make_connection", "make_interface", "make_policy", "make_report"]


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
        "name": f"interface {next(numbers)}",
        "provider": "other",
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        "region": server.region,
        "bucket_name": bucket,
        "endpoint_url": server.endpoint,
        "ca_bundle": server.ca_bundle,
    }
    return S3Interface.objects.create(**(values | changes))


def interface_form(bucket: Bucket, **changes: Any) -> dict[str, Any]:
    """Return the values of the form of an S3 interface, as an administrator enters them for this bucket."""
    return {
        "name": "archive",
        "provider": "other",
        "access_key_id": bucket.server.access_key_id,
        "secret_access_key": bucket.server.secret_access_key,
        "region": bucket.server.region,
        "bucket_name": bucket.name,
        "endpoint_url": bucket.server.endpoint,
        "addressing_style": "auto",
        "ca_bundle": bucket.server.ca_bundle,
        "enabled": "on",
    } | changes
