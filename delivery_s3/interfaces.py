"""What is done with an interface beside delivering: testing it, clearing up after a test, re-encrypting its secret."""

import json
from dataclasses import fields
from datetime import datetime
from typing import Any

from django.core import signing
from django.db import transaction
from django.utils.crypto import constant_time_compare, salted_hmac

from anaphora.deliveries import queue
from anaphora.deliveries.errors import DeliveryError
from delivery_s3.connection_test.runner import ConnectionTest, TestReport
from delivery_s3.models import S3Interface
from delivery_s3.secret import Secret, UnreadableSecret
from delivery_s3.storage import S3Destination

_SALT = "delivery_s3.interfaces.tested"
KEPT_SECONDS = 3600
"""How long a test of unsaved values can still become the interface's own, by saving them."""


def start_test(interface: S3Interface) -> ConnectionTest:
    """Return a test, not yet run, of what `interface` says now, saved or not. Saves nothing."""
    try:
        # What an earlier test found is not taken for granted.
        return ConnectionTest(interface.connection(fresh=True), prefix=interface.key_prefix)
    except DeliveryError as error:
        return ConnectionTest(error, prefix=interface.key_prefix)


def record(interface: S3Interface, report: dict[str, Any]) -> None:
    """Record what a test of the saved values found, as `TestReport.as_json()` gives it.

    One that passed ends the interface's pause.
    """
    tested_at = datetime.fromisoformat(report["tested_at"])
    found = {"tested_at": tested_at, "test_passed": report["passed"], "test_report": report}
    if report["passed"]:
        found["capabilities"] = report["capabilities"]
    S3Interface.objects.filter(pk=interface.pk).update(**found)
    if report["passed"]:
        queue.resume(interface.pk)


def forget_test(interface: S3Interface) -> None:
    """Forget what a test found: the interface leads elsewhere now."""
    S3Interface.objects.filter(pk=interface.pk).update(tested_at=None, test_passed=None, test_report={})


def sealed_report(interface: S3Interface, report: TestReport) -> str:
    """Return a test's report for the page to keep, signed and bound to the very values that were tested.

    Empty where the interface has no values that could be tested.
    """
    fingerprint = _fingerprint(interface)
    return signing.dumps([fingerprint, report.as_json()], salt=_SALT, compress=True) if fingerprint else ""


def opened_report(interface: S3Interface, sealed: str) -> dict[str, Any] | None:
    """Return a report that `sealed_report` sealed lately, if it was of the values that `interface` has; else None."""
    try:
        fingerprint, report = signing.loads(sealed, salt=_SALT, max_age=KEPT_SECONDS)
    except signing.BadSignature:
        return None
    return report if fingerprint and constant_time_compare(fingerprint, _fingerprint(interface)) else None


def _fingerprint(interface: S3Interface) -> str:
    """Return what two interfaces have in common only if a test of the one says everything of the other.

    Keyed, for it covers the secret.
    """
    try:
        connection = interface.connection(fresh=True)
    except DeliveryError:
        return ""
    values = [getattr(connection, each.name) for each in fields(connection)]
    plain = [value.reveal() if isinstance(value, Secret) else value for value in values]
    return salted_hmac(_SALT, json.dumps([*plain, interface.key_prefix]), algorithm="sha256").hexdigest()


def test_saved(interface: S3Interface) -> TestReport:
    """Test a saved interface to the end and record what was found."""
    test = start_test(interface)
    for _ in test.steps():
        pass
    report = test.report()
    record(interface, report.as_json())
    return report


def remove_test_file(interface: S3Interface, key: str) -> None:
    """Delete a test's file, where that is granted. Raises DeliveryError, and ValueError for any other key."""
    if not key.startswith(f"{interface.key_prefix}connection.test/"):
        raise ValueError(f"{key!r} is not the key of a connection test's file")
    S3Destination(interface.connection()).delete(key)


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
