"""The overview: what it shows to which user, and its number of queries."""

from datetime import UTC, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from anaphora import beat
from anaphora.celery import app
from anaphora.deliveries import engine, heartbeat
from anaphora.deliveries.models import Delivery, Role, State
from anaphora.operations import chart, first_steps
from anaphora.operations.models import Alert, DailyTotal, Expectation, Installation
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db

INDEX = "admin:index"


@pytest.fixture(autouse=True)
def all_run() -> None:
    for role in Role:
        heartbeat.note(role)


def shown(client: Client) -> str:
    return " ".join(client.get(reverse(INDEX)).text.split())


def viewer(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


class TestInterfaces:
    def test_a_working_one_has_its_numbers(self, admin_client: Client, interface: S3Interface) -> None:
        make_policy(interface)
        report = make_report()
        interface.test()
        assert engine.deliver_due(interface.pk).complete
        page = shown(admin_client)
        assert "working" in page
        assert "1 report<br>" in page
        assert f"{report.size} bytes" in page
        assert "Nothing needs attention." in page

    def test_a_failing_one_shows_the_reason_and_the_time(self, admin_client: Client, interface: S3Interface) -> None:
        S3Interface.objects.update(diagnosis="bucket_not_found", failures=1)
        began = timezone.now() - timedelta(hours=5)
        Alert.objects.create(key=f"interface:{interface.pk}", title="x", began_at=began)
        page = shown(admin_client)
        assert "paused: Bucket not found" in page
        assert f"since {began:%-d %b %Y, %H:%M} UTC" in page
        assert f'<a class="button" href="{interface.admin_url}">Open interface</a>' in page
        assert 'title="1 failing"' in page, "in the header"

    def test_one_never_tested_or_disabled_is_marked(self, admin_client: Client, interface: S3Interface) -> None:
        assert "never tested" in shown(admin_client)
        S3Interface.objects.update(enabled=False)
        assert "disabled" in shown(admin_client)

    def test_failed_deliveries_are_counted_and_linked_in_the_header(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        make_policy(interface)
        make_report()
        Delivery.objects.update(state=State.FAILED)
        page = shown(admin_client)
        assert 'title="1 failed"' in page
        assert f"1 delivery to {interface} failed" in page


class TestPeople:
    def test_without_permissions_see_nothing_of_it(self, client: Client, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        page = shown(viewer(client))
        assert "You have no permission to view anything here." in page
        assert interface.name not in page

    def test_who_sees_no_problems_is_not_told_that_there_are_none(
        self, client: Client, admin_client: Client, interface: S3Interface
    ) -> None:
        first_steps.finish()
        assert "Nothing needs attention." in shown(admin_client)
        for names in ((), ("view_report", "add_report"), ("view_delivery",), ("view_s3interface",)):
            User.objects.filter(username="viewer").delete()
            assert "Nothing needs attention." not in shown(viewer(client, *names))
        User.objects.filter(username="viewer").delete()
        assert "Nothing needs attention." in shown(viewer(client, "view_delivery", "view_s3interface"))

    def test_each_permission_shows_its_part(self, client: Client, interface: S3Interface) -> None:
        since = timezone.now() - timedelta(days=1)
        dashboard = make_report(dashboard="confidential").dashboard
        Expectation.objects.create(dashboard=dashboard, every_hours=1, since=since)
        page = shown(viewer(client, "view_delivery"))
        assert "Last 30 days" in page
        assert interface.name not in page
        assert "confidential" not in page
        user = User.objects.get(username="viewer")
        user.user_permissions.add(Permission.objects.get(codename="view_s3interface"))
        assert interface.name in shown(client)
        user.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
        assert "confidential" in shown(client)

    def test_without_staff_status_get_the_timeline(self, client: Client) -> None:
        client.force_login(User.objects.create_user("reader"))
        assert client.get("/")["Location"] == "/timeline/"
        assert client.get(reverse(INDEX)).status_code == 302


class TestChart:
    def test_shows_thirty_days_and_says_so_in_words(self, admin_client: Client, interface: S3Interface) -> None:
        today = timezone.now().astimezone(UTC).date()
        for age, reports in {0: 10, 1: 1_000_000, 29: 1, 30: 99}.items():
            DailyTotal.objects.create(
                interface=interface, day=today - timedelta(days=age), reports=reports, bytes=reports, failed=age == 1
            )
        found = chart.last_days(timezone.now())
        assert len(found.bars) == 30
        assert (found.archived, found.failed, found.highest) == (1_000_011, 1, 1_000_000)
        assert found.bars[0].height == 2, "a single report is visible next to a million"
        assert found.bars[-2].height == chart.HEIGHT
        page = shown(admin_client)
        assert "1000011 archived, 1 failed, at most 1000000 on one day." in page
        assert "As a table" in page

    def test_without_data_has_no_bars(self) -> None:
        assert all(bar.height == 0 for bar in chart.last_days(timezone.now()).bars)


class TestFirstSteps:
    def buttons(self, client: Client) -> str:
        page = shown(client)
        start = page.find('<ol class="first-steps">')
        return page[start : page.find("</ol>")] if start >= 0 else ""

    def test_each_is_ticked_off_when_done(self, admin_client: Client, interface: S3Interface) -> None:
        S3Interface.objects.all().delete()
        assert self.buttons(admin_client).count("✓") == 0
        interface.pk = interface.interface_ptr_id = None  # type: ignore[assignment]
        interface.save()
        assert self.buttons(admin_client).count("✓") == 1
        interface.test()
        assert self.buttons(admin_client).count("✓") == 2
        make_policy(interface)
        assert self.buttons(admin_client).count("✓") == 3
        make_report()
        assert self.buttons(admin_client).count("✓") == 4
        assert "waiting for a worker" in self.buttons(admin_client)
        assert engine.deliver_due(interface.pk).complete
        assert "The report is archived." in self.buttons(admin_client)
        answer = admin_client.get(reverse("admin:first_report"))
        assert answer["Location"] == reverse("timeline-as-of", args=["sales"])
        assert self.buttons(admin_client) == ""

    def test_an_installation_that_is_used_has_none(self, admin_client: Client, interface: S3Interface) -> None:
        make_policy(interface)
        for _ in range(first_steps.KNOWN):
            make_report()
        assert engine.deliver_due(interface.pk).complete
        assert self.buttons(admin_client) == ""
        assert Installation.get().first_steps_done_at is not None

    def test_are_shown_to_users_with_the_permissions(self, client: Client) -> None:
        assert self.buttons(viewer(client, "view_delivery")) == ""


class TestSettingsPage:
    def test_is_linked_only_for_those_who_find_something_there(self, client: Client) -> None:
        link = f'href="{reverse("admin:settings")}"'
        assert link not in shown(viewer(client, "view_report", "view_delivery"))
        User.objects.get(username="viewer").user_permissions.add(Permission.objects.get(codename="view_apitoken"))
        assert link in shown(client)

    def test_lists_the_configuration(self, admin_client: Client) -> None:
        page = admin_client.get(reverse("admin:settings")).text
        for name in ("deliveries_archivepolicy", "django_celery_beat_periodictask", "auth_group", "reports_dashboard"):
            assert reverse(f"admin:{name}_changelist") in page

    @pytest.mark.django_db(transaction=True)
    def test_the_product_s_own_periodic_tasks_are_read_only(self, admin_client: Client) -> None:
        beat.Scheduler(app=app)  # writes the tasks of the settings
        own = PeriodicTask.objects.get(name="look for due deliveries")
        other = PeriodicTask.objects.create(name="other", task="x", interval=own.interval)
        for task, fields in ((own, 0), (other, 1)):
            address = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
            page = admin_client.get(address)
            assert page.status_code == 200
            assert ('name="_save"' in page.text) == bool(fields)
        own_delete = reverse("admin:django_celery_beat_periodictask_delete", args=[own.pk])
        assert admin_client.post(own_delete, {"post": "yes"}).status_code == 403


def test_it_runs_the_same_number_of_queries_for_many_rows(
    admin_client: Client, interface: S3Interface, django_assert_num_queries: Any
) -> None:
    make_policy(interface)
    for number in range(5):
        S3Interface.objects.create(name=f"another {number}", bucket_name="b", diagnosis="bucket_not_found")
        dashboard = make_report(dashboard=f"d{number}").dashboard
        Expectation.objects.create(dashboard=dashboard, every_hours=1)
    Installation.get()
    first_steps.finish()
    with django_assert_num_queries(22):
        admin_client.get(reverse(INDEX))
