"""What the Test button runs: named steps from the settings to a file in the bucket.

The write is the production path itself: the same storage call, with the same prefix, encryption, lock mode,
checksum and condition as a report's. The test file stays in the bucket, for whoever wants to see it there.
Nothing here touches the database.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import monotonic
from typing import Any

from delivery_s3.diagnosis import CATALOGUE, DeliveryError, Diagnosis
from delivery_s3.keys import connection_test_key, content_disposition
from delivery_s3.storage import ArchiveStorage, Connection, Integrity, Receipt, Upload

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 10
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


@dataclass(frozen=True)
class TestReport:
    """What one connection test found. It passed when no step failed."""

    __test__ = False  # not one of pytest's

    tested_at: datetime
    steps: list[Step]
    object_key: str = ""

    @property
    def passed(self) -> bool:
        """Whether a report can be delivered."""
        return all(step.outcome is not Outcome.FAILED for step in self.steps)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Return the catalogue's entry of the step that failed, or None."""
        return next((CATALOGUE[step.diagnosis] for step in self.steps if step.diagnosis), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON, with the diagnosis spelled out."""
        diagnosis = self.diagnosis
        return {
            "passed": self.passed,
            "tested_at": self.tested_at.isoformat(timespec="seconds"),
            "object_key": self.object_key,
            "diagnosis": asdict(diagnosis) if diagnosis else None,
            "steps": [asdict(step) for step in self.steps],
        }


@dataclass
class _Trial:
    """What the steps hand on to each other."""

    connection: Connection
    prefix: str
    tested_at: datetime
    storage: ArchiveStorage | None = None
    receipt: Receipt | None = None
    notes: dict[str, str] = field(default_factory=dict)


def run(connection: Connection, *, prefix: str) -> TestReport:
    """Test a connection, putting one small file under `prefix`. Takes some 15 s at the worst. Never raises
    DeliveryError: what went wrong is in the report."""
    trial = _Trial(connection, prefix, datetime.now(UTC))
    steps = list(_steps(trial))
    return TestReport(trial.tested_at, steps, trial.receipt.object_key if trial.receipt else "")


def failed_before_start(error: DeliveryError) -> TestReport:
    """Return the report of a test that had nothing to start with, because the settings give no connection."""
    steps = [_failed(STEPS[0][0], error, 0), *(Step(title, Outcome.SKIPPED) for title, _ in STEPS[1:])]
    return TestReport(datetime.now(UTC), steps)


def _steps(trial: _Trial) -> Iterator[Step]:
    """Run the steps in their order; after one that failed the others are skipped."""
    failed = False
    for title, step in STEPS:
        if failed:
            yield Step(title, Outcome.SKIPPED)
            continue
        started = monotonic()
        try:
            outcome, text = step(trial)
        except DeliveryError as error:
            failed = True
            yield _failed(title, error, monotonic() - started)
        else:
            yield Step(title, outcome, round(monotonic() - started, 3), text)


def _failed(title: str, error: DeliveryError, seconds: float) -> Step:
    diagnosis = error.diagnosis
    return Step(title, Outcome.FAILED, round(seconds, 3), diagnosis.title, diagnosis.code, error.detail)


def _settings(trial: _Trial) -> tuple[Outcome, str]:
    trial.storage = ArchiveStorage(trial.connection)
    _ = trial.storage.client
    return Outcome.PASSED, f"Bucket {trial.connection.bucket_name} at {trial.connection.endpoint_url or 'AWS S3'}"


def _write(trial: _Trial) -> tuple[Outcome, str]:
    assert trial.storage is not None
    text = (
        f"Anaphora put this file here on {trial.tested_at:%Y-%m-%d at %H:%M:%S} UTC\n"
        "to test that reports can be archived in this bucket. It may be deleted.\n"
    ).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    upload = Upload(
        key=connection_test_key(prefix=trial.prefix, tested_at=trial.tested_at, sha256=sha256),
        size=len(text),
        sha256=sha256,
        md5=hashlib.md5(text, usedforsecurity=False).hexdigest(),
        content_type="text/plain; charset=utf-8",
        content_disposition=content_disposition("anaphora-connection-test.txt"),
    )
    trial.receipt = trial.storage.put(upload, io.BytesIO(text))
    return Outcome.PASSED, f"Stored {trial.receipt.object_key}"


def _integrity(trial: _Trial) -> tuple[Outcome, str]:
    assert trial.receipt is not None
    return {
        Integrity.SHA256: (Outcome.PASSED, "The store confirmed the SHA-256."),
        Integrity.ETAG: (Outcome.PASSED, "The store confirmed the MD5."),
        Integrity.MD5: (Outcome.PASSED, "The store accepted the MD5; it shows no checksum of its own."),
        Integrity.NONE: (Outcome.ADVICE, "The store confirmed no checksum."),
    }[trial.receipt.integrity]


STEPS: list[tuple[str, Callable[[_Trial], tuple[Outcome, str]]]] = [
    ("Settings", _settings),
    ("Write", _write),
    ("Integrity", _integrity),
]
"""Title and function of each step, in order. To add one, add a row."""
