"""Each option of an interface has an effect on the stored object."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from anaphora.deliveries.engine import deliver_due
from anaphora.deliveries.models import Delivery, State
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.servers import S3Server

pytestmark = pytest.mark.django_db


def deliver(bucket: Bucket, **options: Any) -> Delivery:
    """Deliver one report through an interface with these options; return its receipt."""
    interface = make_interface(bucket.server, bucket.name, **options)
    make_policy(interface)
    make_report(b"%PDF-1.7 content")
    drained = deliver_due(interface.pk)
    delivery = Delivery.objects.get()
    assert delivery.state == State.DELIVERED, drained.diagnoses
    return delivery


def held(bucket: Bucket, delivery: Delivery) -> Any:
    """Return the metadata of the stored object."""
    assert bucket.keys() == [delivery.object_key]
    assert bucket.read(delivery.object_key) == b"%PDF-1.7 content"
    return bucket.client.head_object(Bucket=bucket.name, Key=delivery.object_key)


@pytest.fixture
def lockable(s3: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    return make_bucket(s3, ObjectLockEnabledForBucket=True)


@pytest.mark.ceph
def test_the_prefix_and_what_describes_the_report(bucket: Bucket) -> None:
    delivery = deliver(bucket, key_prefix="reports/finance/")
    head = held(bucket, delivery)
    assert delivery.object_key.startswith("reports/finance/sales/2026/03/01/20260301T120000Z_")
    assert head["ContentType"] == "application/pdf"
    assert head["Metadata"]["dashboard"] == "sales"
    assert head["Metadata"]["sha256"] == delivery.sha256


@pytest.mark.ceph
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_addressing_style(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    """Resolve s3.localhost, the host name of Ceph, even if the DNS of the machine does not."""
    resolve, asked = socket.getaddrinfo, set()

    def local(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.add(host)
        return resolve("127.0.0.1" if str(host).endswith("s3.localhost") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    endpoint = bucket.server.endpoint.replace("127.0.0.1", "s3.localhost")
    held(bucket, deliver(bucket, addressing_style=style, endpoint_url=endpoint))
    name = f"{bucket.name}.s3.localhost" if style == "virtual" else "s3.localhost"
    assert name in {host for host in asked if str(host).endswith("s3.localhost")}


@pytest.mark.ceph
def test_encryption_with_a_key(bucket: Bucket) -> None:
    head = held(bucket, deliver(bucket, server_side_encryption="aws:kms", kms_key_id="test-key"))
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == "test-key"


@pytest.mark.ceph
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_the_lock_counts_from_the_delivery(lockable: Bucket, mode: str) -> None:
    before = datetime.now(UTC)
    delivery = deliver(lockable, object_lock_mode=mode, retention_days=3)
    head = held(lockable, delivery)
    assert head["ObjectLockMode"] == mode
    assert head["ObjectLockRetainUntilDate"] == delivery.retain_until
    assert delivery.retain_until is not None
    assert (
        timedelta(0) <= delivery.retain_until - before.replace(microsecond=0) - timedelta(days=3) < timedelta(minutes=1)
    )
    with pytest.raises(lockable.client.exceptions.ClientError, match="AccessDenied"):
        lockable.client.delete_object(Bucket=lockable.name, Key=delivery.object_key, VersionId=delivery.version_id)


@pytest.mark.ceph
def test_the_storage_class(bucket: Bucket) -> None:
    listed = bucket.client.list_objects_v2
    deliver(bucket, storage_class="STANDARD")
    assert [each["StorageClass"] for each in listed(Bucket=bucket.name)["Contents"]] == ["STANDARD"]


@pytest.mark.ceph
def test_trust_in_the_endpoint_s_own_certificate(bucket: Bucket) -> None:
    values = servers.ceph_values()
    certificate = Path(values["S3_CA"]).read_text()
    held(bucket, deliver(bucket, endpoint_url=values["S3_ENDPOINT_TLS"], ca_bundle=certificate))


@pytest.mark.ceph
def test_a_role(bucket: Bucket) -> None:
    values = servers.ceph_values()
    delivery = deliver(
        bucket,
        endpoint_url=values["S3_ENDPOINT_STS"],
        access_key_id=values["W_AK"],
        secret_access_key=values["W_SK"],
        role_arn=values["ROLE_ARN"],
    )
    assert bucket.keys() == [delivery.object_key]
    assert delivery.integrity


def test_encryption_with_the_store_s_keys_and_a_storage_class(
    moto: S3Server, make_bucket: Callable[..., Bucket]
) -> None:
    """Ceph 16 supports only its own KMS keys and one storage class."""
    bucket = make_bucket(moto)
    head = held(bucket, deliver(bucket, server_side_encryption="AES256", storage_class="STANDARD_IA"))
    assert head["ServerSideEncryption"] == "AES256"
    assert head["StorageClass"] == "STANDARD_IA"
