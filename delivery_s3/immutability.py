"""The immutability check: tries, on an object of its own, what somebody with the interface's key could do to a report.

It never touches a report. What the store refuses, and what of the object is left, gives the grade. Its object gets the
interface's lock for a day at most, and stays where it cannot be deleted.
"""

import base64
import hashlib
import io
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from anaphora.deliveries.destinations import Protection, ProtectionGrade, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.object_keys import immutability_check_key

if TYPE_CHECKING:
    from delivery_s3.storage import S3Destination

_LOCK_WORDS = ("lock", "retention", "retain", "worm")
"""In the message of a refusal: the store's lock refuses, not a permission."""


@dataclass(frozen=True)
class Attempt:
    """What the store answered to something that it should refuse."""

    accepted: bool
    code: str = ""
    message: str = ""
    version_id: str = ""

    @property
    def words(self) -> str:
        """Return it for a list of attempts."""
        return "accepted" if self.accepted else f"refused ({self.code})"


@dataclass
class _Check:
    destination: "S3Destination"
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


def check(destination: "S3Destination", *, prefix: str, now: datetime) -> Protection:
    """Return how the store protects what this key has written. Needs s3:PutObject. Raises DeliveryError."""
    content = f"Anaphora put this object here on {now:%Y-%m-%d at %H:%M:%S} UTC to try to destroy it.\n".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    key = immutability_check_key(prefix=prefix, checked_at=now, sha256=sha256)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    upload = Upload(key, len(content), sha256, md5, "text/plain; charset=utf-8")
    run = _Check(destination, key, destination.put(upload, io.BytesIO(content)))
    shown = _retention_shown(run)
    _attack(run, content, now, locked=bool(run.receipt.retain_until or shown))
    grade, text, advice = _judge(run, shown=shown)
    said = {title: attempt.words for title, attempt in run.attempts.items()}
    return Protection(grade, text, advice, said, now)


def _retention_shown(run: _Check) -> datetime | None:
    """Return until when the store says that the object is locked; None where it does not say."""
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


def _judge(run: _Check, *, shown: datetime | None) -> tuple[ProtectionGrade, str, str]:
    attempts, asked = run.attempts, run.receipt.retain_until is not None
    accepted = {title for title, attempt in attempts.items() if attempt.accepted}
    if not run.version:
        if accepted & {"overwrite", "overwrite if there is none", "delete"}:
            return _broken(run, accepted, ProtectionGrade.UNPROTECTED)
        return _FORBIDDEN
    if accepted & {"shorten the retention", "delete the version", "delete the version past GOVERNANCE"}:
        return _broken(run, accepted, ProtectionGrade.VERSIONED)
    said = f"{attempts['delete the version'].code} {attempts['delete the version'].message}".lower()
    if shown or any(word in said for word in _LOCK_WORDS) or (asked and _unlocked_can_be_deleted(run)):
        return (
            ProtectionGrade.LOCKED,
            "The store's lock refused to delete the version or to shorten its retention; overwriting keeps it.",
            "",
        )
    return _FORBIDDEN


_FORBIDDEN = (
    ProtectionGrade.FORBIDDEN,
    "The permissions of this key refuse whatever would destroy an object. Who has more permissions still could.",
    "For records that nobody may delete, use a bucket with Object Lock and choose an Object Lock mode.",
)


def _broken(run: _Check, accepted: set[str], grade: ProtectionGrade) -> tuple[ProtectionGrade, str, str]:
    """Return what to say where the object could be destroyed with this key."""
    done = ", ".join(sorted(accepted))
    if "delete the version past GOVERNANCE" in accepted:
        return (
            grade,
            "The store's lock can be bypassed with this key, which has s3:BypassGovernanceRetention.",
            "Take s3:BypassGovernanceRetention away from this key, or choose COMPLIANCE.",
        )
    if run.version and "shorten the retention" in accepted and "delete the version" not in accepted:
        return (
            grade,
            "The store's lock keeps the object, and lets this key shorten the retention: a minute later it is gone.",
            "The store does not keep Object Lock as S3 does: ask the provider. Take s3:DeleteObject* from this key.",
        )
    if run.receipt.retain_until:
        return (
            ProtectionGrade.UNPROTECTED,
            f"The store accepted the retention and does not keep it. With this key one could: {done}.",
            "Object Lock does not work here: ask the provider, and take s3:DeleteObject* away from this key meanwhile.",
        )
    if grade is ProtectionGrade.VERSIONED:
        return (
            grade,
            "Versioning keeps what is overwritten or deleted, but this key may delete versions for good.",
            "Take s3:DeleteObjectVersion away from this key, or use Object Lock.",
        )
    return (
        grade,
        f"Nothing protects an object from this key. One could: {done}.",
        "Turn on versioning or Object Lock in the bucket, and take s3:DeleteObject away from this key.",
    )


def _unlocked_can_be_deleted(run: _Check) -> bool:
    """Tell whether the key may delete what is not locked: then it is the lock that refused to delete what is."""
    overwritten = run.attempts["overwrite"]
    if not (overwritten.accepted and overwritten.version_id):
        return False
    return run.attempt("delete a version without a lock", "delete_object", VersionId=overwritten.version_id)
