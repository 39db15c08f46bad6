from typing import Any

import pytest

from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import S3Interface

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


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"access_key_id": "KEY WITH BLANK"}, "access_key_id", "blank"),
        ({"secret_access_key": "SEC\nRET"}, "secret_access_key", "line break"),
        ({"secret_access_key": ""}, "secret_access_key", "required"),
        ({"bucket_name": "s3://reports"}, "bucket_name", "without s3://"),
        ({"bucket_name": "a"}, "bucket_name", "3 to 255"),
        ({"bucket_name": "reports/2026"}, "bucket_name", "without a folder"),
        ({"endpoint_url": "minio:9000"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "ftp://minio"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://host:port"}, "endpoint_url", "https://host"),
        ({"endpoint_url": "https://user:pw@host"}, "endpoint_url", "fields of their own"),
        ({"endpoint_url": "https://host/reports"}, "endpoint_url", "Enter https://host alone"),
        ({"endpoint_url": "https://host?x=1"}, "endpoint_url", "Enter https://host alone"),
        ({"endpoint_url": ""}, "endpoint_url", "needs its endpoint"),
        ({"provider": "aws", "endpoint_url": ""}, "region", "needs the bucket's region"),
        ({"key_prefix": "/reports"}, "key_prefix", "slash"),
        ({"object_lock_mode": "GOVERNANCE"}, "retention_days", "how many days"),
        ({"kms_key_id": "key-1"}, "kms_key_id", "aws:kms only"),
    ],
)
def test_each_mistake_is_named_at_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    found = errors(**changes)
    assert list(found) == [field]
    assert words in found[field]


def test_a_slash_at_the_endpoint_s_end_and_blanks_around_a_key_are_taken_off() -> None:
    form = S3InterfaceForm(FILLED | {"endpoint_url": "http://minio:9000/", "access_key_id": " KEY "})
    assert form.is_valid()
    assert form.cleaned_data["endpoint_url"] == "http://minio:9000"
    assert form.cleaned_data["access_key_id"] == "KEY"


def test_an_empty_secret_field_changes_nothing_and_shows_nothing() -> None:
    interface = S3InterfaceForm(FILLED).save()
    form = S3InterfaceForm(FILLED | {"secret_access_key": "", "region": "fra1"}, instance=interface)
    assert form.is_valid()
    assert form.changed_data == ["region"]
    form.save()
    assert S3Interface.objects.get().secret_access_key == "SECRET"
    assert "SECRET" not in str(S3InterfaceForm(instance=interface))
    assert "SECRET" not in str(S3InterfaceForm(FILLED | {"name": ""}, instance=interface))
