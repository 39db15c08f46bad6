"""The steps of a connection test.

The Write step uses the production code: the same call with the same prefix, encryption, lock mode, checksum and
condition as a report. The test file stays in the bucket, so that an administrator can see it there. The optional steps
check features that archiving does not need; they give advice and never fail a test. To add a step, add a function and
its row in STEPS.
"""

import hashlib
import io
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from anaphora.deliveries.destinations import Condition, Integrity, ProtectionGrade, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError, Fix
from anaphora.deliveries.object_keys import connection_test_key, content_disposition
from delivery_s3 import diagnoses, endpoint_guard, immutability, tls
from delivery_s3.connection import Connection
from delivery_s3.error_mapping import explain
from delivery_s3.storage import S3Destination

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 8
"""Seconds. Shorter than for deliveries, because a user is waiting for the result."""


class Outcome(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ADVICE = "advice"


@dataclass(frozen=True)
class Step:
    """The result of one step. `diagnosis` is a code of the catalogue if the step failed, else empty."""

    title: str
    outcome: Outcome
    seconds: float = 0
    text: str = ""
    diagnosis: str = ""
    detail: str = ""
    fix: Fix | None = None


@dataclass
class StepState:
    """The state that the steps share."""

    connection: Connection
    prefix: str
    tested_at: datetime
    destination: S3Destination
    key: str = ""
    content: bytes = b""
    host: str = ""
    port: int = 0
    secure: bool = False
    addresses: list[str] = field(default_factory=list)
    receipt: Receipt | None = None
    capabilities: dict[str, str] = field(default_factory=dict)
    protection: dict[str, Any] = field(default_factory=dict)


StepResult = tuple[Outcome, str]


def _settings(state: StepState) -> StepResult:
    text = (
        f"Anaphora put this file here on {state.tested_at:%Y-%m-%d at %H:%M:%S} UTC\n"
        f"to test that reports can be archived in this bucket. You can delete it.\nTest {secrets.token_hex(8)}\n"
    )
    state.content = text.encode()
    sha256 = hashlib.sha256(state.content).hexdigest()
    state.key = connection_test_key(prefix=state.prefix, tested_at=state.tested_at, sha256=sha256)
    address = state.destination.address(state.key)
    state.secure = address.scheme == "https"
    state.host, state.port = address.hostname or "", address.port or (443 if state.secure else 80)
    return Outcome.PASSED, f"The test file will be written to {address.scheme}://{address.netloc}{address.path}"


def _proxy_text(state: StepState) -> str:
    """Return the text of a skipped network step if requests go through a proxy; empty without a proxy."""
    scheme = "https" if state.secure else "http"
    uses_proxy = scheme in getproxies() and not proxy_bypass(state.host)
    return f"Requests go through the proxy in {scheme.upper()}_PROXY, which does this step." if uses_proxy else ""


def _resolution(state: StepState) -> StepResult:
    if proxy_text := _proxy_text(state):
        return Outcome.SKIPPED, proxy_text
    allow_private = state.connection.allow_private
    try:
        state.addresses = endpoint_guard.resolve(state.host, state.port, allow_private=allow_private)
    except DeliveryError as error:
        endpoint = urlsplit(state.connection.endpoint_url).hostname
        if error.diagnosis is not diagnoses.HOST_NOT_FOUND or endpoint in {None, state.host}:
            raise
        endpoint_guard.resolve(str(endpoint), state.port, allow_private=allow_private)
        raise DeliveryError(
            diagnoses.BUCKET_HOST_NOT_FOUND,
            error.detail,
            fix=Fix("addressing_style", "path", "Set Addressing style to path"),
        ) from error
    if state.addresses == [state.host.strip("[]")]:
        return Outcome.PASSED, "The endpoint is an IP address."
    return Outcome.PASSED, f"{state.host} resolves to {', '.join(state.addresses)}"


def _connection(state: StepState) -> StepResult:
    if not state.addresses:
        return Outcome.SKIPPED, _proxy_text(state)
    failure: OSError | None = None
    for address in list(state.addresses):
        try:
            with socket.create_connection((address, state.port), CONNECT_TIMEOUT / len(state.addresses)):
                state.addresses = [address]
                return Outcome.PASSED, f"{address} port {state.port} accepts connections"
        except OSError as error:
            failure = error
    diagnosis = diagnoses.HOST_UNREACHABLE
    if isinstance(failure, TimeoutError):
        diagnosis = diagnoses.CONNECTION_TIMEOUT
    elif isinstance(failure, ConnectionRefusedError):
        diagnosis = diagnoses.CONNECTION_REFUSED
    raise DeliveryError(diagnosis, f"{state.host} port {state.port}: {failure}")


def _tls(state: StepState) -> StepResult:
    if not state.secure:
        return Outcome.SKIPPED, "Custom endpoint begins with http://, so connections are not encrypted."
    if not state.addresses:
        return Outcome.SKIPPED, _proxy_text(state)
    address = state.addresses[0]
    try:
        version, certificate = tls.handshake(
            address,
            state.port,
            state.host,
            cafile=str(state.destination.verify),
            pinned=bool(state.connection.ca_bundle),
            timeout=CONNECT_TIMEOUT,
        )
    except OSError as error:
        raise _tls_error(state, address, error) from error
    return Outcome.PASSED, (
        f"{version}; certificate of {certificate.subject}, issued by {certificate.issuer}, "
        f"valid until {certificate.valid_until:%d %b %Y}"
    )


def _tls_error(state: StepState, address: str, error: OSError) -> DeliveryError:
    if isinstance(error, tls.CertificateUnreadableError):
        return DeliveryError(diagnoses.CERTIFICATE_UNREADABLE, str(error))
    explained = explain(error) or DeliveryError(diagnoses.TLS_FAILED, str(error))
    if explained.diagnosis is diagnoses.HTTP_EXPECTED:
        corrected = f"http://{state.connection.endpoint_url.partition('://')[2]}"
        return DeliveryError(
            diagnoses.HTTP_EXPECTED, explained.detail, fix=Fix("endpoint_url", corrected, f"Set it to {corrected}")
        )
    try:
        chain = tls.unverified_chain(address, state.port, state.host, timeout=CONNECT_TIMEOUT)
    except tls.CertificateUnreadableError as unreadable:
        return DeliveryError(diagnoses.CERTIFICATE_UNREADABLE, str(unreadable))
    except OSError:
        return explained
    detail = " ← ".join(
        f"{each.subject} (valid {each.valid_from:%d %b %Y} to {each.valid_until:%d %b %Y}, SHA-256 {each.fingerprint})"
        for each in chain
    )
    fix = None
    if explained.diagnosis.field == "ca_bundle":
        top = chain[-1]
        what = "this certificate" if top.self_signed and len(chain) == 1 else f"{top.subject}"
        fix = Fix("ca_bundle", top.pem, f"Trust {what} at this endpoint")
    return DeliveryError(explained.diagnosis, detail, fix=fix)


def _upload(state: StepState) -> Receipt:
    upload = Upload(
        key=state.key,
        size=len(state.content),
        sha256=hashlib.sha256(state.content).hexdigest(),
        md5=hashlib.md5(state.content, usedforsecurity=False).hexdigest(),
        content_type="text/plain; charset=utf-8",
        content_disposition=content_disposition("anaphora-connection-test.txt"),
    )
    return state.destination.put(upload, io.BytesIO(state.content))


def _write(state: StepState) -> StepResult:
    try:
        state.receipt = _upload(state)
    except DeliveryError as error:
        endpoint = state.connection.endpoint_url
        may_expect_https = error.diagnosis in {diagnoses.CONNECTION_LOST, diagnoses.NOT_S3} and endpoint.startswith(
            "http://"
        )
        if (
            may_expect_https
            and state.addresses
            and tls.speaks_tls(state.addresses[0], state.port, state.host, timeout=CONNECT_TIMEOUT)
        ):
            corrected = endpoint.replace("http://", "https://", 1)
            fix = Fix("endpoint_url", corrected, f"Set it to {corrected}")
            raise DeliveryError(diagnoses.HTTPS_EXPECTED, error.detail, fix=fix) from error
        raise
    state.capabilities["integrity"] = state.receipt.integrity.value
    if state.receipt.sha256_refused:
        state.capabilities["sha256"] = "refused"
    return Outcome.PASSED, f"Stored {state.receipt.object_key}"


def _integrity(state: StepState) -> StepResult:
    assert state.receipt is not None
    return {
        Integrity.SHA256: (Outcome.PASSED, "The store confirmed the SHA-256 of the stored object."),
        Integrity.ETAG: (Outcome.PASSED, "The store confirmed the MD5 of the stored object."),
        Integrity.MD5: (Outcome.PASSED, "The store accepted the MD5, but returned no checksum."),
        Integrity.NONE: (Outcome.ADVICE, "The store confirmed no checksum."),
    }[state.receipt.integrity]


def _condition(state: StepState) -> StepResult:
    assert state.receipt is not None
    if state.receipt.condition in {Condition.REFUSED, Condition.NOT_MADE}:
        state.capabilities["condition"] = "refused"
        return Outcome.ADVICE, (
            "The store does not support conditional writes, so deliveries do not use them. Reports cannot replace each "
            "other, because keys contain the SHA-256. Enable versioning if others can write to this bucket."
        )
    if _upload(state).condition is Condition.EXISTED:
        state.capabilities["condition"] = "enforced"
        return Outcome.PASSED, "The store enforces conditional writes: a second write cannot replace an object."
    state.capabilities["condition"] = "ignored"
    return Outcome.ADVICE, (
        "The store ignores conditional writes: a second write replaces the object. Reports cannot replace each other, "
        "because keys contain the SHA-256. Enable versioning if others can write to this bucket."
    )


def _read_back(state: StepState) -> StepResult:
    if state.destination.read(state.key, len(state.content)) != state.content:
        return (
            Outcome.ADVICE,
            "The content that was read is not the content that was written. Check for a cache in front of the store.",
        )
    return Outcome.PASSED, "The content that was read is the content that was written."


def _list(state: StepState) -> StepResult:
    state.destination.get_bucket_config("list_objects_v2", Prefix=state.prefix, MaxKeys=1)
    return Outcome.PASSED, "Objects can be listed."


def _versioning(state: StepState) -> StepResult:
    answer = state.destination.get_bucket_config("get_bucket_versioning") or {}
    if answer.get("Status") == "Enabled":
        return Outcome.PASSED, "As recommended: versioning is enabled."
    return Outcome.ADVICE, "Versioning is disabled. Enable it so that overwritten or deleted objects can be restored."


def _object_lock(state: StepState) -> StepResult:
    configuration = _bucket_config(state, "get_object_lock_configuration", "ObjectLockConfiguration")
    if configuration.get("ObjectLockEnabled") != "Enabled":
        return (
            Outcome.ADVICE,
            "Object Lock is disabled. To prevent the deletion of reports, use a bucket with Object Lock.",
        )
    retention = configuration.get("Rule", {}).get("DefaultRetention")
    if retention:
        length = f"{retention['Days']} days" if "Days" in retention else f"{retention.get('Years')} years"
        return (
            Outcome.PASSED,
            f"As recommended: Object Lock is enabled; the default retention is {retention['Mode']} for {length}.",
        )
    if state.connection.object_lock_mode:
        return Outcome.PASSED, "As recommended: Object Lock is enabled, and this interface sets the retention."
    return Outcome.ADVICE, "Object Lock is enabled, but no retention is set. Choose a mode in Object Lock."


def _encryption(state: StepState) -> StepResult:
    rules = _bucket_config(state, "get_bucket_encryption", "ServerSideEncryptionConfiguration").get("Rules")
    if rules:
        algorithm = rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "yes")
        return Outcome.PASSED, f"As recommended: default encryption is enabled ({algorithm})."
    if state.connection.server_side_encryption:
        return Outcome.PASSED, f"This interface requests encryption ({state.connection.server_side_encryption})."
    return (
        Outcome.ADVICE,
        "The bucket has no default encryption. Enable it on the bucket, or choose a Server-side encryption.",
    )


def _immutability(state: StepState) -> StepResult:
    found = immutability.check(state.destination, prefix=state.prefix, now=state.tested_at)
    state.protection = found.as_json()
    safe = found.grade in {ProtectionGrade.LOCKED, ProtectionGrade.FORBIDDEN}
    text = f"{found.grade.label.capitalize()}. {found.text}"
    return (Outcome.PASSED, text) if safe else (Outcome.ADVICE, f"{text} {found.advice}")


def _public_access(state: StepState) -> StepResult:
    if _bucket_config(state, "get_bucket_policy_status", "PolicyStatus").get("IsPublic"):
        return (
            Outcome.ADVICE,
            "A bucket policy makes this bucket public. Change the policy, unless this is intended.",
        )
    return Outcome.PASSED, "As recommended: no bucket policy makes the bucket public."


def _bucket_config(state: StepState, operation: str, part: str) -> dict[str, Any]:
    """Return `part` of the answer to `operation`; empty if nothing is configured.

    Raises DeliveryError if the answer has no such part, because the store does not support the operation.
    """
    answer = state.destination.get_bucket_config(operation)
    if answer is None:
        return {}
    if part not in answer:
        raise DeliveryError(diagnoses.REQUEST_REFUSED, f"The answer to {operation} has no {part}")
    configuration: dict[str, Any] = answer[part]
    return configuration


def skipped_optional_step(error: DeliveryError) -> StepResult:
    """Return the result of an optional step that raised `error`."""
    if error.diagnosis in {diagnoses.ACCESS_DENIED, diagnoses.EXPLICIT_DENY}:
        return Outcome.SKIPPED, "Not granted, not needed for archiving."
    return Outcome.SKIPPED, "The store does not support this request. Archiving does not need it."


STEPS: list[tuple[str, Callable[[StepState], StepResult], bool]] = [
    ("Settings", _settings, False),
    ("Name resolution", _resolution, False),
    ("Connection", _connection, False),
    ("TLS", _tls, False),
    ("Write", _write, False),
    ("Integrity", _integrity, False),
    ("Condition", _condition, True),
    ("Read back", _read_back, True),
    ("List", _list, True),
    ("Versioning", _versioning, True),
    ("Object Lock", _object_lock, True),
    ("Default encryption", _encryption, True),
    ("Public access", _public_access, True),
    ("Immutability", _immutability, True),
]
"""Title, function and whether it is optional, for each step in order. To add a step, add a row."""
