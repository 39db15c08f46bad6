"""Records irregularities: events that an auditor must know about. The interface's next manifest lists them."""

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
    """Record an irregularity of one interface or, without `interface`, of every enabled interface.

    `facts` describe the event by strings, numbers and booleans. They are published in the manifest, so they must not
    contain secrets. `at` is when the event happened; default: now.
    """
    interfaces = [interface] if interface else list(Interface.objects.filter(enabled=True))
    Irregularity.objects.bulk_create(
        Irregularity(interface_id=each.pk, kind=kind, at=at or timezone.now(), facts=facts) for each in interfaces
    )


class Undelivered(NamedTuple):
    """The facts that a manifest lists about a failed or cancelled delivery."""

    interface_id: int
    report_id: UUID
    dashboard: str
    sha256: str
    diagnosis: str


def record_deliveries(kind: str, deliveries: Iterable[Undelivered]) -> None:
    """Record an irregularity of this kind for each failed or cancelled delivery."""
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
