"""Determines which dashboards are late: the expected report has not come, and the grace period is over."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from anaphora.deliveries import irregularities, policies, schedules
from anaphora.operations.models import Expectation
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.timestamps import iso_instant

EARLY = timedelta(minutes=5)
"""A report rendered up to this long before its time counts as the expected one, because clocks differ."""


@dataclass(frozen=True)
class State:
    """The expectation of a dashboard, and whether it is met."""

    dashboard: Dashboard
    latest: datetime | None
    """When its latest report was rendered."""
    due: datetime | None
    """When the next report after that was, or is, expected; None if the schedule has no further run."""
    late: bool


def states(now: datetime) -> list[State]:
    """Return the state of each dashboard that has an expectation. Runs one query."""
    return [_state(row, row.latest, now) for row in _rows().order_by("dashboard__slug")]


def state_of(dashboard: Dashboard, now: datetime) -> State | None:
    """Return the state of one dashboard; None if it has no expectation."""
    row = _rows().filter(dashboard=dashboard).first()
    return _state(row, row.latest, now) if row else None


def record(state: State) -> None:
    """Record that a dashboard is late, for the manifests of the interfaces that want its reports."""
    for interface in policies.interfaces_wanting(state.dashboard):
        irregularities.record_irregularity(
            irregularities.DASHBOARD_LATE,
            interface,
            dashboard=state.dashboard.slug,
            due=iso_instant(state.due) if state.due else "",
        )


def _rows() -> QuerySet[Any]:
    latest = Report.objects.filter(dashboard=OuterRef("dashboard")).order_by("-rendered_at").values("rendered_at")[:1]
    return Expectation.objects.select_related("dashboard", "schedule").annotate(latest=Subquery(latest))


def _state(expectation: Expectation, latest: datetime | None, now: datetime) -> State:
    due = _due(expectation, latest)
    late = due is not None and due + timedelta(minutes=expectation.grace_minutes) < now
    return State(expectation.dashboard, latest, due, late)


def _due(expectation: Expectation, latest: datetime | None) -> datetime | None:
    if expectation.schedule:
        after = max(latest + EARLY, expectation.since) if latest else expectation.since
        return schedules.next_run(expectation.schedule, after)
    return max(latest or expectation.since, expectation.since) + timedelta(hours=expectation.every_hours or 1)


def expected_days(dashboard: Dashboard, first: date, last: date, zone: ZoneInfo) -> set[date] | None:
    """Return the days, in `zone`, on which a report was expected and the grace period is over.

    Days before the expectation began are not included. None if the dashboard has no expectation.
    """
    expectation = Expectation.objects.select_related("dashboard", "schedule").filter(dashboard=dashboard).first()
    if expectation is None:
        return None
    until = timezone.now() - timedelta(minutes=expectation.grace_minutes)
    if expectation.schedule is None:
        latest = Report.objects.filter(dashboard=dashboard).order_by("-rendered_at").first()
        due = _due(expectation, latest.rendered_at if latest else None)
        start = max(due.astimezone(zone).date(), first) if due else last
        end = min(until.astimezone(zone).date(), last)
        return {start + timedelta(days=number) for number in range((end - start).days + 1)}
    begin = max(expectation.since, datetime(first.year, first.month, first.day, tzinfo=zone))
    end_of_span = min(until, datetime(last.year, last.month, last.day, tzinfo=zone) + timedelta(days=1))
    runs = schedules.runs(expectation.schedule, after=begin, until=end_of_span)
    return {run.astimezone(zone).date() for run in runs}


def began_on(dashboard: Dashboard, zone: ZoneInfo) -> date | None:
    """Return the day, in `zone`, on which the dashboard's expectation began; None if it has none."""
    expectation = Expectation.objects.filter(dashboard=dashboard).first()
    return expectation.since.astimezone(zone).date() if expectation else None
