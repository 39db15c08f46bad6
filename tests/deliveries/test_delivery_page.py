"""The page of a delivery: its buttons, the permissions they need, their effects and messages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import reverse

from anaphora.deliveries import delivery_page, engine
from anaphora.deliveries.manifest_models import Irregularity
from anaphora.deliveries.models import Delivery, State
from delivery_s3.models import S3Interface
from tests.delivery_s3.test_admin import client_with, text_of  # noqa: F401  # a fixture
from tests.support.buckets import Bucket
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db

OPERATOR = ("view_delivery", "change_delivery", "view_report", "read_report")


@pytest.fixture
def delivered(interface: S3Interface) -> Delivery:
    make_policy(interface)
    make_report(b"%PDF-1.7 of sales")
    engine.deliver_due(interface.pk)
    return Delivery.objects.get(state=State.DELIVERED)


@pytest.fixture
def pending(interface: S3Interface) -> Delivery:
    make_policy(interface)
    make_report()
    return Delivery.objects.get(state=State.PENDING)


def failed(delivery: Delivery) -> Delivery:
    Delivery.objects.filter(pk=delivery.pk).update(state=State.FAILED, diagnosis="key_taken")
    return delivery


def press(client: Client, name: str, delivery: Delivery) -> str:
    """Press a button of the page; return the messages of the next page."""
    address = reverse(f"admin:deliveries_delivery_{name}", args=[delivery.pk])
    answer: Any = client.post(address, follow=True)
    assert answer.redirect_chain == [(delivery.admin_url, 302)]
    return " ".join(str(message) for message in answer.context["messages"])


def shown_buttons(client: Client, delivery: Delivery) -> set[str]:
    text = text_of(client.get(delivery.admin_url))
    return {name for name in ("Retry", "Verify now", "Open report", "Cancel delivery") if f" {name}" in text}


def test_the_buttons_fit_the_state(client_with: Callable[..., Client], delivered: Delivery) -> None:  # noqa: F811
    client = client_with(*OPERATOR)
    make_report()
    waiting = Delivery.objects.get(state=State.PENDING)
    assert shown_buttons(client, delivered) == {"Verify now", "Open report"}
    assert shown_buttons(client, waiting) == {"Cancel delivery", "Open report"}
    assert shown_buttons(client, failed(waiting)) == {"Retry", "Cancel delivery", "Open report"}


def test_a_user_who_may_only_view_sees_no_buttons_and_cannot_use_them(
    client_with: Callable[..., Client],  # noqa: F811
    delivered: Delivery,
) -> None:
    client = client_with("view_delivery")
    assert shown_buttons(client, delivered) == set()
    for name in ("retry", "cancel", "verify"):
        address = reverse(f"admin:deliveries_delivery_{name}", args=[delivered.pk])
        assert client.post(address).status_code == 403
    assert not LogEntry.objects.exists()


def test_buttons_need_a_post_request(admin_client: Client, delivered: Delivery) -> None:
    for name in ("retry", "verify"):
        address = reverse(f"admin:deliveries_delivery_{name}", args=[delivered.pk])
        assert admin_client.get(address).status_code == 405
    assert admin_client.post(reverse("admin:deliveries_delivery_retry", args=[0])).status_code == 403


def test_retry_makes_a_failed_delivery_pending(admin_client: Client, pending: Delivery) -> None:
    assert "only a failed delivery" in press(admin_client, "retry", pending)
    assert "pending again" in press(admin_client, "retry", failed(pending))
    pending.refresh_from_db()
    assert (pending.state, pending.diagnosis) == (State.PENDING, "")
    assert [each.get_change_message() for each in LogEntry.objects.all()] == ["Retried."]


def test_cancel_asks_for_confirmation(admin_client: Client, pending: Delivery) -> None:
    address = reverse("admin:deliveries_delivery_cancel", args=[pending.pk])
    assert "1 delivery will be cancelled" in text_of(admin_client.get(address))
    pending.refresh_from_db()
    assert pending.state == State.PENDING
    assert "is cancelled" in press(admin_client, "cancel", pending)
    pending.refresh_from_db()
    assert pending.state == State.CANCELLED
    assert "Not cancelled" in press(admin_client, "cancel", pending)


class TestVerifyNow:
    def test_the_same_object(self, admin_client: Client, delivered: Delivery) -> None:
        said = press(admin_client, "verify", delivered)
        assert "all 17 bytes were read" in said
        assert [each.get_change_message() for each in LogEntry.objects.all()] == ["Verified: same."]
        assert not Irregularity.objects.exists()

    def test_a_large_object_is_not_read(
        self, admin_client: Client, delivered: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery_page, "MAX_READ", 16)
        assert "The content was not read" in press(admin_client, "verify", delivered)

    def test_a_missing_and_a_changed_object(self, admin_client: Client, delivered: Delivery, bucket: Bucket) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=delivered.object_key, Body=b"tampered")
        assert "The object has changed" in press(admin_client, "verify", delivered)
        bucket.client.delete_object(Bucket=bucket.name, Key=delivered.object_key)
        assert "The object is missing" in press(admin_client, "verify", delivered)
        assert Irregularity.objects.count() == 2

    def test_an_object_that_cannot_be_read(self, admin_client: Client, delivered: Delivery) -> None:
        S3Interface.objects.update(secret_access_key="another")
        said = press(admin_client, "verify", delivered)
        assert "The object cannot be read" in said
        assert "s3:GetObject" in said
        assert not Irregularity.objects.exists()

    def test_an_interface_that_cannot_be_used(self, admin_client: Client, delivered: Delivery) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE delivery_s3_s3interface SET secret_access_key = %s", [b"nonsense"])
        assert "The object cannot be read" in press(admin_client, "verify", delivered)

    def test_nothing_is_stored_yet(self, admin_client: Client, pending: Delivery) -> None:
        assert "Not verified" in press(admin_client, "verify", pending)
