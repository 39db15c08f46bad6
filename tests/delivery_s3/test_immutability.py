"""The immutability check detects what somebody with the interface's key could do, and never touches a report."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest

from anaphora.deliveries import irregularities, protection, tasks
from anaphora.deliveries.destinations import Protection, ProtectionGrade
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.secret import Secret
from delivery_s3 import immutability
from delivery_s3.connection import Connection
from delivery_s3.connection_test import services
from delivery_s3.models import S3Interface
from delivery_s3.storage import S3Destination
from tests.support import servers
from tests.support.archives import FIRST, deliver_on, keys, write
from tests.support.buckets import Bucket
from tests.support.factories import make_connection, make_policy
from tests.support.servers import Fault, S3Server

LOCK: dict[str, Any] = {"object_lock_mode": "GOVERNANCE", "retention_days": 900}


def check(connection: Connection, prefix: str = "") -> Protection:
    return immutability.check(S3Destination(connection), prefix=prefix, now=datetime.datetime.now(datetime.UTC))


@pytest.fixture
def lockable(s3: S3Server, moto: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    return make_bucket(moto if s3.kind == "rclone" else s3, ObjectLockEnabledForBucket=True)


def test_a_plain_bucket_is_unprotected_and_the_check_leaves_nothing(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="reports/report.pdf", Body=b"report")
    found = check(make_connection(bucket.server, bucket.name), "reports/")
    assert found.grade is ProtectionGrade.UNPROTECTED
    assert found.attempts["overwrite"] == "accepted"
    assert "Enable versioning or Object Lock" in found.advice
    assert bucket.keys() == ["reports/report.pdf"]
    assert bucket.read("reports/report.pdf") == b"report"


def test_versions_that_the_key_may_delete_are_versioned_only(moto: S3Server, versioned_bucket: Bucket) -> None:
    found = check(make_connection(moto, versioned_bucket.name))
    assert found.grade is ProtectionGrade.VERSIONED
    assert found.attempts["delete the version"] == "accepted"
    assert "s3:DeleteObjectVersion" in found.advice


def test_compliance_is_locked_by_the_store(lockable: Bucket) -> None:
    lock = LOCK | {"object_lock_mode": "COMPLIANCE"}
    found = check(make_connection(lockable.server, lockable.name, **lock))
    assert found.attempts["delete the version"].startswith("refused")
    if lockable.server.kind == "moto":  # it allows everybody to shorten the retention
        assert found.grade is ProtectionGrade.VERSIONED
        assert "shorten the retention" in found.text
        return
    assert found.grade is ProtectionGrade.LOCKED
    assert found.attempts["shorten the retention"].startswith("refused")
    versions = lockable.client.list_object_versions(Bucket=lockable.name)["Versions"]
    first = min(versions, key=lambda each: each["LastModified"])
    until = lockable.client.head_object(Bucket=lockable.name, Key=first["Key"], VersionId=first["VersionId"])
    assert until["ObjectLockRetainUntilDate"] < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)


def test_governance_that_the_key_can_bypass_is_detected(lockable: Bucket) -> None:
    found = check(make_connection(lockable.server, lockable.name, **LOCK))
    assert found.grade is ProtectionGrade.VERSIONED
    assert found.attempts["delete the version past GOVERNANCE"] == "accepted"
    assert "s3:BypassGovernanceRetention" in found.advice


def test_a_store_that_accepts_and_ignores_the_lock_is_detected(bucket: Bucket, s3: S3Server) -> None:
    if s3.kind != "rclone":
        pytest.skip("this one refuses a lock on a bucket without Object Lock")
    found = check(make_connection(bucket.server, bucket.name, **LOCK))
    assert found.grade is ProtectionGrade.UNPROTECTED
    assert "accepted the retention but does not enforce it" in found.text


def test_permissions_that_forbid_all_attacks(bucket: Bucket) -> None:
    puts = 0

    def first_put_alone(method: str, path: str) -> Fault:
        nonlocal puts
        puts += method == "PUT"
        return Fault.NONE if method == "PUT" and puts == 1 else Fault.ANSWER_403

    with servers.in_front_of(bucket.server, first_put_alone) as endpoint:
        found = check(make_connection(bucket.server, bucket.name, endpoint_url=endpoint, ca_bundle=""))
    assert found.grade is ProtectionGrade.FORBIDDEN
    assert set(found.attempts.values()) == {"refused (403)"}


@pytest.mark.ceph
def test_put_object_alone_on_a_locked_bucket(lockable: Bucket) -> None:
    values = servers.ceph_values()
    place = [f"arn:aws:s3:::{lockable.name}", f"arn:aws:s3:::{lockable.name}/*"]
    user = {"AWS": [values["W_ARN"]]}
    denied = ["s3:GetObject*", "s3:DeleteObject*", "s3:List*", "s3:BypassGovernanceRetention"]
    allowed = ["s3:PutObject", "s3:PutObjectRetention"]
    statements = [
        {"Effect": "Allow", "Action": allowed, "Principal": user, "Resource": place},
        {"Effect": "Deny", "Action": denied, "Principal": user, "Resource": place},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    lockable.client.put_bucket_policy(Bucket=lockable.name, Policy=policy)
    writer = {"access_key_id": values["W_AK"], "secret_access_key": Secret(values["W_SK"])}
    found = check(make_connection(lockable.server, lockable.name, **writer, **LOCK))
    assert found.grade in {ProtectionGrade.FORBIDDEN, ProtectionGrade.LOCKED}


@pytest.mark.django_db
class TestKept:
    def test_the_nightly_check_is_recorded_and_a_change_is_an_irregularity(
        self, interface: S3Interface, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks.check_immutability()
        assert S3Interface.objects.get().protection == {}, "the interface is not in use"
        make_policy(interface)
        tasks.check_immutability()
        assert S3Interface.objects.get().protection["grade"] == "unprotected"
        assert not Irregularity.objects.exists()
        protection.record(interface, S3Interface.objects.get().protection | {"grade": "locked"})
        event = Irregularity.objects.get()
        assert event.kind == irregularities.IMMUTABILITY_CHANGED
        assert event.facts == {"before": "unprotected", "now": "locked"}
        S3Interface.objects.update(bucket_name="there-is-none")
        tasks.check_immutability()
        assert "not checked" in caplog.text
        S3Interface.objects.update(bucket_name=bucket.name)

    def test_a_connection_test_includes_it_and_manifests_contain_the_result(
        self, interface: S3Interface, bucket: Bucket
    ) -> None:
        make_policy(interface)
        report = services.test_and_record(interface)
        step = next(each for each in report.steps if each.title == "Immutability")
        assert "Unprotected. Nothing protects" in step.text
        deliver_on(interface, FIRST)
        write(S3Interface.objects.get(), FIRST)
        said = json.loads(Manifest.objects.get().header)["protection"]
        assert said["last_check"]["grade"] == "unprotected"
        assert [key for key in keys(bucket) if key.startswith("immutability.check/")] == []
