"""What tasks, pages and operators ask of the queue, and do with it. Delivering itself is the engine's."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, Min, OuterRef, Q
from django.utils import timezone

from anaphora.deliveries.models import ArchivePolicy, Delivery, State
from delivery_s3.models import S3Interface


def forget_other_clocks() -> None:
    """Mend times that no clock like the present one can have written, because it was set back since.

    Else what was claimed or put off before would wait for as long as the clock was wrong.
    """
    now = timezone.now()
    last_retry = now + timedelta(seconds=settings.DELIVERY_RETRY_SECONDS + 60)
    last_lease = now + timedelta(seconds=settings.DELIVERY_LEASE_SECONDS + 60)
    Delivery.objects.filter(state=State.PENDING, due_at__gt=last_retry).update(due_at=now)
    Delivery.objects.filter(state=State.SENDING, leased_until__gt=last_lease).update(leased_until=now)
    S3Interface.objects.filter(paused_until__gt=last_retry).update(paused_until=now)
    S3Interface.objects.filter(announced_at__gt=now + timedelta(seconds=60)).update(announced_at=None)
    # What has been done "up to" a time that has not come counts as done up to now.
    ArchivePolicy.objects.filter(ran_at__gt=now + timedelta(seconds=60)).update(ran_at=now)
    today = now.astimezone(UTC).date()
    S3Interface.objects.filter(catalogued_until__gte=today).update(catalogued_until=today - timedelta(days=1))


def interfaces_with_due_work() -> list[int]:
    """Return the ids of the interfaces that `deliver_due()` would find something to do for."""
    now = timezone.now()
    of_interface = Delivery.objects.filter(interface=OuterRef("pk"))
    due = Exists(of_interface.filter(state=State.PENDING, due_at__lte=now))
    left = Exists(of_interface.filter(state=State.SENDING, leased_until__lt=now))
    ready = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
    return list(S3Interface.objects.filter(due | left, ready, enabled=True).values_list("pk", flat=True))


def announce(interface_id: int) -> bool:
    """Note that a message is about to say that something is due; return False if one is on its way already.

    A message that was not taken up within a sweep's time counts as lost.
    """
    now = timezone.now()
    lost = now - timedelta(seconds=settings.DELIVERY_SWEEP_SECONDS)
    free = Q(announced_at__isnull=True) | Q(announced_at__lt=lost)
    return bool(S3Interface.objects.filter(free, pk=interface_id).update(announced_at=now))


def take_up(interface_id: int) -> None:
    """Note that the message has arrived. What comes due from now on needs another one."""
    S3Interface.objects.filter(pk=interface_id, announced_at__isnull=False).update(announced_at=None)


def resume(interface_id: int) -> None:
    """End an interface's pause: its settings have changed, a test has passed, or a delivery has."""
    S3Interface.objects.filter(pk=interface_id, failures__gt=0).update(
        failures=0, paused_until=None, diagnosis="", detail=""
    )


def retry(chosen: list[Delivery]) -> int:
    """Make failed deliveries pending and due now; return how many. Others are left as they are."""
    return Delivery.objects.filter(pk__in=[each.pk for each in chosen], state=State.FAILED).update(
        state=State.PENDING, due_at=timezone.now(), diagnosis="", detail=""
    )


def cancel(chosen: list[Delivery]) -> int:
    """Give up undelivered deliveries that nobody is sending; return how many. Others are left as they are."""
    given_up = Delivery.objects.filter(pk__in=[each.pk for each in chosen], state__in=[State.PENDING, State.FAILED])
    return given_up.delete()[0]


def has_receipts(interface_id: int) -> bool:
    """Tell whether anything was delivered to an interface."""
    return Delivery.objects.filter(interface=interface_id, state=State.DELIVERED).exists()


def oldest_pending(interfaces: Collection[int]) -> dict[int, datetime]:
    """Return, for those interfaces that have something pending, when the oldest of it came in."""
    rows = Delivery.objects.filter(interface__in=interfaces, state__in=[State.PENDING, State.SENDING])
    return dict(rows.order_by().values_list("interface").annotate(Min("report__ingested_at")))


def tally(interfaces: Collection[int]) -> dict[int, Counter[State]]:
    """Count, for each interface, what is pending or being sent, what failed, and what was delivered in 24 hours."""
    counts: dict[int, Counter[State]] = {interface: Counter() for interface in interfaces}
    open_rows = Delivery.objects.filter(
        interface__in=interfaces, state__in=[State.PENDING, State.SENDING, State.FAILED]
    )
    recent = Delivery.objects.filter(
        interface__in=interfaces, state=State.DELIVERED, delivered_at__gte=timezone.now() - timedelta(hours=24)
    )
    for rows in (open_rows, recent):
        for interface, state, number in rows.order_by().values_list("interface", "state").annotate(Count("pk")):
            counts[interface][State.PENDING if state == State.SENDING else State(state)] += number
    return counts
