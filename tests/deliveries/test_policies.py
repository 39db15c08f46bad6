"""Policies: schedules across both daylight saving time changes, backfills, and priorities."""

import io
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule
from kombu.exceptions import OperationalError

from anaphora.deliveries import policies, queue, schedules, tasks
from anaphora.deliveries.engine import deliver_due
from anaphora.deliveries.manifest_models import Irregularity
from anaphora.deliveries.models import ArchivePolicy, Delivery, Priority, State
from anaphora.reports.models import Dashboard
from anaphora.reports.timestamps import iso_instant
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db


def crontab(minute: str = "0", hour: str = "*", zone: str = "Europe/Berlin", **fields: Any) -> CrontabSchedule:
    return CrontabSchedule.objects.create(minute=minute, hour=hour, timezone=zone, **fields)


def runs(policy: ArchivePolicy, start: datetime, hours: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate sweeps every five minutes; return when the policy ran, in UTC."""
    ArchivePolicy.objects.update(ran_at=start)
    monkeypatch.setattr(policies, "create_missing", lambda policy, priority: iter([0]))
    found = []
    now = start
    while now < start + timedelta(hours=hours):
        now += timedelta(minutes=5)
        if policies.run_scheduled(now):
            found.append(now.strftime("%dT%H:%M"))
        assert policies.run_scheduled(now) == [], "a second beat at the same moment finds nothing to do"
    return found


SPRING, AUTUMN = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)
"""Midnight in Berlin on the days on which the clock is set ahead (at 2:00) and back (at 3:00)."""


@pytest.mark.parametrize(
    ("start", "minute", "hour", "expected"),
    [
        (SPRING, "30", "1", ["29T00:30"]),
        (SPRING, "30", "2", ["29T01:30"]),  # 2:30 does not exist: it runs at 3:30
        (SPRING, "0", "3", ["29T01:00"]),
        (SPRING, "0", "*", ["29T00:00", "29T01:00", "29T02:00", "29T03:00", "29T04:00"]),
        (AUTUMN, "30", "2", ["25T00:30"]),  # 2:30 occurs twice: it runs at the first
        (AUTUMN, "0", "3", ["25T02:00"]),
        (AUTUMN, "30", "*", ["24T22:30", "24T23:30", "25T00:30", "25T01:30", "25T02:30"]),
    ],
)
def test_each_run_happens_once_across_daylight_saving_time_changes(
    interface: S3Interface,
    monkeypatch: pytest.MonkeyPatch,
    start: datetime,
    minute: str,
    hour: str,
    expected: list[str],
) -> None:
    policy = make_policy(interface, schedule=crontab(minute, hour))
    assert runs(policy, start, 5, monkeypatch) == expected


def test_a_day_with_a_time_change_has_each_daily_run_once(
    interface: S3Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(interface, schedule=crontab("15", "0,2,12,23"))
    for start, hours in ((SPRING, 23), (AUTUMN, 25)):
        assert len(runs(policy, start, hours, monkeypatch)) == 4


def test_a_missed_run_is_made_up_for_once(interface: S3Interface) -> None:
    policy = make_policy(interface, schedule=crontab("0", "6", "UTC"))
    make_report()
    now = timezone.now().replace(hour=12)
    ArchivePolicy.objects.update(ran_at=now - timedelta(days=30))
    assert policies.run_scheduled(now) == [interface.pk]
    assert policies.run_scheduled(now) == []
    policy.refresh_from_db()
    assert policy.ran_at == now.replace(hour=6, minute=0, second=0, microsecond=0)
    assert Delivery.objects.count() == 1
    missed = Irregularity.objects.get()
    assert (missed.kind, missed.interface_id, missed.facts["policy"]) == (
        "scheduled run missed",
        interface.pk,
        policy.name,
    )
    first = (now - timedelta(days=29)).replace(hour=6, minute=0, second=0, microsecond=0)
    assert missed.facts["due"] == iso_instant(first)


def test_a_run_on_time_is_not_missed(interface: S3Interface) -> None:
    make_policy(interface, schedule=crontab("0", "6", "UTC"))
    six = timezone.now().replace(hour=6, minute=0, second=0, microsecond=0)
    ArchivePolicy.objects.update(ran_at=six - timedelta(days=1))
    assert policies.run_scheduled(six + timedelta(minutes=10)) == [interface.pk]
    assert not Irregularity.objects.exists()


@pytest.mark.parametrize("was", [{"enabled": False}, {"schedule": None}])
def test_a_policy_that_did_not_run_missed_nothing(interface: S3Interface, was: dict[str, Any]) -> None:
    policy = make_policy(interface, schedule=crontab("0", "6", "UTC"))
    ArchivePolicy.objects.update(ran_at=timezone.now() - timedelta(days=30), **was)
    policy.save()
    assert policies.run_scheduled(timezone.now()) == []
    assert not Irregularity.objects.exists()
    policy.name = "another name"
    ran_at = policy.ran_at
    policy.save()
    assert policy.ran_at == ran_at


def test_the_sweep_runs_a_scheduled_policy_at_its_time(interface: S3Interface, monkeypatch: pytest.MonkeyPatch) -> None:
    make_policy(interface, schedule=crontab("*", "*", "UTC"))
    make_report()
    assert not Delivery.objects.exists()
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) + timedelta(minutes=2))
    tasks.sweep()
    assert Delivery.objects.get().state == State.PENDING


def test_a_disabled_policy_keeps_no_schedule(interface: S3Interface) -> None:
    make_policy(interface, schedule=crontab("*", "*", "UTC"), enabled=False)
    make_report()
    assert policies.run_scheduled(timezone.now() + timedelta(hours=1)) == []


def test_the_next_run() -> None:
    zone = "Europe/Berlin"
    leap = crontab("0", "6", zone, day_of_month="29", month_of_year="2")
    assert schedules.next_run(leap, datetime(2026, 3, 1, tzinfo=UTC)) == datetime(2028, 2, 29, 5, tzinfo=UTC)
    never = crontab("0", "6", zone, day_of_month="31", month_of_year="2")
    assert schedules.next_run(never, datetime(2026, 3, 1, tzinfo=UTC)) is None
    sundays = crontab("0", "6", zone, day_of_week="0")
    assert schedules.next_run(sundays, datetime(2026, 3, 1, 5, tzinfo=UTC)) == datetime(2026, 3, 8, 5, tzinfo=UTC)
    assert (
        schedules.latest(sundays, after=datetime(2026, 3, 1, 5, tzinfo=UTC), until=datetime(2026, 3, 7, tzinfo=UTC))
        is None
    )


class TestBackfill:
    def test_a_new_interface_gets_what_came_in_before_it(self, interface: S3Interface) -> None:
        sales, other = make_report(), make_report(dashboard="stock")
        policy = make_policy(interface)
        policy.dashboards.add(Dashboard.objects.get(slug="sales"))
        out = io.StringIO()
        call_command("backfill", policy.name, "--dry-run", stdout=out)
        assert "1 reports" in out.getvalue()
        assert not Delivery.objects.exists()
        call_command("backfill", policy.name, stdout=out)
        assert "1 deliveries created" in out.getvalue()
        call_command("backfill", policy.name, stdout=out)
        assert "0 deliveries created" in out.getvalue()
        delivery = Delivery.objects.get()
        assert (delivery.report, delivery.priority) == (sales, Priority.BACKFILL)
        assert other not in policies.covered(policy)
        deliver_due(interface.pk)
        outlook = policies.coverage(policy)
        assert (outlook.delivered, outlook.missing, outlook.total) == (1, 0, 1)
        assert outlook.remaining == timedelta(0)

    def test_it_continues_where_it_was_stopped(self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policies, "BATCH", 3)
        for _ in range(10):
            make_report()
        policy = make_policy(interface)
        assert next(policies.backfill(policy)) == 3
        assert Delivery.objects.count() == 3
        assert list(policies.backfill(policy)) == [3, 3, 1]
        assert Delivery.objects.count() == 10

    def test_fresh_reports_go_first(self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(5):
            make_report()
        policy = make_policy(interface)
        list(policies.backfill(policy))
        fresh = make_report()

        first = queue.claim(interface.pk, uuid.uuid4(), 1)
        assert [delivery.report_id for delivery in first] == [fresh.pk]

    def test_only_a_backfill_makes_cancelled_deliveries_pending_again(self, interface: S3Interface) -> None:
        policy = make_policy(interface)
        make_report(content=b"%PDF-1.7 same")
        cancelled = Delivery.objects.get()
        queue.cancel([cancelled])
        make_report(content=b"%PDF-1.7 same")
        ArchivePolicy.objects.update(schedule=crontab("0", "6"), ran_at=timezone.now() - timedelta(days=2))
        assert policies.run_scheduled(timezone.now()) == [interface.pk]
        assert Delivery.objects.get().state == State.CANCELLED
        outlook = policies.coverage(policy)
        assert (outlook.cancelled, outlook.missing, outlook.waiting, outlook.failed, outlook.total) == (1, 0, 0, 0, 1)

        out = io.StringIO()
        call_command("backfill", policy.name, stdout=out)
        restored = Delivery.objects.get()
        assert (restored.pk, restored.state, restored.priority) == (cancelled.pk, State.PENDING, Priority.BACKFILL)
        assert "1 cancelled deliveries become pending again" in out.getvalue()

    def test_its_page_counts_cancelled_deliveries(self, admin_client: Client, interface: S3Interface) -> None:
        policy = make_policy(interface)
        make_report()
        queue.cancel(list(Delivery.objects.all()))
        address = reverse("admin:deliveries_archivepolicy_backfill", args=[policy.pk])
        page = admin_client.get(address).content.decode()
        assert "1 cancelled" in page
        assert 'value="Archive 1 report"' in page

    def test_an_unknown_policy_is_named(self) -> None:
        with pytest.raises(CommandError, match="no archive policy"):
            call_command("backfill", "nothing")

    def test_the_page_shows_missing_reports_and_progress(
        self, admin_client: Client, interface: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_report()
        policy = make_policy(interface, schedule=crontab("0", "6"))
        address = reverse("admin:deliveries_archivepolicy_backfill", args=[policy.pk])
        assert 'value="Archive 1 report"' in admin_client.get(address).content.decode()

        def refuse(policy_id: int) -> None:
            raise OperationalError("no route to the broker")

        monkeypatch.setattr(tasks.backfill, "delay", refuse)
        assert "The backfill was not started" in admin_client.post(address, follow=True).content.decode()
        monkeypatch.setattr(tasks.backfill, "delay", tasks.backfill)
        page = admin_client.post(address, follow=True).content.decode()
        assert "1 waiting or being sent" in page
        deliver_due(interface.pk)
        page = admin_client.get(address).content.decode()
        assert "1 of 1" in page
        assert "Nothing is missing" in page
        change = admin_client.get(reverse("admin:deliveries_archivepolicy_change", args=[policy.pk])).content.decode()
        assert address in change
        assert "06:00 Europe/Berlin" in change
        listed = admin_client.get(reverse("admin:deliveries_archivepolicy_changelist")).content.decode()
        assert "Europe/Berlin" in listed
