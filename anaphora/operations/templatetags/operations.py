"""Template tags of operation: the counts in the header, late dashboards, gaps in the calendar, single sign-on."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.utils import timezone

from anaphora.operations import lateness, overview
from anaphora.reports.models import Dashboard
from anaphora.timeline.queries import Calendar

register = template.Library()


@register.simple_tag
def navigation_counts(user: User | AnonymousUser) -> dict[str, int]:
    """Return the numbers of problems beside the header's links."""
    return overview.navigation_counts(user) if user.is_staff else {}


@register.simple_tag
def calendar_gaps(dashboard: Dashboard, calendar: Calendar, zone: str) -> set[date]:
    """Return the days on which a report is missing: days without one on which the dashboard's expectation requires it.

    Before the expectation began, or without one: days without a report between days with reports.
    """
    gaps = {day.date for day in calendar.days if day.gap}
    days, viewer = [day.date for day in calendar.days], ZoneInfo(zone)
    if not days:
        return gaps
    expected = lateness.expected_days(dashboard, days[0], days[-1], viewer)
    began = lateness.began_on(dashboard, viewer) if expected is not None else None
    if expected is None or began is None:
        return gaps
    return {day for day in gaps if day < began} | (expected - {day.date for day in calendar.days if day.reports})


@register.inclusion_tag("operations/late.html")
def late(dashboard: Dashboard) -> dict[str, Any]:
    """Show that a dashboard is late, and since when."""
    found = lateness.state_of(dashboard, timezone.now())
    return {"state": found if found and found.late else None}


@register.simple_tag
def single_sign_on() -> str:
    """Return the name of the OpenID Connect provider; empty if none is set."""
    return settings.OIDC_NAME if settings.OIDC_ISSUER else ""
