"""`verify_archive` verifies the manifests in the store, and compares them with the receipts."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from anaphora.deliveries import irregularities
from anaphora.deliveries.manifest_models import Irregularity
from anaphora.deliveries.models import Delivery
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.archives import FIRST, deliver_on, write
from tests.support.buckets import Bucket
from tests.support.commands import run_command
from tests.support.factories import make_interface, make_policy
from tests.support.servers import Fault

pytestmark = pytest.mark.django_db

KEY = "archive.manifests/2026/2026-03-{:02}.jsonl"


def run(*arguments: str) -> tuple[list[str], str]:
    out, problem = run_command("verify_archive", *arguments)
    return out.splitlines(), problem


@pytest.fixture
def archive(interface: S3Interface, bucket: Bucket) -> S3Interface:
    """An interface with manifests of three days and a later delivery, and another interface in the same bucket."""
    make_policy(interface)
    other = make_interface(bucket.server, bucket.name, key_prefix="second/")
    for day in range(3):
        deliver_on(interface, FIRST + timedelta(days=day), 2)
    write(interface, FIRST + timedelta(days=2))
    deliver_on(interface, FIRST + timedelta(days=3))
    policy = make_policy(other)
    deliver_on(other, FIRST)
    Delivery.objects.exclude(state="delivered").delete()
    policy.delete()
    write(other, FIRST)
    return interface


def test_an_archive_that_matches_its_manifests(archive: S3Interface) -> None:
    lines, problem = run()
    assert lines[-1] == "8 same, 0 missing, 0 changed, 0 unreadable; 4 manifests, 0 findings in them"
    assert (len(lines), problem) == (1, "")


def altered_manifest(bucket: Bucket) -> None:
    content = bucket.read(KEY.format(2)).replace(b"sales", b"stock")
    bucket.client.put_object(Bucket=bucket.name, Key=KEY.format(2), Body=content)


def removed_manifest(bucket: Bucket) -> None:
    bucket.client.delete_object(Bucket=bucket.name, Key=KEY.format(2))


def added_report(bucket: Bucket) -> None:
    bucket.client.put_object(
        Bucket=bucket.name, Key="sales/2026/03/01/20260301T070000Z_0123456789abcdef.pdf", Body=b"x"
    )


def changed_receipt(bucket: Bucket) -> None:
    Delivery.objects.filter(pk=Delivery.objects.order_by("pk")[0].pk).update(sha256="0" * 64)


def removed_receipt(bucket: Bucket) -> None:
    Delivery.objects.filter(pk=Delivery.objects.order_by("pk")[0].pk)._raw_delete("default")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (altered_manifest, "signature-wrong"),
        (removed_manifest, "manifest-missing"),
        (added_report, "report-unlisted"),
        (changed_receipt, "receipt-altered"),
        (removed_receipt, "receipt-missing"),
    ],
)
def test_differences_are_named(
    archive: S3Interface, bucket: Bucket, change: Callable[[Bucket], None], kind: str
) -> None:
    change(bucket)
    lines, problem = run("--json", "--interface", archive.name)
    *findings, summary = [json.loads(line) for line in lines]
    assert kind in [each["verdict"] for each in findings]
    assert summary["manifests"]["findings"] >= 1
    assert problem
    event = Irregularity.objects.get(kind=irregularities.DIFFERENCE_FOUND)
    assert event.interface_id == archive.pk
    assert run("--interface", archive.name)[1]


def test_without_permission_to_list_listed_reports_are_still_verified(archive: S3Interface, bucket: Bucket) -> None:
    def no_listing(method: str, path: str) -> Fault:
        return Fault.ANSWER_500 if "list-type" in path else Fault.NONE

    with servers.in_front_of(bucket.server, no_listing) as endpoint:
        S3Interface.objects.filter(pk=archive.pk).update(endpoint_url=endpoint, ca_bundle="")
        lines, problem = run("--interface", archive.name)
    assert problem == ""
    assert "Listing is not permitted" in lines[0]
    assert "3 manifests, 0 findings" in lines[-1]
