"""The immutability check: attacks an object of its own as somebody with the interface's key could attack a report.

It never touches a report. The grade depends on which requests the store refuses. The check's object is locked like a
report, but for a day at most, and stays in the bucket if it cannot be deleted.
"""

import base64
import hashlib
import io
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from anaphora.deliveries.destinations import Protection, ProtectionGrade, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.object_keys import immutability_check_key
from delivery_s3.storage import Attempt, S3Destination

_LOCK_WORDS = ("lock", "retention", "retain", "worm")
"""Words in the message of a refusal that show that Object Lock, not a missing permission, was the reason."""


@dataclass
class _Check:
    destination: S3Destination
    key: str
    receipt: Receipt
    attempts: dict[str, Attempt] = field(default_factory=dict)

    def attempt(self, title: str, operation: str, **parameters: Any) -> bool:
        """Try an operation on the object; return whether the store accepted it."""
        self.attempts[title] = self.destination.attempt(operation, Key=self.key, **parameters)
        return self.attempts[title].accepted

    @property
    def version(self) -> dict[str, str]:
        return {"VersionId": self.receipt.version_id} if self.receipt.version_id else {}


def check(destination: S3Destination, *, prefix: str, now: datetime) -> Protection:
    """Return how the store protects an object written with this key. Needs s3:PutObject. Raises DeliveryError."""
    configured = destination.configuration
    destination = S3Destination(replace(configured, retention_days=min(configured.retention_days, 1)))
    content = f"Anaphora put this object here on {now:%Y-%m-%d at %H:%M:%S} UTC to try to destroy it.\n".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    key = immutability_check_key(prefix=prefix, checked_at=now, sha256=sha256)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    upload = Upload(key, len(content), sha256, md5, "text/plain; charset=utf-8")
    run = _Check(destination, key, destination.put(upload, io.BytesIO(content)))
    reported = _reported_retention(run)
    _attack(run, content, now, locked=bool(run.receipt.retain_until or reported))
    grade, text, advice = _judge(run, reported=reported)
    attempts = {title: attempt.answer for title, attempt in run.attempts.items()}
    return Protection(grade, text, advice, attempts, now)


def _reported_retention(run: _Check) -> datetime | None:
    """Return until when the object is locked according to a HEAD request; None if unknown."""
    try:
        stored = run.destination.head(run.key, run.receipt.version_id)
    except DeliveryError:
        return None
    return stored.retain_until if stored else None


def _attack(run: _Check, content: bytes, now: datetime, *, locked: bool) -> None:
    other = content.upper()
    digest = base64.b64encode(hashlib.md5(other, usedforsecurity=False).digest()).decode()
    put = {"Body": other, "ContentMD5": digest}
    run.attempt("overwrite if there is none", "put_object", IfNoneMatch="*", **put)
    run.attempt("overwrite", "put_object", **put)
    if locked:
        mode = run.destination.configuration.object_lock_mode or "GOVERNANCE"
        shorter = {"Mode": mode, "RetainUntilDate": now.replace(microsecond=0) + timedelta(minutes=1)}
        run.attempt("shorten the retention", "put_object_retention", Retention=shorter, **run.version)
    run.attempt("delete", "delete_object")
    if run.version:
        run.attempt("delete the version", "delete_object", **run.version)
        if locked and not run.attempts["delete the version"].accepted:
            run.attempt(
                "delete the version past GOVERNANCE", "delete_object", BypassGovernanceRetention=True, **run.version
            )


def _judge(run: _Check, *, reported: datetime | None) -> tuple[ProtectionGrade, str, str]:
    """Return the grade, its explanation and the advice."""
    attempts, requested = run.attempts, run.receipt.retain_until is not None
    accepted = {title for title, attempt in attempts.items() if attempt.accepted}
    if not run.version:
        if accepted & {"overwrite", "overwrite if there is none", "delete"}:
            return _broken(run, accepted, ProtectionGrade.UNPROTECTED)
        return _FORBIDDEN
    if accepted & {"shorten the retention", "delete the version", "delete the version past GOVERNANCE"}:
        return _broken(run, accepted, ProtectionGrade.VERSIONED)
    refusal = f"{attempts['delete the version'].code} {attempts['delete the version'].message}".lower()
    if reported or any(word in refusal for word in _LOCK_WORDS) or (requested and _unlocked_can_be_deleted(run)):
        return (
            ProtectionGrade.LOCKED,
            "Object Lock prevented deleting the version and shortening its retention. Overwriting keeps the version.",
            "",
        )
    return _FORBIDDEN


_FORBIDDEN = (
    ProtectionGrade.FORBIDDEN,
    "The permissions of this key do not allow destroying an object. A key with more permissions still could.",
    "For records that nobody may delete, use a bucket with Object Lock and choose an Object Lock mode.",
)


def _broken(run: _Check, accepted: set[str], grade: ProtectionGrade) -> tuple[ProtectionGrade, str, str]:
    """Return the grade, its explanation and the advice if the object could be destroyed with this key."""
    done = ", ".join(sorted(accepted))
    if "delete the version past GOVERNANCE" in accepted:
        return (
            grade,
            "This key can bypass Object Lock, because it has s3:BypassGovernanceRetention.",
            "Revoke s3:BypassGovernanceRetention from this key, or choose COMPLIANCE.",
        )
    if run.version and "shorten the retention" in accepted and "delete the version" not in accepted:
        return (
            grade,
            "Object Lock protects the object, but this key can shorten the retention and then delete the object.",
            "The store enforces Object Lock differently from S3. Ask the provider, and revoke s3:DeleteObject*.",
        )
    if run.receipt.retain_until:
        return (
            ProtectionGrade.UNPROTECTED,
            f"The store accepted the retention but does not enforce it. This key can: {done}.",
            "Object Lock does not work here: ask the provider, and revoke s3:DeleteObject* from this key meanwhile.",
        )
    if grade is ProtectionGrade.VERSIONED:
        return (
            grade,
            "Versioning keeps overwritten and deleted objects, but this key can delete versions permanently.",
            "Revoke s3:DeleteObjectVersion from this key, or use Object Lock.",
        )
    return (
        grade,
        f"Nothing protects an object from this key. It can: {done}.",
        "Enable versioning or Object Lock on the bucket, and revoke s3:DeleteObject from this key.",
    )


def _unlocked_can_be_deleted(run: _Check) -> bool:
    """Return whether the key can delete a version without a lock: then the lock protected the locked version."""
    overwritten = run.attempts["overwrite"]
    if not (overwritten.accepted and overwritten.version_id):
        return False
    return run.attempt("delete a version without a lock", "delete_object", VersionId=overwritten.version_id)
