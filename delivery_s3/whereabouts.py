"""What this delivery app answers when reports ask where they are."""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.urls import reverse

from anaphora.reports.archives import Whereabouts
from delivery_s3.models import Delivery, diagnosis_of


def whereabouts(reports: Collection[UUID]) -> dict[UUID, list[Whereabouts]]:
    """Return the deliveries of the reports, by interface name, from one query."""
    found: dict[UUID, list[Whereabouts]] = defaultdict(list)
    rows = Delivery.objects.filter(report__in=reports).select_related("interface").order_by("interface__name")
    for row in rows:
        diagnosis = diagnosis_of(row)
        found[row.report_id].append(
            Whereabouts(
                destination=row.interface.name,
                state=row.state,
                detail=diagnosis.title if diagnosis else row.object_key,
                url=reverse("admin:delivery_s3_delivery_change", args=[row.pk]),
            )
        )
    return found
