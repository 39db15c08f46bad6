"""Archives for tests of the proof: days of reports in a bucket with their manifests, and a copy as a folder."""

import io
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command

from anaphora.deliveries import engine, manifests, signing
from anaphora.deliveries.models import Delivery, State
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import make_report

FIRST = date(2026, 3, 1)


def moment(day: date, hour: float = 12) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def deliver_on(interface: S3Interface, day: date, number: int = 1, **values: Any) -> list[Delivery]:
    """Deliver reports to an interface that has a policy, as if on that day; return their rows."""
    for count in range(number):
        make_report(rendered_at=moment(day, 6 + count / 60), **values)
    before = set(Delivery.objects.filter(state=State.DELIVERED).values_list("pk", flat=True))
    assert engine.deliver_due(interface.pk).complete
    rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED).exclude(pk__in=before)
    found = list(rows.order_by("pk"))
    rows.filter(pk__in=[each.pk for each in found]).update(delivered_at=moment(day))
    return found


def write(interface: S3Interface, until: date, now: datetime | None = None) -> list[str]:
    """Write an interface's manifests; return their keys."""
    now = now or moment(until + timedelta(days=1), 2)
    return [each.key for each in manifests.write(interface, until=until, now=now)]


def keys(bucket: Bucket) -> list[str]:
    """Return all keys of a bucket, also if there are more than 1,000."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def copy(bucket: Bucket, folder: Path) -> Path:
    """Copy a bucket into a folder, like `rclone copy`."""
    for key in keys(bucket):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.read(key))
    return folder


def public_key(folder: Path) -> Path:
    """Write the output of the command `public_key` to a file in this folder; return its path."""
    out = io.StringIO()
    call_command("public_key", stdout=out)
    assert out.getvalue() == signing.current().public_pem
    path = folder / "archive-key.pem"
    path.write_text(out.getvalue())
    return path


def days(number: int, first: date = FIRST) -> Iterable[date]:
    return (first + timedelta(days=each) for each in range(number))
