"""The form field of a schedule: stored values, errors, previews and permissions."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule

from anaphora.deliveries import schedules
from anaphora.deliveries.models import ArchivePolicy
from delivery_s3.models import S3Interface
from tests.delivery_s3.test_admin import client_with, text_of  # noqa: F401  # a fixture
from tests.support.factories import make_policy

pytestmark = pytest.mark.django_db

BERLIN = {"schedule_zone": "Europe/Berlin"}


@pytest.fixture
def interface(db: None) -> S3Interface:
    return S3Interface.objects.create(name="Archive", bucket_name="reports")


def save(client: Client, interface: S3Interface, policy: Any = None, **schedule: str) -> Any:
    """Save the form of a policy; return the response."""
    name = "deliveries_archivepolicy_change" if policy else "deliveries_archivepolicy_add"
    form = {"name": "all", "interface": str(interface.pk), "enabled": "on"} | BERLIN
    return client.post(
        reverse(f"admin:{name}", args=[policy.pk] if policy else []),
        form | {f"schedule_{part}": value for part, value in schedule.items()},
    )


def stored() -> str:
    schedule = ArchivePolicy.objects.get().schedule
    return schedules.describe(schedule) if schedule else ""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"when": "hourly", "minute": "15"}, "every hour at minute 15 (Europe/Berlin)"),
        ({"when": "daily", "time": "06:30"}, "daily at 06:30 (Europe/Berlin)"),
        ({"when": "weekly", "weekday": "0", "time": "23:05"}, "weekly on Sunday at 23:05 (Europe/Berlin)"),
        ({"when": "crontab", "expression": "*/10 8-18  * * 1-5"}, "crontab */10 8-18 * * 1-5 (Europe/Berlin)"),
        ({"when": ""}, ""),
        ({}, ""),
    ],
)
def test_a_chosen_schedule_is_stored_and_shown_again(
    admin_client: Client, interface: S3Interface, chosen: dict[str, str], expected: str
) -> None:
    assert save(admin_client, interface, **chosen).status_code == 302
    assert stored() == expected
    policy = ArchivePolicy.objects.get()
    form: Any = admin_client.get(reverse("admin:deliveries_archivepolicy_change", args=[policy.pk])).context
    again = form["adminform"].form["schedule"].subwidgets[0].data["subwidgets"]
    value = {each["name"].removeprefix("schedule_"): each["value"] for each in again}
    for name, text in chosen.items():
        assert "".join(value[name] if isinstance(value[name], list) else [value[name]]) == " ".join(text.split())
    admin_client.post(form["request"].path, {"name": "all", "interface": str(interface.pk)} | _as_posted(again))
    assert stored() == expected


def _as_posted(subwidgets: list[dict[str, Any]]) -> dict[str, str]:
    values = {each["name"]: each["value"] for each in subwidgets}
    return {name: value[0] if isinstance(value, list) else value or "" for name, value in values.items()}


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ({"when": "hourly", "minute": ""}, "Minute: enter a number from 0 to 59"),
        ({"when": "hourly", "minute": "60"}, "less than or equal to 59"),
        ({"when": "daily", "time": ""}, "Time: enter a time"),
        ({"when": "crontab", "expression": "0 6 * *"}, "Enter five fields"),
        ({"when": "crontab", "expression": "0 25 * * *"}, "correct its hour"),
        ({"when": "crontab", "expression": "0 6 31 2 *"}, "it would never run"),
        ({"when": "yearly"}, "not one of the available choices"),
    ],
)
def test_an_invalid_schedule_is_explained(
    admin_client: Client, interface: S3Interface, chosen: dict[str, str], problem: str
) -> None:
    assert problem in text_of(save(admin_client, interface, **chosen))
    assert not ArchivePolicy.objects.exists()
    assert not CrontabSchedule.objects.exists()


def test_policies_with_the_same_schedule_share_a_row(admin_client: Client, interface: S3Interface) -> None:
    row = CrontabSchedule.objects.create(minute="0", hour="6", timezone="Europe/Berlin")
    save(admin_client, interface, when="daily", time="06:00")
    assert ArchivePolicy.objects.get().schedule == row
    assert CrontabSchedule.objects.count() == 1


def test_an_unchanged_crontab_keeps_its_row(admin_client: Client, interface: S3Interface) -> None:
    row = CrontabSchedule.objects.create(minute="0, 30", hour="6", day_of_week="mon-fri", timezone="Asia/Tokyo")
    policy = make_policy(interface, schedule=row)
    page = admin_client.get(reverse("admin:deliveries_archivepolicy_change", args=[policy.pk]))
    assert 'value="0,30 6 * * mon-fri"' in page.content.decode()
    save(admin_client, interface, policy, when="crontab", expression="0,30 6 * * mon-fri", zone="Asia/Tokyo")
    assert ArchivePolicy.objects.get().schedule == row
    assert list(CrontabSchedule.objects.all()) == [row]


def test_the_page_shows_the_next_three_runs(admin_client: Client, interface: S3Interface) -> None:
    row = CrontabSchedule.objects.create(minute="0", hour="6", timezone="Europe/Berlin")
    policy = make_policy(interface, schedule=row)
    page = admin_client.get(reverse("admin:deliveries_archivepolicy_change", args=[policy.pk])).content.decode()
    assert page.count(", 06:00 Europe/Berlin (") == 3


def test_the_next_runs_are_updated_while_the_user_chooses(admin_client: Client) -> None:
    def ask(**parts: str) -> Any:
        return admin_client.get(reverse("admin:deliveries_archivepolicy_next_runs"), parts).json()

    runs = ask(when="weekly", weekday="1", time="06:00", zone="UTC")["runs"]
    assert [run[:3] for run in runs] == ["Mon"] * 3
    assert ask() == {"runs": [], "problem": ""}
    assert "five fields" in ask(when="crontab", expression="x")["problem"]
    assert "Moon" in ask(when="daily", time="06:00", zone="The/Moon")["problem"]
    assert not CrontabSchedule.objects.exists()


def test_runs_in_words_follow_summer_time() -> None:
    schedule = CrontabSchedule(minute="0", hour="6", timezone="Europe/Berlin")
    runs = schedules.next_runs(schedule, datetime(2026, 3, 28, 0, tzinfo=UTC), 2)
    assert [schedules.in_words(run, schedule) for run in runs] == [
        "Sat 28 Mar 2026, 06:00 Europe/Berlin (05:00 UTC)",
        "Sun 29 Mar 2026, 06:00 Europe/Berlin (04:00 UTC)",
    ]


def test_a_user_who_may_only_view_sees_the_schedule_in_words(
    client_with: Callable[..., Client],  # noqa: F811
    interface: S3Interface,
) -> None:
    policy = make_policy(interface, schedule=CrontabSchedule.objects.create(minute="0", hour="6", timezone="UTC"))
    client = client_with("view_archivepolicy")
    text = text_of(client.get(reverse("admin:deliveries_archivepolicy_change", args=[policy.pk])))
    assert "daily at 06:00 (UTC)" in text
    assert ", 06:00 UTC" in text


def test_crontabs_have_no_admin_pages(admin_client: Client) -> None:
    assert not admin.site.is_registered(CrontabSchedule)
    assert "__add" not in text_of(admin_client.get(reverse("admin:deliveries_archivepolicy_add")))
