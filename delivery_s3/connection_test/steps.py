"""The steps of a connection test, from the settings to a file in the bucket, and what the store can do beside.

The write is the production path itself: the same storage call, with the same prefix, encryption, lock mode, checksum
and condition as a report's. The test file stays in the bucket, for whoever wants to see it there. The steps after it
look at what archiving doesn't need; they advise and never fail a test. To add a step, add a function and its row in
STEPS.
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

from anaphora.deliveries.destinations import Condition, Integrity, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError, Fix
from anaphora.deliveries.object_keys import connection_test_key, content_disposition
from delivery_s3 import diagnoses, endpoint_guard, tls
from delivery_s3.connection import Connection
from delivery_s3.error_mapping import explain
from delivery_s3.storage import S3Destination

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 8
"""Seconds. Somebody is waiting in front of the page."""


class Outcome(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ADVICE = "advice"


@dataclass(frozen=True)
class Step:
    """One finished step. `diagnosis` is a code of the catalogue where it failed, else empty."""

    title: str
    outcome: Outcome
    seconds: float = 0
    text: str = ""
    diagnosis: str = ""
    detail: str = ""
    fix: Fix | None = None


@dataclass
class Trial:
    """What the steps hand on to each other."""

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


StepResult = tuple[Outcome, str]


def _settings(trial: Trial) -> StepResult:
    text = (
        f"Anaphora put this file here on {trial.tested_at:%Y-%m-%d at %H:%M:%S} UTC\n"
        f"to test that reports can be archived in this bucket. It may be deleted.\nTest {secrets.token_hex(8)}\n"
    )
    trial.content = text.encode()
    sha256 = hashlib.sha256(trial.content).hexdigest()
    trial.key = connection_test_key(prefix=trial.prefix, tested_at=trial.tested_at, sha256=sha256)
    address = trial.destination.address(trial.key)
    trial.secure = address.scheme == "https"
    trial.host, trial.port = address.hostname or "", address.port or (443 if trial.secure else 80)
    return Outcome.PASSED, f"The test file goes to {address.scheme}://{address.netloc}{address.path}"


def _proxy(trial: Trial) -> str:
    """Return a remark if requests go through a proxy of the environment, which then does what the next steps would."""
    scheme = "https" if trial.secure else "http"
    through = scheme in getproxies() and not proxy_bypass(trial.host)
    return f"Left to the proxy of this machine's environment ({scheme.upper()}_PROXY)." if through else ""


def _resolution(trial: Trial) -> StepResult:
    if remark := _proxy(trial):
        return Outcome.SKIPPED, remark
    allow_private = trial.connection.allow_private
    try:
        trial.addresses = endpoint_guard.resolve(trial.host, trial.port, allow_private=allow_private)
    except DeliveryError as error:
        endpoint = urlsplit(trial.connection.endpoint_url).hostname
        if error.diagnosis is not diagnoses.HOST_NOT_FOUND or endpoint in {None, trial.host}:
            raise
        endpoint_guard.resolve(str(endpoint), trial.port, allow_private=allow_private)
        raise DeliveryError(
            diagnoses.BUCKET_HOST_NOT_FOUND,
            error.detail,
            fix=Fix("addressing_style", "path", "Set Addressing style to path"),
        ) from error
    if trial.addresses == [trial.host.strip("[]")]:
        return Outcome.PASSED, "The endpoint is given by its address."
    return Outcome.PASSED, f"{trial.host} is {', '.join(trial.addresses)}"


def _connection(trial: Trial) -> StepResult:
    if not trial.addresses:
        return Outcome.SKIPPED, _proxy(trial)
    failure: OSError | None = None
    for address in list(trial.addresses):
        try:
            with socket.create_connection((address, trial.port), CONNECT_TIMEOUT / len(trial.addresses)):
                trial.addresses = [address]
                return Outcome.PASSED, f"{address} port {trial.port} accepts connections"
        except OSError as error:
            failure = error
    diagnosis = diagnoses.HOST_UNREACHABLE
    if isinstance(failure, TimeoutError):
        diagnosis = diagnoses.CONNECTION_TIMEOUT
    elif isinstance(failure, ConnectionRefusedError):
        diagnosis = diagnoses.CONNECTION_REFUSED
    raise DeliveryError(diagnosis, f"{trial.host} port {trial.port}: {failure}")


def _tls(trial: Trial) -> StepResult:
    if not trial.secure:
        return Outcome.SKIPPED, "Custom endpoint begins with http: nothing is encrypted on the way."
    if not trial.addresses:
        return Outcome.SKIPPED, _proxy(trial)
    address = trial.addresses[0]
    try:
        version, certificate = tls.handshake(
            address,
            trial.port,
            trial.host,
            cafile=str(trial.destination.verify),
            pinned=bool(trial.connection.ca_bundle),
            timeout=CONNECT_TIMEOUT,
        )
    except OSError as error:
        raise _tls_error(trial, address, error) from error
    return Outcome.PASSED, (
        f"{version}; certificate of {certificate.subject}, issued by {certificate.issuer}, "
        f"valid until {certificate.valid_until:%d %b %Y}"
    )


def _tls_error(trial: Trial, address: str, error: OSError) -> DeliveryError:
    if isinstance(error, tls.CertificateUnreadableError):
        return DeliveryError(diagnoses.CERTIFICATE_UNREADABLE, str(error))
    explained = explain(error) or DeliveryError(diagnoses.TLS_FAILED, str(error))
    if explained.diagnosis is diagnoses.HTTP_EXPECTED:
        right = f"http://{trial.connection.endpoint_url.partition('://')[2]}"
        return DeliveryError(
            diagnoses.HTTP_EXPECTED, explained.detail, fix=Fix("endpoint_url", right, f"Set it to {right}")
        )
    try:
        chain = tls.shown_chain(address, trial.port, trial.host, timeout=CONNECT_TIMEOUT)
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


def _upload(trial: Trial) -> Receipt:
    upload = Upload(
        key=trial.key,
        size=len(trial.content),
        sha256=hashlib.sha256(trial.content).hexdigest(),
        md5=hashlib.md5(trial.content, usedforsecurity=False).hexdigest(),
        content_type="text/plain; charset=utf-8",
        content_disposition=content_disposition("anaphora-connection-test.txt"),
    )
    return trial.destination.put(upload, io.BytesIO(trial.content))


def _write(trial: Trial) -> StepResult:
    try:
        trial.receipt = _upload(trial)
    except DeliveryError as error:
        endpoint = trial.connection.endpoint_url
        suspicious = error.diagnosis in {diagnoses.CONNECTION_LOST, diagnoses.NOT_S3} and endpoint.startswith("http://")
        if (
            suspicious
            and trial.addresses
            and tls.speaks_tls(trial.addresses[0], trial.port, trial.host, timeout=CONNECT_TIMEOUT)
        ):
            right = endpoint.replace("http://", "https://", 1)
            fix = Fix("endpoint_url", right, f"Set it to {right}")
            raise DeliveryError(diagnoses.HTTPS_EXPECTED, error.detail, fix=fix) from error
        raise
    trial.capabilities["integrity"] = trial.receipt.integrity.value
    if trial.receipt.sha256_refused:
        trial.capabilities["sha256"] = "refused"
    return Outcome.PASSED, f"Stored {trial.receipt.object_key}"


def _integrity(trial: Trial) -> StepResult:
    assert trial.receipt is not None
    return {
        Integrity.SHA256: (Outcome.PASSED, "The store confirmed the SHA-256 of what it holds."),
        Integrity.ETAG: (Outcome.PASSED, "The store confirmed the MD5 of what it holds."),
        Integrity.MD5: (Outcome.PASSED, "The store accepted the MD5; it shows no checksum of its own."),
        Integrity.NONE: (Outcome.ADVICE, "The store confirmed no checksum."),
    }[trial.receipt.integrity]


def _condition(trial: Trial) -> StepResult:
    assert trial.receipt is not None
    if trial.receipt.condition in {Condition.REFUSED, Condition.NOT_MADE}:
        trial.capabilities["condition"] = "refused"
        return Outcome.ADVICE, (
            "The store takes no conditional writes; deliveries go without. Keys name their content, so nothing can "
            "mix. Turn versioning on if others may write here too."
        )
    if _upload(trial).condition is Condition.EXISTED:
        trial.capabilities["condition"] = "enforced"
        return Outcome.PASSED, "The store doesn't let a second write replace an object."
    trial.capabilities["condition"] = "ignored"
    return Outcome.ADVICE, (
        "The store ignores the condition of a write: a second one replaces the object. Keys name their content, so "
        "nothing can mix. Turn versioning on if others may write here too."
    )


def _read_back(trial: Trial) -> StepResult:
    if trial.destination.read(trial.key, len(trial.content)) != trial.content:
        return Outcome.ADVICE, "What was read back is not what was written. Is a cache between here and the store?"
    return Outcome.PASSED, "What was read back is what was written."


def _list(trial: Trial) -> StepResult:
    trial.destination.get_bucket_config("list_objects_v2", Prefix=trial.prefix, MaxKeys=1)
    return Outcome.PASSED, "Objects can be listed."


def _versioning(trial: Trial) -> StepResult:
    answer = trial.destination.get_bucket_config("get_bucket_versioning") or {}
    if answer.get("Status") == "Enabled":
        return Outcome.PASSED, "As recommended: versioning is on."
    return Outcome.ADVICE, "Versioning is off: turn it on so that what is overwritten or deleted can be had back."


def _object_lock(trial: Trial) -> StepResult:
    configuration = _bucket_config(trial, "get_object_lock_configuration", "ObjectLockConfiguration")
    if configuration.get("ObjectLockEnabled") != "Enabled":
        return Outcome.ADVICE, "Object Lock is off. For records that nobody may delete, use a bucket that has it."
    retention = configuration.get("Rule", {}).get("DefaultRetention")
    if retention:
        length = f"{retention['Days']} days" if "Days" in retention else f"{retention.get('Years')} years"
        return (
            Outcome.PASSED,
            f"As recommended: Object Lock is on; the bucket keeps by {retention['Mode']} for {length}.",
        )
    if trial.connection.object_lock_mode:
        return Outcome.PASSED, "As recommended: Object Lock is on, and this interface sets the retention."
    return Outcome.ADVICE, "Object Lock is on, but nothing sets a retention: choose an Object Lock mode."


def _encryption(trial: Trial) -> StepResult:
    rules = _bucket_config(trial, "get_bucket_encryption", "ServerSideEncryptionConfiguration").get("Rules")
    if rules:
        how = rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "yes")
        return Outcome.PASSED, f"As recommended: the bucket encrypts by default ({how})."
    if trial.connection.server_side_encryption:
        return Outcome.PASSED, f"This interface asks for encryption ({trial.connection.server_side_encryption})."
    return (
        Outcome.ADVICE,
        "The bucket doesn't encrypt by default: set it there, or choose a Server-side encryption.",
    )


def _public_access(trial: Trial) -> StepResult:
    if _bucket_config(trial, "get_bucket_policy_status", "PolicyStatus").get("IsPublic"):
        return (
            Outcome.ADVICE,
            "A policy opens this bucket to everybody: close it, unless that is what you want.",
        )
    return Outcome.PASSED, "As recommended: no policy opens the bucket to everybody."


def _bucket_config(trial: Trial, operation: str, part: str) -> dict[str, Any]:
    """Return the part of an answer that matters, empty where nothing is configured.

    An answer without it comes from a store that doesn't know the question: raises DeliveryError.
    """
    answer = trial.destination.get_bucket_config(operation)
    if answer is None:
        return {}
    if part not in answer:
        raise DeliveryError(diagnoses.REQUEST_REFUSED, f"The answer to {operation} has no {part}")
    found: dict[str, Any] = answer[part]
    return found


def not_needed(error: DeliveryError) -> StepResult:
    """Return what to say of an optional step that the store refused."""
    if error.diagnosis in {diagnoses.ACCESS_DENIED, diagnoses.EXPLICIT_DENY}:
        return Outcome.SKIPPED, "Not granted, not needed for archiving."
    return Outcome.SKIPPED, "The store doesn't tell, and archiving doesn't need it."


STEPS: list[tuple[str, Callable[[Trial], StepResult], bool]] = [
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
]
"""Title and function of each step, in order, and whether it is optional. To add one, add a row."""
