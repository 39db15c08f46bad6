"""What is done with a saved interface beside delivering: testing it and re-encrypting its secret."""

from django.db import transaction

from delivery_s3 import archiver, connection_test
from delivery_s3.connection_test import TestReport
from delivery_s3.diagnosis import DeliveryError
from delivery_s3.fields import UnreadableSecret
from delivery_s3.models import S3Interface


def test(interface: S3Interface) -> TestReport:
    """Test what `interface` says now, saved or not. Saves nothing. Never raises DeliveryError."""
    try:
        connection = interface.connection(
            connect_timeout=connection_test.CONNECT_TIMEOUT, read_timeout=connection_test.READ_TIMEOUT
        )
    except DeliveryError as error:
        return connection_test.failed_before_start(error)
    return connection_test.run(connection, prefix=interface.key_prefix)


def test_saved(interface: S3Interface) -> TestReport:
    """Test a saved interface and record what was found. A test that passes ends the interface's pause."""
    report = test(interface)
    S3Interface.objects.filter(pk=interface.pk).update(
        tested_at=report.tested_at, test_passed=report.passed, test_report=report.as_json()
    )
    if report.passed:
        archiver.resume(interface)
    return report


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
