"""What went otherwise than it should on a day: recorded here, listed in the next manifest of the interface."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.utils import timezone

from anaphora.deliveries.manifest_models import Irregularity
from anaphora.deliveries.models import Interface

FAILED, CANCELLED = "failed", "cancelled"
RUN_MISSED, DASHBOARD_LATE = "scheduled run missed", "dashboard late"
INDEX_REBUILT, DIFFERENCE_FOUND = "index rebuilt", "verification found differences"
IMMUTABILITY_CHANGED = "immutability changed"


def record_irregularity(
    kind: str, interface: Interface | None = None, *, at: datetime | None = None, **facts: Any
) -> None:
    """Record an irregularity of one interface; without one, of every interface that is in use.

    `facts` go into a public list: strings, numbers and booleans that say what it concerns, never a secret. `at` is when
    it happened; default: now.
    """
    interfaces = [interface] if interface else list(Interface.objects.filter(enabled=True))
    Irregularity.objects.bulk_create(
        Irregularity(interface_id=each.pk, kind=kind, at=at or timezone.now(), facts=facts) for each in interfaces
    )


class Undelivered(NamedTuple):
    """A delivery that is not, or no more, on its way: what the list of irregularities says of it."""

    interface_id: int
    report_id: UUID
    dashboard: str
    sha256: str
    diagnosis: str


def record_deliveries(kind: str, deliveries: Iterable[Undelivered]) -> None:
    """Record what became of deliveries."""
    Irregularity.objects.bulk_create(
        Irregularity(
            interface_id=each.interface_id,
            kind=kind,
            facts={
                "report_id": str(each.report_id),
                "dashboard": each.dashboard,
                "sha256": each.sha256,
                "diagnosis": each.diagnosis,
            },
        )
        for each in deliveries
    )
