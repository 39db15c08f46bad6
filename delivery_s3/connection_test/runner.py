"""Runs a connection test: the steps of `steps`, one after the other, within a time that is bounded whatever the
network does, and what they have found as a report. Nothing here touches the database.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from anaphora.deliveries import errors
from anaphora.deliveries.errors import DIAGNOSES, DeliveryError, Diagnosis, in_a_test
from delivery_s3 import diagnoses
from delivery_s3.connection import Connection
from delivery_s3.connection_test.steps import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    STEPS,
    Outcome,
    Step,
    StepResult,
    Trial,
    not_needed,
)
from delivery_s3.storage import S3Destination

logger = logging.getLogger(__name__)

DEADLINE = 20
"""Seconds that a whole test may last, whatever the network does."""


@dataclass(frozen=True)
class TestReport:
    """What one connection test found. It passed when the test file was written and no step failed."""

    __test__ = False  # not one of pytest's

    tested_at: datetime
    steps: list[Step]
    object_key: str = ""
    retain_until: datetime | None = None
    capabilities: dict[str, str] = field(default_factory=dict)
    """What the store did: `condition` (enforced, ignored, refused), `sha256` (refused), `integrity` (a grade)."""

    @property
    def passed(self) -> bool:
        """Whether a report can be delivered."""
        return bool(self.object_key) and self._failed is None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Return the diagnosis of the step that failed, in words that fit a test, or None."""
        return in_a_test(DIAGNOSES[self._failed.diagnosis]) if self._failed else None

    @property
    def _failed(self) -> Step | None:
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON, with the diagnosis spelled out."""
        failed, diagnosis = self._failed, self.diagnosis
        return {
            "passed": self.passed,
            "tested_at": self.tested_at.isoformat(),
            "object_key": self.object_key,
            "retain_until": self.retain_until.isoformat() if self.retain_until else None,
            "capabilities": self.capabilities,
            "diagnosis": asdict(diagnosis) if diagnosis else None,
            "fix": asdict(failed.fix) if failed and failed.fix else None,
            "steps": [asdict(step) for step in self.steps],
        }


class ConnectionTest:
    """One test of one connection: iterate over `steps()`, then ask for the `report()`.

    `steps()` yields each step as it ends, and has ended after DEADLINE seconds whatever the network does. Leaving it
    early cancels the test. Neither raises DeliveryError.
    """

    def __init__(self, connection: Connection | DeliveryError, *, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self._tested_at = datetime.now(UTC)
        self._trial: Trial | None = None
        self._steps: list[Step] = []
        self._cancelled = threading.Event()

    def steps(self) -> Iterator[Step]:
        """Run the test, yielding its steps."""
        found: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        # A thread, because neither the resolver nor a server that sends a byte now and then heeds a time-out.
        threading.Thread(target=self._run, args=(found,), daemon=True, name="connection-test").start()
        end = monotonic() + DEADLINE
        try:
            while True:
                try:
                    step = found.get(timeout=max(end - monotonic(), 0))
                except queue.Empty:
                    yield from self._out_of_time()
                    return
                if step is None:
                    return
                self._steps.append(step)
                yield step
        finally:
            self._cancelled.set()

    def report(self) -> TestReport:
        """Return what the steps so far have found."""
        receipt = self._trial.receipt if self._trial else None
        return TestReport(
            tested_at=self._tested_at,
            steps=self._steps,
            object_key=receipt.object_key if receipt else "",
            retain_until=receipt.retain_until if receipt else None,
            capabilities=dict(self._trial.capabilities) if self._trial else {},
        )

    def _run(self, found: "queue.SimpleQueue[Step | None]") -> None:
        failed = False
        for title, function, optional in STEPS:
            if self._cancelled.is_set():
                break
            if failed:
                found.put(Step(title, Outcome.SKIPPED))
                continue
            step = self._step(title, function, optional=optional)
            failed = step.outcome is Outcome.FAILED
            found.put(step)
        found.put(None)

    def _step(self, title: str, function: Callable[[Trial], StepResult], *, optional: bool) -> Step:
        started = monotonic()
        try:
            if self._trial is None:
                self._trial = self._start()
            outcome, text = function(self._trial)
        except (
            Exception
        ) as unexpected:  # whoever waits is told at once what it was, not after DEADLINE that it was slow
            error = unexpected if isinstance(unexpected, DeliveryError) else _internal(unexpected)
            if optional:
                outcome, text = not_needed(error)
            else:
                diagnosis = error.diagnosis
                seconds = round(monotonic() - started, 3)
                return Step(title, Outcome.FAILED, seconds, diagnosis.title, diagnosis.code, error.detail, error.fix)
        return Step(title, outcome, round(monotonic() - started, 3), text)

    def _start(self) -> Trial:
        if isinstance(self._connection, DeliveryError):
            raise self._connection
        # The shortest lock there is: a test file need not outlast its use.
        connection = replace(
            self._connection,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retention_days=min(self._connection.retention_days, 1),
        )
        return Trial(connection, self._prefix, self._tested_at, S3Destination(connection))

    def _out_of_time(self) -> Iterator[Step]:
        waiting = STEPS[len(self._steps) :]
        for title, _, optional in waiting:
            if optional:
                step = Step(title, Outcome.SKIPPED, 0, "No time was left.")
            elif any(each.outcome is Outcome.FAILED for each in self._steps):
                step = Step(title, Outcome.SKIPPED)
            else:
                diagnosis = diagnoses.TEST_TOO_SLOW
                step = Step(title, Outcome.FAILED, DEADLINE, diagnosis.title, diagnosis.code)
            self._steps.append(step)
            yield step


def _internal(error: Exception) -> DeliveryError:
    logger.error("A step of a connection test failed unexpectedly", exc_info=error)
    return DeliveryError(errors.INTERNAL, type(error).__name__)
