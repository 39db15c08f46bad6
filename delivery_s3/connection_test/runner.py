"""Runs the steps of a connection test one after the other, within DEADLINE, and reports their results.

Does not use the database.
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
    StepState,
    skipped_optional_step,
)
from delivery_s3.storage import S3Destination

logger = logging.getLogger(__name__)

DEADLINE = 20
"""The maximum duration of a test in seconds, whatever the network does."""


@dataclass(frozen=True)
class TestReport:
    """The result of a connection test. It passed if the test file was written and no step failed."""

    __test__ = False  # not one of pytest's

    tested_at: datetime
    steps: list[Step]
    object_key: str = ""
    retain_until: datetime | None = None
    capabilities: dict[str, str] = field(default_factory=dict)
    """What the store supports: `condition` (enforced, ignored, refused), `sha256` (refused), `integrity` (a grade)."""
    protection: dict[str, Any] = field(default_factory=dict)
    """The result of the immutability check; empty if it was not made."""

    @property
    def passed(self) -> bool:
        """Whether a report can be delivered."""
        return bool(self.object_key) and self._failed is None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the failed step, with a remedy for a test, or None."""
        return in_a_test(DIAGNOSES[self._failed.diagnosis]) if self._failed else None

    @property
    def _failed(self) -> Step | None:
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def as_json(self) -> dict[str, Any]:
        """Return a dict of JSON values, with all fields of the diagnosis."""
        failed, diagnosis = self._failed, self.diagnosis
        return {
            "passed": self.passed,
            "tested_at": self.tested_at.isoformat(),
            "object_key": self.object_key,
            "retain_until": self.retain_until.isoformat() if self.retain_until else None,
            "capabilities": self.capabilities,
            "protection": self.protection,
            "diagnosis": asdict(diagnosis) if diagnosis else None,
            "fix": asdict(failed.fix) if failed and failed.fix else None,
            "steps": [asdict(step) for step in self.steps],
        }


class ConnectionTest:
    """One test of one connection. Iterate over `steps()`, then call `report()`.

    `steps()` yields each step when it ends, and stops after DEADLINE seconds. Closing the iterator early cancels the
    test. Neither method raises DeliveryError.
    """

    def __init__(self, connection: Connection | DeliveryError, *, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        self._tested_at = datetime.now(UTC)
        self._state: StepState | None = None
        self._steps: list[Step] = []
        self._cancelled = threading.Event()

    def steps(self) -> Iterator[Step]:
        """Run the test and yield its steps."""
        results: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        # A thread, because timeouts limit neither DNS queries nor a server that sends single bytes slowly.
        threading.Thread(target=self._run, args=(results,), daemon=True, name="connection-test").start()
        end = monotonic() + DEADLINE
        try:
            while True:
                try:
                    step = results.get(timeout=max(end - monotonic(), 0))
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
        """Return the results of the steps so far."""
        receipt = self._state.receipt if self._state else None
        return TestReport(
            tested_at=self._tested_at,
            steps=self._steps,
            object_key=receipt.object_key if receipt else "",
            retain_until=receipt.retain_until if receipt else None,
            capabilities=dict(self._state.capabilities) if self._state else {},
            protection=dict(self._state.protection) if self._state else {},
        )

    def _run(self, results: "queue.SimpleQueue[Step | None]") -> None:
        failed = False
        for title, function, optional in STEPS:
            if self._cancelled.is_set():
                break
            if failed:
                results.put(Step(title, Outcome.SKIPPED))
                continue
            step = self._step(title, function, optional=optional)
            failed = step.outcome is Outcome.FAILED
            results.put(step)
        results.put(None)

    def _step(self, title: str, function: Callable[[StepState], StepResult], *, optional: bool) -> Step:
        started = monotonic()
        try:
            if self._state is None:
                self._state = self._start()
            outcome, text = function(self._state)
        except Exception as unexpected:  # also a bug ends the step at once, instead of at DEADLINE
            error = unexpected if isinstance(unexpected, DeliveryError) else _internal(unexpected)
            if optional:
                outcome, text = skipped_optional_step(error)
            else:
                diagnosis = error.diagnosis
                seconds = round(monotonic() - started, 3)
                return Step(title, Outcome.FAILED, seconds, diagnosis.title, diagnosis.code, error.detail, error.fix)
        return Step(title, outcome, round(monotonic() - started, 3), text)

    def _start(self) -> StepState:
        if isinstance(self._connection, DeliveryError):
            raise self._connection
        # One day is the shortest retention; a test file needs no more.
        connection = replace(
            self._connection,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retention_days=min(self._connection.retention_days, 1),
        )
        return StepState(connection, self._prefix, self._tested_at, S3Destination(connection))

    def _out_of_time(self) -> Iterator[Step]:
        remaining = STEPS[len(self._steps) :]
        for title, _, optional in remaining:
            if optional:
                step = Step(title, Outcome.SKIPPED, 0, "Skipped because the test ran out of time.")
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
