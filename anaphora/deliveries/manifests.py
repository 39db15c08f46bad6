"""Decides which manifests are due, and seals them: sealing fixes the content of a manifest.

Each interface gets one manifest per UTC day, written after the day is over, in the order of days. Sealing is one
transaction that claims every delivery not yet listed in a manifest. Each delivery is therefore listed exactly once, in
the first manifest sealed after it, even if clocks change or processes are killed. `manifest_files` builds the bytes
and stores them. docs/archive-format.md describes the content of a manifest.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, Min, OuterRef, Q, Subquery, Sum

from anaphora.deliveries import manifest_files, signing, verifier
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, State
from anaphora.deliveries.object_keys import MANIFEST_VERSION, manifest_key
from anaphora.deliveries.signing import Key, SigningProblem
from anaphora.reports.models import Dashboard
from anaphora.reports.timestamps import iso_instant

logger = logging.getLogger(__name__)

GRACE = timedelta(hours=1)
"""How long after midnight a day's manifest is due. Slow uploads can still finish and be recorded in that time."""

TOLERANCE = timedelta(seconds=60)
"""How far the clocks of two machines may differ."""

FURTHEST_BACK = timedelta(days=3660)
"""How far back an interface's first manifest may be dated. It also lists everything delivered before."""


def last_day(now: datetime) -> date:
    """Return the last UTC day whose manifest is due at `now`, which is an aware datetime."""
    return (now - GRACE).astimezone(UTC).date() - timedelta(days=1)


def write_due(now: datetime, seconds: float) -> bool:
    """Write due manifests for up to `seconds`; return whether more may be due.

    A manifest that the store refuses is written again the next time.
    """
    end = monotonic() + seconds
    free = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
    for interface in interfaces_in_use().filter(free):
        try:
            for _ in write(interface, until=last_day(now), now=now):
                if monotonic() > end:
                    return True
        except (DeliveryError, SigningProblem) as error:
            logger.warning("Manifest of %s not written: %s", interface, error)
    return False


def interfaces_in_use() -> Any:
    """Return the interfaces that get manifests: enabled, with a policy, a delivery, an irregularity or a manifest."""
    of_interface = {"interface": OuterRef("pk")}
    used = [Exists(model.objects.filter(**of_interface)) for model in (ArchivePolicy, Delivery, Irregularity, Manifest)]
    return Interface.objects.filter(
        used[0] | used[1] | used[2] | used[3], enabled=True, write_manifests=True
    ).select_subclasses()


def overdue(now: datetime) -> dict[int, date | None]:
    """Return the interfaces whose next manifest is more than a day overdue, each with the day of its last written one.

    The day is None if none has been written. Runs one query.
    """
    of_interface = Manifest.objects.filter(interface=OuterRef("pk"))
    written = of_interface.filter(written_at__isnull=False).order_by("-sequence").values("day")[:1]
    rows = Interface.objects.filter(Exists(of_interface), enabled=True, write_manifests=True)
    days = rows.annotate(last=Subquery(written)).values_list("pk", "last")
    return {pk: day for pk, day in days if day is None or day < last_day(now) - timedelta(days=1)}


def write(interface: Interface, *, until: date, now: datetime) -> Iterator[Manifest]:
    """Write an interface's manifests that are due up to and including the UTC day `until`; yield each.

    Starts with the manifest that was sealed earlier but not completely written, if there is one. Raises DeliveryError
    and SigningProblem.
    """
    destination = interface.destination()
    _refuse_same_place(interface)
    manifest_files.add_time_stamps(interface, destination)
    while manifest := _next(interface, until, now):
        manifest_files.put(interface, destination, manifest)
        yield manifest


def _refuse_same_place(interface: Interface) -> None:
    """Raise SigningProblem if another interface writes its manifests to the same keys."""
    others = Interface.objects.filter(key_prefix=interface.key_prefix, manifests__isnull=False).exclude(pk=interface.pk)
    for other in others.distinct().select_subclasses():
        if other.place == interface.child().place and not interface.manifests.exists():
            raise SigningProblem(
                f"The interface {other} writes manifests to the same bucket under the same key prefix. Give one of "
                "them a Key prefix of its own, or switch its daily manifest off."
            )


def _next(interface: Interface, until: date, now: datetime) -> Manifest | None:
    """Return the manifest to write next: the one sealed but not written, else a new one if due, else None."""
    with transaction.atomic():
        Interface.objects.select_for_update().get(pk=interface.pk)  # one process at a time
        last = Manifest.objects.filter(interface=interface).order_by("sequence").last()
        if last and last.written_at is None:
            return last
        day = _next_day(interface, last, until, now)
        return _seal(interface, last, day, now) if day else None


def _next_day(interface: Interface, last: Manifest | None, until: date, now: datetime) -> date | None:
    if last is None:
        rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED, manifest=None)
        first = rows.aggregate(first=Min("delivered_at"))["first"]
        begun = first.astimezone(UTC).date() if first else until
        return min(max(begun, until - FURTHEST_BACK), until)
    if last.day > now.astimezone(UTC).date():
        # The last manifest was sealed while a clock was ahead, and the clock has been set back since.
        return until
    return last.day + timedelta(days=1) if last.day < until else None


def _seal(interface: Interface, last: Manifest | None, day: date, now: datetime) -> Manifest:
    """Create the next manifest and assign its deliveries and irregularities. The caller holds the interface's lock."""
    key, handover = _signer(last)
    sequence = last.sequence + 1 if last else 1
    name = manifest_key(prefix=interface.key_prefix, day=day)
    if Manifest.objects.filter(interface=interface, key=name).exists():
        name = manifest_key(prefix=interface.key_prefix, day=day, again=sequence)
    manifest = Manifest.objects.create(
        interface_id=interface.pk,
        sequence=sequence,
        day=day,
        key=name,
        public_key=key.fingerprint,
        sealed_at=now,
        wants_time_stamp=bool(settings.TIME_STAMP_URL),
    )
    end = datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC)
    # A time in the future was written while a clock was ahead. Such rows are listed now instead of on that day.
    rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED, manifest=None)
    rows.filter(Q(delivered_at__lt=end) | Q(delivered_at__gt=now + TOLERANCE)).update(manifest=manifest)
    events = Irregularity.objects.filter(interface=interface, manifest=None)
    events.filter(Q(at__lt=end) | Q(at__gt=now + TOLERANCE)).update(manifest=manifest)
    titles = Dashboard.objects.filter(reports__deliveries__manifest=manifest).exclude(title="").distinct()
    manifest.titles = dict(titles.order_by("slug").values_list("slug", "title"))
    manifest.header = json.dumps(_header(interface, manifest, last, handover), ensure_ascii=False)
    manifest.save(update_fields=["titles", "header"])
    return manifest


def _header(
    interface: Interface, manifest: Manifest, last: Manifest | None, handover: dict[str, Any]
) -> dict[str, Any]:
    listed = Delivery.objects.filter(manifest=manifest).order_by().aggregate(number=Count("pk"), size=Sum("size"))
    return {
        "type": "manifest",
        "format_version": MANIFEST_VERSION,
        "interface": interface.name,
        "bucket": interface.container,
        "prefix": interface.key_prefix,
        "day": manifest.day.isoformat(),
        "sequence": manifest.sequence,
        "previous": {"key": last.key, "sha256": last.sha256} if last else None,
        "reports": listed["number"],
        "bytes": listed["size"] or 0,
        "irregularities": Irregularity.objects.filter(manifest=manifest).count(),
        "public_key": manifest.public_key,
        "sealed_at": iso_instant(manifest.sealed_at),
        "time_stamp": manifest.wants_time_stamp,
        "verifier": verifier.sha256(),
        "protection": {"retention": interface.retention, "last_check": interface.protection or None},
        **handover,
    }


def _signer(last: Manifest | None) -> tuple[Key, dict[str, Any]]:
    """Return the key that signs the next manifest, and the members of its header that concern a change of keys.

    The former key signs one more manifest, which announces the new key. The new key signs the manifest after that.
    """
    key = signing.current()
    if last is None:
        return key, {}
    expected = json.loads(last.header).get("next_public_key", {}).get("fingerprint") or last.public_key
    if expected == key.fingerprint:
        return key, {}
    if former := signing.find(expected):
        return former, {"next_public_key": {"fingerprint": key.fingerprint, "pem": key.public_pem}}
    return key, {"new_chain": f"The private key {expected} was lost, so no manifest that it signed announces this key."}
