"""Catalogues: for each dashboard and day, one object that lists what was stored, so that nobody must list a bucket.

A catalogue is written once, after its day (in UTC) is over, like a report: one conditional PUT, which needs
s3:PutObject alone. docs/archive-format.md says what is in it.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic

from django.conf import settings
from django.db.models import Min, Q

from anaphora.deliveries import errors
from anaphora.deliveries.destinations import Destination, Upload
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.object_keys import FORMAT_VERSION, catalogue_key
from anaphora.reports.timestamps import iso

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/jsonl"

GRACE = timedelta(hours=1)
"""After midnight, for outcomes that are still to be written: an upload may take long."""


def write_due(now: datetime, seconds: float) -> bool:
    """Write the catalogues that are due, for so long; return whether there may be more.

    What an interface's store refuses is tried again next time.
    """
    end = monotonic() + seconds
    free = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
    for interface in Interface.objects.filter(free, enabled=True, catalogue=True).select_subclasses():
        try:
            destination = interface.destination()
            for day in _days(interface, (now - GRACE).astimezone(UTC).date() - timedelta(days=1)):
                for dashboard in _dashboards(interface, day):
                    _put(interface, destination, dashboard, day)
                Interface.objects.filter(pk=interface.pk).update(catalogued_until=day)
                if monotonic() > end:
                    return True
        except DeliveryError as error:
            logger.warning("No catalogue to %s: %s", interface, error)
    return False


def _days(interface: Interface, last: date) -> Iterator[date]:
    """Yield the days to catalogue up to `last`, without those on which nothing was stored, but for `last`."""
    if interface.catalogued_until is not None and interface.catalogued_until >= last:
        return
    rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED)
    after = interface.catalogued_until
    while True:
        later = rows.filter(delivered_at__gte=_start(after + timedelta(days=1))) if after else rows
        first = later.aggregate(first=Min("delivered_at"))["first"]
        if first is None or first.astimezone(UTC).date() >= last:
            yield last
            return
        after = first.astimezone(UTC).date()
        yield after


def _start(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _of_day(interface: Interface, day: date) -> Q:
    end = _start(day + timedelta(days=1))
    return Q(interface=interface, state=State.DELIVERED, delivered_at__gte=_start(day), delivered_at__lt=end)


def _dashboards(interface: Interface, day: date) -> list[str]:
    slugs = (
        Delivery.objects.filter(_of_day(interface, day)).order_by().values_list("report__dashboard__slug", flat=True)
    )
    return sorted(slugs.distinct())


def lines(interface: Interface, dashboard: str, day: date) -> Iterator[bytes]:
    """Yield the lines of a catalogue, by key."""
    rows = Delivery.objects.filter(_of_day(interface, day), report__dashboard__slug=dashboard)
    for row in rows.select_related("report").order_by("object_key").iterator(1000):
        facts = {
            "key": row.object_key,
            "rendered_at": iso(row.report.rendered_at),
            "sha256": row.sha256,
            "size": row.size,
            "content_type": row.report.content_type,
            "filename": row.report.filename,
            "report_id": str(row.report_id),
        }
        yield json.dumps(facts, ensure_ascii=False).encode() + b"\n"


def _put(interface: Interface, destination: Destination, dashboard: str, day: date) -> None:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
        for line in lines(interface, dashboard, day):
            body.write(line)
            sha256.update(line)
            md5.update(line)
            size += len(line)
        upload = Upload(
            key=catalogue_key(prefix=interface.key_prefix, dashboard=dashboard, day=day),
            size=size,
            sha256=sha256.hexdigest(),
            md5=md5.hexdigest(),
            content_type=CONTENT_TYPE,
            metadata={"format-version": FORMAT_VERSION, "dashboard": dashboard, "sha256": sha256.hexdigest()},
        )
        try:
            destination.put(upload, body)
        except DeliveryError as error:
            if error.diagnosis is not errors.KEY_TAKEN:
                raise
            # Written before, by a clock that went wrong or before the index was rebuilt: what is stored stays.
            logger.warning("The catalogue %s of %s is another one: %s", upload.key, interface, error)
