"""How many reports dashboards have and which is the latest, at a cost that does not grow with their number."""

from collections.abc import Collection
from datetime import datetime

from django.core.cache import cache
from django.db.models import Count, Exists, OuterRef, Subquery

from anaphora.reports.models import Dashboard, Report

COUNT_SECONDS = 60
"""For so long exact numbers are not counted anew: a million reports take half a second."""

MOST = 200
"""Beyond so many, reports are not counted."""


def report_counts(dashboards: Collection[int]) -> dict[int, str]:
    """Return, for each dashboard, the number of its reports; `over 200` where there are more. Two queries."""
    return {pk: f"over {MOST}" if number is None else str(number) for pk, number in _few(dashboards).items()}


def exact_counts(dashboards: Collection[int]) -> dict[int, int]:
    """Return the number of reports of each dashboard; where it is over MOST, as it was up to COUNT_SECONDS ago."""
    many: dict[int, int] = cache.get(_COUNTED, {})
    numbers = _few([pk for pk in dashboards if pk not in many])
    if None in numbers.values():
        counted = Report.objects.order_by().values_list("dashboard").annotate(Count("pk"))
        many = {pk: number for pk, number in counted if number > MOST}
        cache.set(_COUNTED, many, COUNT_SECONDS)
    return {pk: many.get(pk) or numbers.get(pk) or 0 for pk in dashboards}


_COUNTED = "reports-of-each-dashboard"


def _few(dashboards: Collection[int]) -> dict[int, int | None]:
    """Return, for each dashboard, the number of its reports, None where it is over MOST. Two queries."""
    if not dashboards:
        return {}
    beyond = Report.objects.filter(dashboard=OuterRef("pk")).order_by("dashboard", "rendered_at")[MOST : MOST + 1]
    more = dict(Dashboard.objects.filter(pk__in=dashboards).order_by().values_list("pk", Exists(beyond)))
    few = [pk for pk, over in more.items() if not over]
    numbers = dict(Report.objects.filter(dashboard__in=few).order_by().values_list("dashboard").annotate(Count("pk")))
    return {pk: None if over else numbers.get(pk, 0) for pk, over in more.items()}


def dashboards_with_latest() -> list[tuple[int, str, str, datetime | None]]:
    """Return id, slug, title and the instant of the latest report of all dashboards, by slug; by an index."""
    newest = Report.objects.filter(dashboard=OuterRef("pk")).order_by("-rendered_at").values("rendered_at")[:1]
    return list(Dashboard.objects.order_by("slug").values_list("pk", "slug", "title", Subquery(newest)))
