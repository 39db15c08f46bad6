"""How many reports dashboards have, told at a cost that does not grow with their number."""

from collections.abc import Collection

from django.db.models import Count, Exists, OuterRef

from anaphora.reports.models import Dashboard, Report

MOST = 200
"""Beyond so many, reports are not counted."""


def report_counts(dashboards: Collection[int]) -> dict[int, str]:
    """Return, for each dashboard, the number of its reports; `over 200` where there are more. Two queries."""
    beyond = Report.objects.filter(dashboard=OuterRef("pk")).order_by("dashboard", "rendered_at")[MOST : MOST + 1]
    more = dict(Dashboard.objects.filter(pk__in=dashboards).order_by().values_list("pk", Exists(beyond)))
    few = [pk for pk, over in more.items() if not over]
    numbers = dict(Report.objects.filter(dashboard__in=few).order_by().values_list("dashboard").annotate(Count("pk")))
    return {pk: f"over {MOST}" if over else str(numbers.get(pk, 0)) for pk, over in more.items()}
