"""The list of reports: its filter by the states of their deliveries."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support.factories import NOON, make_report

pytestmark = pytest.mark.django_db


@pytest.fixture
def reports() -> dict[str, Report]:
    """One report per combination of states at two interfaces, by the states' names."""
    interfaces = [S3Interface.objects.create(name=name, bucket_name="reports") for name in ("Frankfurt", "Dublin")]
    combinations: list[tuple[State, ...]] = [
        (),
        (State.PENDING,),
        (State.FAILED,),
        (State.CANCELLED,),
        (State.DELIVERED,),
        (State.DELIVERED, State.FAILED),
        (State.PENDING, State.FAILED),
    ]
    made = {}
    for number, states in enumerate(combinations):
        report = make_report(rendered_at=NOON + timedelta(hours=number))
        receipt: dict[str, Any] = {"object_key": "key", "size": 1, "delivered_at": NOON}
        for interface, state in zip(interfaces, states, strict=False):
            more = receipt if state == State.DELIVERED else {}
            Delivery.objects.create(report=report, interface=interface, state=state, **more)
        made[" ".join(states)] = report
    return made


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("no", {"", "pending", "failed", "cancelled", "pending failed"}),
        ("waiting", {"pending", "pending failed"}),
        ("failed", {"failed", "pending failed"}),
        ("cancelled", {"cancelled"}),
        ("uncovered", {""}),
        ("yes", {"delivered", "delivered failed"}),
        ("partly", {"delivered failed"}),
    ],
)
def test_reports_are_filtered_by_the_states_of_their_deliveries(
    admin_client: Client, reports: dict[str, Report], chosen: str, expected: set[str]
) -> None:
    page: Any = admin_client.get(reverse("admin:reports_report_changelist"), {"archived": chosen})
    found = set(page.context["cl"].result_list)
    assert {name for name, report in reports.items() if report in found} == expected
