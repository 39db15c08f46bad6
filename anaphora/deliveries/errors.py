"""What can go wrong on the way to a destination: the diagnoses, and the error that carries one.

    Exception
      DeliveryError         an anticipated failure: one Diagnosis of the catalogue and a line of detail
      everything else       a bug: logged with its traceback and raised again

Every failure that can reach an administrator is a `Diagnosis`. This module defines those that every kind of
destination shares; each kind defines its own in a module of its own and registers them. No I/O.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from anaphora.foreign_text import words


class FailureScope(StrEnum):
    """What a failure concerns: one report, or the interface and with it every report that waits for it.

    A lost connection or an error inside the store alone cannot tell which of the two it is. It counts as the
    interface's, unless another report was delivered at the same time.
    """

    REPORT = "report"
    INTERFACE = "interface"
    EITHER = "either"


@dataclass(frozen=True)
class Diagnosis:
    """One entry of the catalogue, in the words of the configuration page."""

    code: str
    title: str
    meaning: str
    remedy: str
    field: str = ""
    """The field of the configuration page that it concerns; empty for none."""
    retryable: bool = False
    """Whether the failure may pass without an administrator's action."""
    scope: FailureScope = FailureScope.INTERFACE
    of_one_object: bool = False
    """Whether a store may refuse so to read one object alone, such as one encrypted with another's key."""


@dataclass(frozen=True)
class Fix:
    """A value that would solve the problem, offered as a button beside the diagnosis."""

    field: str
    value: str
    label: str


class DeliveryError(Exception):
    """A report or a test file did not reach its destination, for a reason that the catalogue knows."""

    def __init__(
        self, diagnosis: Diagnosis, detail: str = "", *, fix: Fix | None = None, retry_after: float = 0
    ) -> None:
        self.diagnosis = diagnosis
        self.detail = detail = words(detail)
        """The exact answer, in one line, for an expert. Never a secret."""
        self.fix = fix
        self.retry_after = retry_after
        """Seconds that the store asked to wait."""
        super().__init__(f"{diagnosis.title}: {detail}" if detail else diagnosis.title)


DIAGNOSES: dict[str, Diagnosis] = {}
"""Every diagnosis of every installed kind of destination, by code."""


def register(names: Mapping[str, object]) -> None:
    """Add the diagnoses that a module defines to the catalogue: `register(globals())` at its end.

    Raises ValueError for a code that another diagnosis has.
    """
    for diagnosis in (each for each in names.values() if isinstance(each, Diagnosis)):
        if DIAGNOSES.setdefault(diagnosis.code, diagnosis) != diagnosis:
            raise ValueError(f"Two diagnoses have the code {diagnosis.code!r}")


def as_markdown(diagnoses: Iterable[Diagnosis]) -> str:
    """Return diagnoses as sections of docs/troubleshooting.md."""
    return "\n\n".join(f"### {each.title}\n\n{each.meaning}\n\n**What to do:** {each.remedy}" for each in diagnoses)


RETRIED = "The delivery will be retried automatically."


def in_a_test(diagnosis: Diagnosis) -> Diagnosis:
    """Return a diagnosis in words that fit a connection test, after which nothing is retried."""
    return replace(diagnosis, remedy=diagnosis.remedy.replace(RETRIED, "Test again."))


# One report.
DIGEST_MISMATCH = Diagnosis(
    "digest_mismatch",
    "Content arrived changed",
    "What the store received isn't what was sent; it kept nothing.",
    f"{RETRIED} If it persists, something between here and the store changes what passes through it.",
    retryable=True,
    scope=FailureScope.REPORT,
)
LOCAL_COPY_CHANGED = Diagnosis(
    "local_copy_changed",
    "Local copy changed since it came in",
    "The file's bytes are no longer those whose SHA-256 was taken when it came in; a disk fault looks like this. "
    "Nothing wrong was archived.",
    "Restore the file from a backup or render it again and take it in again; check the disk under DATA_DIR.",
    scope=FailureScope.REPORT,
)
LOCAL_COPY_MISSING = Diagnosis(
    "local_copy_missing",
    "Local copy missing",
    "The file that came in is no longer in the local store.",
    "Take the same file in again with the same date: it takes the lost one's place. Then retry the delivery.",
    scope=FailureScope.REPORT,
)
LOCAL_COPY_UNREADABLE = Diagnosis(
    "local_copy_unreadable",
    "Local copy not readable",
    "The file is in the local store but can't be read.",
    "Check the permissions and the disk under DATA_DIR.",
    retryable=True,
    scope=FailureScope.REPORT,
)
KEY_TAKEN = Diagnosis(
    "key_taken",
    "Key taken by something else",
    "An object of this key is in the bucket, and it isn't this report. It was left as it is.",
    "Find out who writes into this bucket; give the interface a Key prefix of its own.",
    field="key_prefix",
    scope=FailureScope.REPORT,
)
OBJECT_CHANGED = Diagnosis(
    "object_changed",
    "Stored object changed",
    "What the store holds under the receipt's key is not the report that was archived. It was not shown.",
    "Run verify_archive, and find out who writes to this bucket. A bucket with versioning or Object Lock still has "
    "the report as an earlier version.",
    scope=FailureScope.REPORT,
)

# The installation.
INTERFACE_DISABLED = Diagnosis(
    "interface_disabled",
    "Interface disabled",
    "The interface is switched off, so what should go there waits.",
    "Tick Enabled on the interface's page and save. What waits goes on by itself then.",
    field="enabled",
)
NO_WORKER = Diagnosis(
    "no_worker",
    "No worker runs",
    "Workers bring the reports to their interfaces. None has been seen lately, so what comes in waits.",
    "Start the worker service (celery --app anaphora worker), or look into its log if it runs. What waits goes on "
    "by itself then. To deliver without a worker, run manage.py deliver_due.",
    retryable=True,
)
NO_BEAT = Diagnosis(
    "no_beat",
    "No beat runs",
    "Beat starts what is done at its time: retries, scheduled policies, the inbox, housekeeping. None has been "
    "seen lately, so these wait. Fresh reports are delivered all the same.",
    "Start the beat service (celery --app anaphora beat), or look into its log if it runs. What waits goes on by "
    "itself then.",
    retryable=True,
)
INTERNAL = Diagnosis(
    "internal",
    "Internal error",
    "Anaphora itself failed here. The log has the particulars.",
    "Please report it, with the log's lines of that moment.",
    retryable=True,
    scope=FailureScope.REPORT,
)

KIND_MISSING = Diagnosis(
    "kind_missing",
    "Kind of destination not installed",
    "The app that delivers to this kind of interface is not among the installed apps.",
    "Add the app to INSTALLED_APPS and restart the web server and the workers, or disable the interface.",
)

register(globals())
