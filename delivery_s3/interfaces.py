"""What is done with an interface beside delivering: testing it, clearing up after a test, re-encrypting its secret."""

from django.db import transaction

from delivery_s3 import deliveries
from delivery_s3.connection_test import ConnectionTest, TestReport
from delivery_s3.diagnosis import DeliveryError
from delivery_s3.fields import UnreadableSecret
from delivery_s3.models import S3Interface
from delivery_s3.storage import ArchiveStorage


def start_test(interface: S3Interface) -> ConnectionTest:
    """Return a test, not yet run, of what `interface` says now, saved or not. Saves nothing."""
    try:
        # What an earlier test found is not taken for granted.
        return ConnectionTest(interface.connection(fresh=True), prefix=interface.key_prefix)
    except DeliveryError as error:
        return ConnectionTest(error, prefix=interface.key_prefix)


def record(interface: S3Interface, report: TestReport) -> None:
    """Record what a test of the saved values found. One that passed ends the interface's pause."""
    found = {"tested_at": report.tested_at, "test_passed": report.passed, "test_report": report.as_json()}
    if report.passed:
        found["capabilities"] = report.capabilities
    S3Interface.objects.filter(pk=interface.pk).update(**found)
    if report.passed:
        deliveries.resume(interface.pk)


def test_saved(interface: S3Interface) -> TestReport:
    """Test a saved interface to the end and record what was found."""
    test = start_test(interface)
    for _ in test.steps():
        pass
    report = test.report()
    record(interface, report)
    return report


def remove_test_file(interface: S3Interface, key: str) -> None:
    """Delete a test's file, where that is granted. Raises DeliveryError, and ValueError for any other key."""
    if not key.startswith(f"{interface.key_prefix}connection.test/"):
        raise ValueError(f"{key!r} is not the key of a connection test's file")
    ArchiveStorage(interface.connection()).remove(key)


def reencrypt_secrets() -> tuple[int, list[str]]:
    """Encrypt every secret with the newest key; return how many, and the names of those that no key decrypts."""
    done, unreadable = 0, []
    with transaction.atomic():
        for interface in S3Interface.objects.select_for_update():
            if isinstance(interface.secret_access_key, UnreadableSecret):
                unreadable.append(interface.name)
            else:
                interface.save(update_fields=["secret_access_key"])
                done += 1
    return done, unreadable
