"""What went otherwise than it should on a day: recorded here, listed in the next manifest of the interface."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone

from anaphora.deliveries.manifest_models import Irregularity
from anaphora.deliveries.models import Delivery, Interface

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


def record_deliveries(kind: str, deliveries: Iterable[Delivery]) -> None:
    """Record what became of deliveries that are not, or no more, on their way. Needs their reports and dashboards."""
    Irregularity.objects.bulk_create(
        Irregularity(
            interface_id=each.interface_id,
            kind=kind,
            facts={
                "report_id": str(each.report_id),
                "dashboard": each.report.dashboard.slug,
                "sha256": each.report.sha256,
                "diagnosis": each.diagnosis,
            },
        )
        for each in deliveries
    )
