from typing import Any

import pytest
from django.utils import timezone

from anaphora.deliveries.models import Delivery, State
from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import S3Interface
from tests.support.factories import make_report

pytestmark = pytest.mark.django_db

FILLED = {
    "name": "archive",
    "provider": "minio",
    "access_key_id": "KEY",
    "secret_access_key": "SECRET",
    "region": "",
    "bucket_name": "reports",
    "endpoint_url": "http://minio:9000",
    "addressing_style": "auto",
}


def errors(instance: S3Interface | None = None, **changes: Any) -> dict[str, str]:
    form = S3InterfaceForm(FILLED | changes, instance=instance)
    return {name: " ".join(str(message) for message in messages) for name, messages in form.errors.items()}


def test_the_six_fields_are_enough() -> None:
    assert errors() == {}


def test_the_machine_s_role_needs_no_keys() -> None:
    assert errors(credentials="machine", access_key_id="", secret_access_key="") == {}
    assert set(errors(access_key_id="", secret_access_key="")) == {"access_key_id", "secret_access_key"}
    assert errors(role_arn="arn:aws:iam::123456789012:role/teams/archive", external_id="partner-7") == {}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"access_key_id": "KEY WITH SPACE"}, "access_key_id", "space"),
        ({"secret_access_key": "SEC\nRET"}, "secret_access_key", "line break"),
        ({"secret_access_key": ""}, "secret_access_key", "required"),
        ({"role_arn": "archive"}, "role_arn", "arn:aws:iam"),
        ({"external_id": "partner"}, "external_id", "Role to assume"),
        ({"role_arn": "arn:aws:iam::1:role/a", "external_id": "x"}, "external_id", "at least 2"),
        ({"bucket_name": "s3://reports"}, "bucket_name", "without s3://"),
        ({"bucket_name": "a"}, "bucket_name", "3 to 63"),
        ({"bucket_name": "Reports"}, "bucket_name", "lowercase letters"),
        ({"bucket_name": "re..ports"}, "bucket_name", "3 to 63"),
        ({"bucket_name": "192.168.0.1"}, "bucket_name", "not an IP address"),
        ({"bucket_name": "a", "provider": "other"}, "bucket_name", "3 to 255"),
        ({"region": "EU Central"}, "region", "lowercase letters"),
        ({"bucket_name": "reports/2026"}, "bucket_name", "without a folder"),
        ({"endpoint_url": "minio:9000"}, "endpoint_url", "Use https://minio:9000"),
        ({"endpoint_url": "ftp://minio"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://host:port"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://user:pw@host"}, "endpoint_url", "Access key ID"),
        ({"endpoint_url": "https://host/reports"}, "endpoint_url", "Use https://host<"),
        ({"endpoint_url": "https://host?x=1"}, "endpoint_url", "Use https://host<"),
        ({"endpoint_url": "https://reports.fra1.digitaloceanspaces.com"}, "endpoint_url", "Use https://fra1.digital"),
        ({"endpoint_url": "https://reports.s3.eu-central-003.backblazeb2.com"}, "endpoint_url", "Use https://s3.eu-c"),
        ({"endpoint_url": "http://s3.example.com"}, "endpoint_url", "Use https://s3.example.com"),
        ({"endpoint_url": ""}, "endpoint_url", "needs its endpoint"),
        ({"provider": "aws", "endpoint_url": ""}, "region", "needs the bucket's region"),
        ({"key_prefix": "/reports"}, "key_prefix", "slash"),
        ({"object_lock_mode": "GOVERNANCE"}, "retention_days", "how many days"),
        ({"ca_bundle": "my certificate"}, "ca_bundle", "BEGIN CERTIFICATE"),
        ({"kms_key_id": "key-1"}, "kms_key_id", "aws:kms only"),
    ],
)
def test_each_error_is_shown_at_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    found = errors(**changes)
    assert list(found) == [field]
    assert words in found[field]


@pytest.mark.parametrize(
    "url", ["http://localhost:9000", "http://192.168.1.5", "http://[fd00::1]:9000", "http://ceph.lan", "http://minio"]
)
def test_http_is_accepted_within_private_networks(url: str) -> None:
    assert errors(endpoint_url=url) == {}


def test_http_elsewhere_needs_confirmation() -> None:
    assert errors(endpoint_url="http://s3.example.com", allow_http="on") == {}


def test_a_new_access_key_id_needs_its_own_secret() -> None:
    interface = S3InterfaceForm(FILLED).save()
    assert list(errors(interface, access_key_id="OTHER", secret_access_key="")) == ["secret_access_key"]
    assert errors(interface, access_key_id="OTHER", secret_access_key="NEW") == {}


class TestWithReceipts:
    """An edit of an interface must not make the receipts of its deliveries wrong."""

    @pytest.fixture
    def interface(self) -> S3Interface:
        interface: S3Interface = S3InterfaceForm(FILLED).save()
        Delivery.objects.create(
            report=make_report(),
            interface=interface,
            state=State.DELIVERED,
            object_key="sales/x.pdf",
            size=1,
            delivered_at=timezone.now(),
        )
        return interface

    def test_the_bucket_of_an_interface_with_receipts_cannot_change(self, interface: S3Interface) -> None:
        form = S3InterfaceForm(FILLED | {"bucket_name": "another"}, instance=interface)
        assert form.is_valid()
        assert form.save().bucket_name == "reports"
        assert "create another interface" in str(form)

    def test_another_endpoint_must_be_confirmed_as_the_same_store(self, interface: S3Interface) -> None:
        moved = {"endpoint_url": "https://minio.example.com"}
        assert "Confirm below" in errors(interface, **moved)["endpoint_url"]
        assert errors(interface, **moved, same_store="on") == {}
        assert errors(S3Interface.objects.get(), region="fra1") == {}

    def test_without_receipts_no_confirmation_is_needed(self, interface: S3Interface) -> None:
        Delivery.objects.update(state=State.PENDING)
        assert errors(interface, endpoint_url="https://minio.example.com", bucket_name="another") == {}
        assert 'type="hidden" name="same_store"' in str(S3InterfaceForm(instance=interface))


def test_a_trailing_slash_and_spaces_around_a_key_are_removed() -> None:
    form = S3InterfaceForm(FILLED | {"endpoint_url": "http://minio:9000/", "access_key_id": " KEY "})
    assert form.is_valid()
    assert form.cleaned_data["endpoint_url"] == "http://minio:9000"
    assert form.cleaned_data["access_key_id"] == "KEY"


def test_an_empty_secret_field_changes_nothing_and_shows_nothing() -> None:
    interface = S3InterfaceForm(FILLED).save()
    form = S3InterfaceForm(FILLED | {"secret_access_key": "", "region": "fra1", "allow_http": "on"}, instance=interface)
    assert form.is_valid()
    assert form.changed_data == ["region"]
    form.save()
    assert S3Interface.objects.get().secret_access_key.reveal() == "SECRET"
    assert "SECRET" not in str(S3InterfaceForm(instance=interface))
    assert "SECRET" not in str(S3InterfaceForm(FILLED | {"name": ""}, instance=interface))
