import json

import pytest

from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.commands import run_command
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[list[str], str]:
    out, problem = run_command("verify_archive", *arguments)
    return out.splitlines(), problem


@pytest.fixture
def delivered(interface: S3Interface) -> list[Delivery]:
    make_policy(interface)
    for number in range(3):
        make_report(f"report {number}".encode())
    engine.deliver_due(interface.pk)
    return list(Delivery.objects.order_by("pk"))


@pytest.mark.parametrize("options", [[], ["--full"]])
def test_an_archive_that_matches_its_receipts(delivered: list[Delivery], options: list[str]) -> None:
    assert run(*options) == (["3 same, 0 missing, 0 changed, 0 unreadable"], "")


def test_missing_and_changed_objects_are_named(delivered: list[Delivery], bucket: Bucket) -> None:
    bucket.client.delete_object(Bucket=bucket.name, Key=delivered[0].object_key)
    bucket.client.put_object(Bucket=bucket.name, Key=delivered[1].object_key, Body=b"tampered")
    lines, problem = run()
    assert lines[0].split()[0] == "missing"
    assert delivered[0].object_key in lines[0]
    assert lines[1].split()[0] == "changed"
    assert "ETag" in lines[1]
    assert lines[2] == "1 same, 1 missing, 1 changed, 0 unreadable"
    assert problem == "The archive differs from its receipts."


def test_json_output(delivered: list[Delivery], bucket: Bucket, interface: S3Interface) -> None:
    bucket.client.delete_object(Bucket=bucket.name, Key=delivered[0].object_key)
    lines, _ = run("--json", "--interface", interface.name)
    assert json.loads(lines[0])["object_key"] == delivered[0].object_key
    assert json.loads(lines[1]) == {"same": 2, "missing": 1, "changed": 0, "unreadable": 0}


def test_a_full_read_finds_what_a_forged_receipt_hides(delivered: list[Delivery], bucket: Bucket) -> None:
    Delivery.objects.filter(pk=delivered[0].pk).update(sha256="0" * 64)
    lines, problem = run("--full")
    assert "SHA-256" in lines[0]
    assert problem


def test_a_store_that_does_not_answer_makes_objects_unreadable(delivered: list[Delivery]) -> None:
    S3Interface.objects.update(endpoint_url=f"http://127.0.0.1:{servers.free_port()}")
    lines, problem = run()
    assert lines[-1] == "0 same, 0 missing, 0 changed, 3 unreadable"
    assert "Connection refused" in lines[0]
    assert problem


def test_the_version_in_the_receipt_is_compared_not_the_latest(
    moto: servers.S3Server, versioned_bucket: Bucket
) -> None:
    bucket = versioned_bucket
    interface = make_interface(moto, bucket.name)
    make_policy(interface)
    make_report()
    engine.deliver_due(interface.pk)
    bucket.client.put_object(Bucket=bucket.name, Key=Delivery.objects.get().object_key, Body=b"a newer version")
    assert run()[1] == ""


def test_an_unknown_interface_is_named() -> None:
    assert "'nobody'" in run("--interface", "nobody")[1]


@pytest.mark.ceph
def test_without_read_permission_objects_are_unreadable(bucket: Bucket) -> None:
    values = servers.ceph_values()
    interface = make_interface(bucket.server, bucket.name)
    make_policy(interface)
    make_report()
    engine.deliver_due(interface.pk)
    S3Interface.objects.update(access_key_id=values["W_AK"], secret_access_key=values["W_SK"])
    lines, problem = run()
    assert lines[0].split()[0] == "unreadable"
    assert "Access Denied" in lines[0]
    assert problem
