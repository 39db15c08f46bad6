"""Connection tests of interfaces: start a test, record its result, and remove its test file."""

import json
from dataclasses import fields
from datetime import datetime
from typing import Any

from django.core import signing
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare, salted_hmac

from anaphora.activity import Action, record
from anaphora.deliveries import protection, queue
from anaphora.deliveries.errors import DeliveryError
from anaphora.secret import Secret
from delivery_s3.connection_test.runner import ConnectionTest, TestReport
from delivery_s3.models import S3Interface
from delivery_s3.storage import S3Destination

_SALT = "delivery_s3.connection_test.report"
SIGNED_REPORT_SECONDS = 3600
"""How long the result of a test of unsaved values can be recorded by saving these values."""


def start_test(interface: S3Interface) -> ConnectionTest:
    """Return a test, not yet run, of the current values of `interface`, saved or not. Saves nothing."""
    try:
        # The test must detect the capabilities again.
        return ConnectionTest(interface.connection(fresh=True), prefix=interface.key_prefix)
    except DeliveryError as error:
        return ConnectionTest(error, prefix=interface.key_prefix)


def record_result(interface: S3Interface, report: dict[str, Any]) -> None:
    """Record the result of a test of the saved values, given as `TestReport.as_json()`.

    A test that passed ends the pause of the interface.
    """
    tested_at = datetime.fromisoformat(report["tested_at"])
    values = {"tested_at": tested_at, "test_passed": report["passed"], "test_report": report}
    if report["passed"]:
        values |= {"capabilities": report["capabilities"], "passed_at": tested_at}
    S3Interface.objects.filter(pk=interface.pk).update(**values)
    if report.get("protection"):
        protection.record(interface, report["protection"])
    if report["passed"]:
        queue.resume(interface.pk)


def clear_result(interface: S3Interface) -> None:
    """Clear the recorded test result, which does not apply to changed values."""
    S3Interface.objects.filter(pk=interface.pk).update(tested_at=None, test_passed=None, passed_at=None, test_report={})


def sign_report(interface: S3Interface, report: TestReport) -> str:
    """Return the report as a signed text for a hidden field, valid only for the values that were tested.

    Returns an empty text if the secret of the interface cannot be decrypted.
    """
    fingerprint = _fingerprint(interface)
    return signing.dumps([fingerprint, report.as_json()], salt=_SALT, compress=True) if fingerprint else ""


def load_signed_report(interface: S3Interface, signed: str) -> dict[str, Any] | None:
    """Return a report signed by `sign_report`; None if it is invalid, expired or for other values."""
    try:
        fingerprint, report = signing.loads(signed, salt=_SALT, max_age=SIGNED_REPORT_SECONDS)
    except signing.BadSignature:
        return None
    return report if fingerprint and constant_time_compare(fingerprint, _fingerprint(interface)) else None


def _fingerprint(interface: S3Interface) -> str:
    """Return a digest of all values that a test depends on. It is keyed because the values include the secret."""
    try:
        connection = interface.connection(fresh=True)
    except DeliveryError:
        return ""
    values = [getattr(connection, field.name) for field in fields(connection)]
    plain = [value.reveal() if isinstance(value, Secret) else value for value in values]
    return salted_hmac(_SALT, json.dumps([*plain, interface.key_prefix]), algorithm="sha256").hexdigest()


def test_and_record(interface: S3Interface) -> TestReport:
    """Test a saved interface, record the result and return it."""
    test = start_test(interface)
    for _ in test.steps():
        pass
    report = test.report()
    record_result(interface, report.as_json())
    record_test(interface, report)
    return report


def record_test(
    interface: S3Interface, report: TestReport | None, *, saved: bool = True, request: HttpRequest | None = None
) -> None:
    """Record in the audit trail that somebody tested an interface. `report` is None if the test was cancelled."""
    result = "broken off"
    if report is not None:
        result = report.diagnosis.title if report.diagnosis else "passed"
    record(Action.TESTED, interface, request=request, result=result, place=interface.place, saved=saved)


def remove_test_file(interface: S3Interface, key: str) -> None:
    """Delete a test file. Needs s3:DeleteObject. Raises DeliveryError, and ValueError for the key of another object."""
    if not key.startswith(f"{interface.key_prefix}connection.test/"):
        raise ValueError(f"{key!r} is not the key of a connection test file")
    S3Destination(interface.connection()).delete(key)
