"""Late dashboards, and how pages show them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from anaphora.operations import lateness
from anaphora.operations.models import Expectation
from anaphora.reports.models import Dashboard
from tests.support.factories import make_report

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")


def daily(hour: int = 6) -> CrontabSchedule:
    """Return a schedule: every day at this hour in Berlin."""
    return CrontabSchedule.objects.create(minute="0", hour=str(hour), timezone=BERLIN)


def expect(slug: str = "sales", **changes: Any) -> Expectation:
    dashboard, _ = Dashboard.objects.get_or_create(slug=slug)
    values = {"since": datetime(2026, 2, 1, tzinfo=UTC), "grace_minutes": 60}
    return Expectation.objects.create(dashboard=dashboard, **(values | changes))


def late(now: datetime) -> bool:
    (state,) = lateness.states(now)
    return state.late


class TestBySchedule:
    def test_a_dashboard_is_late_after_the_grace_period_of_a_run(self) -> None:
        make_report(rendered_at=datetime(2026, 3, 1, 5, 0, 30, tzinfo=UTC))
        expect(schedule=daily())
        due = datetime(2026, 3, 2, 5, tzinfo=UTC)  # 06:00 in Berlin
        assert not late(due + timedelta(minutes=59))
        assert late(due + timedelta(minutes=61))
        (state,) = lateness.states(due + timedelta(days=3))
        assert (state.due, state.latest) == (due, datetime(2026, 3, 1, 5, 0, 30, tzinfo=UTC))

    def test_a_report_ends_it(self) -> None:
        make_report(rendered_at=datetime(2026, 3, 1, 5, tzinfo=UTC))
        expect(schedule=daily())
        now = datetime(2026, 3, 3, 12, tzinfo=UTC)
        assert late(now)
        make_report(rendered_at=datetime(2026, 3, 3, 11, tzinfo=UTC))
        assert not late(now)

    def test_a_report_rendered_a_moment_early_is_the_expected_one(self) -> None:
        make_report(rendered_at=datetime(2026, 3, 2, 4, 59, 50, tzinfo=UTC))
        expect(schedule=daily())
        assert not late(datetime(2026, 3, 2, 12, tzinfo=UTC))

    def test_an_old_report_ingested_late_does_not_count(self) -> None:
        expect(schedule=daily())
        make_report(rendered_at=datetime(2026, 2, 20, 5, tzinfo=UTC))
        assert late(datetime(2026, 3, 2, 12, tzinfo=UTC))

    def test_runs_before_the_expectation_began_are_not_expected(self) -> None:
        expect(schedule=daily(), since=datetime(2026, 3, 2, 8, tzinfo=UTC))
        assert not late(datetime(2026, 3, 2, 23, tzinfo=UTC))
        assert late(datetime(2026, 3, 3, 7, tzinfo=UTC))

    def test_the_schedule_follows_summer_time(self) -> None:
        make_report(rendered_at=datetime(2026, 3, 28, 5, tzinfo=UTC))
        expect(schedule=daily())
        (state,) = lateness.states(datetime(2026, 3, 29, 3, tzinfo=UTC))
        assert state.due == datetime(2026, 3, 29, 4, tzinfo=UTC)

    def test_a_schedule_without_runs_makes_no_dashboard_late(self) -> None:
        never = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="31", month_of_year="2")
        expect(schedule=never)
        assert not late(datetime(2030, 1, 1, tzinfo=UTC))


class TestAtLeastEvery:
    def test_a_dashboard_is_late_its_hours_after_the_latest_report(self) -> None:
        rendered_at = datetime(2026, 3, 1, 5, tzinfo=UTC)
        make_report(rendered_at=rendered_at)
        expect(every_hours=6)
        assert not late(rendered_at + timedelta(hours=6, minutes=59))
        assert late(rendered_at + timedelta(hours=7, minutes=1))

    def test_without_a_report_it_counts_from_the_beginning_of_the_expectation(self) -> None:
        begun = expect(every_hours=6).since
        assert not late(begun + timedelta(hours=6))
        assert late(begun + timedelta(hours=8))


class TestOneOfTheTwo:
    def test_a_schedule_or_hours_are_needed_and_not_both(self) -> None:
        dashboard = Dashboard.objects.create(slug="sales")
        Expectation(dashboard=dashboard, every_hours=6).clean()
        Expectation(dashboard=dashboard, schedule=daily()).clean()
        for both in ({}, {"every_hours": 6, "schedule": daily(7)}):
            with pytest.raises(ValidationError, match="but not both"):
                Expectation(dashboard=dashboard, **both).clean()

    def test_it_is_set_on_the_dashboard_s_page(self, admin_client: Client) -> None:
        dashboard = make_report().dashboard
        address = reverse("admin:reports_dashboard_change", args=[dashboard.pk])
        assert "at least every" in admin_client.get(address).text.lower()
        form = {"title": "Sales", "expectation-TOTAL_FORMS": "1", "expectation-INITIAL_FORMS": "0"}
        form |= {"expectation-0-every_hours": "6", "expectation-0-grace_minutes": "30"}
        assert admin_client.post(address, form).status_code == 302
        found = Expectation.objects.get(dashboard=dashboard)
        assert (found.every_hours, found.grace_minutes, found.schedule) == (6, 30, None)
        assert admin_client.post(address, {"title": "Other"}).status_code == 302
        assert Expectation.objects.count() == 1, "a request without the form keeps the expectation"


class TestTimeline:
    def test_says_that_a_dashboard_is_late(self, admin_client: Client) -> None:
        report = make_report(rendered_at=timezone.now().replace(microsecond=0) - timedelta(hours=3))
        address = reverse("timeline-as-of", args=[report.dashboard.slug])
        assert "late-note" not in admin_client.get(address).text
        expect(every_hours=1)
        assert "has not come" in admin_client.get(address).text

    def test_shows_the_days_of_missing_reports_as_gaps_after_the_last_one_too(self) -> None:
        now = timezone.now()
        dashboard = make_report(rendered_at=(now - timedelta(days=5)).replace(microsecond=0)).dashboard
        expect(schedule=daily(0), since=now - timedelta(days=30))
        first, last = (now - timedelta(days=40)).date(), now.date()
        days = lateness.expected_days(dashboard, first, last, BERLIN)
        assert days is not None
        assert (now - timedelta(days=2)).astimezone(BERLIN).date() in days
        assert (now - timedelta(days=35)).date() not in days

    def test_at_least_every_leaves_a_gap_from_when_it_was_due(self) -> None:
        now = timezone.now()
        dashboard = make_report(rendered_at=(now - timedelta(days=5)).replace(microsecond=0)).dashboard
        expect(every_hours=24, since=now - timedelta(days=30))
        days = lateness.expected_days(dashboard, date(now.year, 1, 1), now.date(), ZoneInfo("UTC"))
        assert days is not None
        assert min(days) == max((now - timedelta(days=4)).date(), date(now.year, 1, 1))

    def test_shows_nothing_for_a_dashboard_without_expectation(self) -> None:
        dashboard = make_report().dashboard
        assert lateness.expected_days(dashboard, date(2026, 1, 1), date(2026, 12, 31), BERLIN) is None
