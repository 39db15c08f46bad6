"""Which reports a policy wants where, and making the deliveries that are missing. Making twice changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.utils import timezone

from anaphora.deliveries import schedules
from anaphora.deliveries.models import ArchivePolicy, Delivery, Priority, State
from anaphora.reports.models import Report

BATCH = 1000
"""Deliveries made by one statement."""


@dataclass(frozen=True)
class Outlook:
    """How far a policy is: reports, and their bytes where it matters."""

    missing: int
    missing_bytes: int
    """Reports that the policy covers and that have no delivery to its interface yet."""
    waiting: int
    delivered: int
    failed: int
    per_minute: float
    """Deliveries to the interface in the last five minutes."""

    @property
    def total(self) -> int:
        """All reports that the policy covers."""
        return self.missing + self.waiting + self.delivered + self.failed

    @property
    def remaining(self) -> timedelta | None:
        """How long what is left will take at the present pace; None where there is none."""
        left = self.missing + self.waiting
        if not left:
            return timedelta(0)
        return timedelta(minutes=left / self.per_minute) if self.per_minute else None


def covered(policy: ArchivePolicy) -> QuerySet[Report]:
    """Return the reports of the policy's dashboards."""
    dashboards = list(policy.dashboards.values_list("pk", flat=True))
    return Report.objects.filter(dashboard__in=dashboards) if dashboards else Report.objects.all()


def missing(policy: ArchivePolicy) -> QuerySet[Report]:
    """Return those that have no delivery to its interface."""
    there = Delivery.objects.filter(report=OuterRef("pk"), interface=policy.interface_id)
    return covered(policy).filter(~Exists(there))


def outlook(policy: ArchivePolicy) -> Outlook:
    """Count how far the policy is."""
    left = missing(policy).aggregate(number=Count("pk"), size=Sum("size"))
    of_policy = Delivery.objects.filter(interface=policy.interface_id, report__in=covered(policy).order_by())
    states = dict(of_policy.order_by().values_list("state").annotate(Count("pk")))
    recent = Delivery.objects.filter(
        interface=policy.interface_id,
        state=State.DELIVERED,
        delivered_at__gte=timezone.now() - timedelta(minutes=5),
    )
    return Outlook(
        missing=left["number"],
        missing_bytes=left["size"] or 0,
        waiting=states.get(State.PENDING, 0) + states.get(State.SENDING, 0),
        delivered=states.get(State.DELIVERED, 0),
        failed=states.get(State.FAILED, 0),
        per_minute=recent.count() / 5,
    )


def create_missing(policy: ArchivePolicy, priority: Priority = Priority.BACKFILL) -> Iterator[int]:
    """Make the missing deliveries, the newest reports first; yield how many after each batch.

    It may be left at any point, and begun again: what is there stays.
    """
    last: datetime | None = None
    while True:
        rows = missing(policy).order_by("-rendered_at", "-pk")
        if last is not None:
            rows = rows.filter(rendered_at__lte=last)
        found = list(rows.values_list("rendered_at", "pk")[:BATCH])
        if not found:
            return
        Delivery.objects.bulk_create(
            [Delivery(report_id=pk, interface_id=policy.interface_id, priority=priority) for _, pk in found],
            ignore_conflicts=True,
        )
        last = found[-1][0]
        yield len(found)


def run_scheduled(now: datetime) -> list[int]:
    """Keep the schedules: make what is missing for each policy with a run due; return their interfaces' ids.

    Any number of processes may do so at the same time. A run that was missed, because nothing ran, is made up for once.
    """
    interfaces = []
    scheduled = ArchivePolicy.objects.filter(enabled=True, schedule__isnull=False).select_related("schedule")
    for policy in scheduled:
        assert policy.schedule is not None
        due = schedules.latest(policy.schedule, after=policy.ran_at, until=now)
        if due is None:
            continue
        for _ in create_missing(policy, Priority.FRESH):
            pass
        # Not before: should this process die in between, the next one goes on.
        ArchivePolicy.objects.filter(pk=policy.pk, ran_at__lt=due).update(ran_at=due)
        interfaces.append(policy.interface_id)
    return interfaces
