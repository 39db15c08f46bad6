"""The failures of a delivery: the diagnoses that all destinations share, and the exception that carries a diagnosis.

    Exception
      DeliveryError         an expected failure: one Diagnosis of the catalogue and a line of detail
      everything else       a bug: logged with its traceback and raised again

Every failure that an administrator can see has a `Diagnosis`. Each kind of destination defines its own diagnoses in its
own module and registers them. No I/O.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from anaphora.foreign_text import clean_line


class FailureScope(StrEnum):
    """What a failure affects: one report, or the interface and so every report that waits for it.

    EITHER is for failures that can have both causes, such as a lost connection or an error inside the store. They
    count as failures of the interface, unless another report was delivered at the same time.
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
    """The form field to correct; empty for none."""
    retryable: bool = False
    """Whether a retry can succeed without an administrator's action."""
    scope: FailureScope = FailureScope.INTERFACE
    of_one_object: bool = False
    """Whether reading can fail in this way for a single object, for example one encrypted with another key."""


@dataclass(frozen=True)
class Fix:
    """A value that would solve the problem, offered as a button beside the diagnosis."""

    field: str
    value: str
    label: str


class DeliveryError(Exception):
    """An expected failure of a request to a destination, explained by a diagnosis of the catalogue."""

    def __init__(
        self, diagnosis: Diagnosis, detail: str = "", *, fix: Fix | None = None, retry_after: float = 0
    ) -> None:
        self.diagnosis = diagnosis
        self.detail = detail = clean_line(detail)
        """The exact error in one line, for experts. Never contains a secret."""
        self.fix = fix
        self.retry_after = retry_after
        """Seconds to wait before the next attempt, as the store asked."""
        super().__init__(f"{diagnosis.title}: {detail}" if detail else diagnosis.title)


DIAGNOSES: dict[str, Diagnosis] = {}
"""The catalogue: the diagnoses of all installed kinds of destination, by code."""


def register(names: Mapping[str, object]) -> None:
    """Add the diagnoses of a module to the catalogue. Call `register(globals())` at the end of the module.

    Raises ValueError if another diagnosis already has the code.
    """
    for diagnosis in (each for each in names.values() if isinstance(each, Diagnosis)):
        if DIAGNOSES.setdefault(diagnosis.code, diagnosis) != diagnosis:
            raise ValueError(f"Two diagnoses have the code {diagnosis.code!r}")


def as_markdown(diagnoses: Iterable[Diagnosis]) -> str:
    """Return diagnoses as sections of docs/troubleshooting.md."""
    return "\n\n".join(f"### {each.title}\n\n{each.meaning}\n\n**What to do:** {each.remedy}" for each in diagnoses)


RETRIED = "The delivery will be retried automatically."


def in_a_test(diagnosis: Diagnosis) -> Diagnosis:
    """Return the diagnosis with a remedy for a connection test, which is not retried automatically."""
    return replace(diagnosis, remedy=diagnosis.remedy.replace(RETRIED, "Test again."))


# One report.
DIGEST_MISMATCH = Diagnosis(
    "digest_mismatch",
    "Content changed in transit",
    "The store received different content than was sent, and refused it.",
    f"{RETRIED} If the problem persists, check for a proxy between this machine and the store that changes content.",
    retryable=True,
    scope=FailureScope.REPORT,
)
LOCAL_COPY_CHANGED = Diagnosis(
    "local_copy_changed",
    "Local copy changed after ingest",
    "The content of the local file no longer matches the SHA-256 that was calculated when the report was ingested. A "
    "disk fault is a possible cause. The changed file was not archived.",
    "Restore the file from a backup, or render the report again and upload it. Check the disk under DATA_DIR.",
    scope=FailureScope.REPORT,
)
LOCAL_COPY_MISSING = Diagnosis(
    "local_copy_missing",
    "Local copy missing",
    "The file of the report is no longer in the local store.",
    "Upload the file again with the same date; it replaces the missing file. Then retry the delivery.",
    scope=FailureScope.REPORT,
)
LOCAL_COPY_UNREADABLE = Diagnosis(
    "local_copy_unreadable",
    "Local copy not readable",
    "The file of the report is in the local store but cannot be read.",
    "Check the file permissions and the disk under DATA_DIR.",
    retryable=True,
    scope=FailureScope.REPORT,
)
KEY_TAKEN = Diagnosis(
    "key_taken",
    "Key used by another object",
    "The bucket already contains another object with this key. The object was not changed.",
    "Find out who else writes to this bucket, and set a Key prefix that only this interface uses.",
    field="key_prefix",
    scope=FailureScope.REPORT,
)
OBJECT_CHANGED = Diagnosis(
    "object_changed",
    "Stored object changed",
    "The object in the store is not the report that was archived. Its content was not shown.",
    "Run verify_archive, and find out who else writes to this bucket. If the bucket has versioning or Object Lock, the "
    "report still exists as an earlier version.",
    scope=FailureScope.REPORT,
)

# The installation.
INTERFACE_DISABLED = Diagnosis(
    "interface_disabled",
    "Interface disabled",
    "The interface is disabled, so its deliveries wait.",
    "Select Enabled on the page of the interface and save. Waiting deliveries will then start automatically.",
    field="enabled",
)
NO_WORKER = Diagnosis(
    "no_worker",
    "No worker runs",
    "Workers deliver the reports to their interfaces. No worker has been seen lately, so new reports wait.",
    "Start the worker service (celery --app anaphora worker). If it is running, check its log. Waiting deliveries will "
    "then start automatically. To deliver without a worker, run manage.py deliver_due.",
    retryable=True,
)
NO_BEAT = Diagnosis(
    "no_beat",
    "No beat runs",
    "Celery beat starts retries, scheduled policies, the inbox and housekeeping. No beat has been seen lately, so "
    "these tasks wait. New reports are still delivered.",
    "Start the beat service (celery --app anaphora beat). If it is running, check its log. Waiting tasks will then "
    "start automatically.",
    retryable=True,
)
INTERNAL = Diagnosis(
    "internal",
    "Internal error",
    "An unexpected error occurred in Anaphora. The log contains the traceback.",
    "Report this error to the developers of Anaphora, with the log lines from that time.",
    retryable=True,
    scope=FailureScope.REPORT,
)

KIND_MISSING = Diagnosis(
    "kind_missing",
    "Kind of destination not installed",
    "The app for this kind of interface is not installed.",
    "Add the app to INSTALLED_APPS and restart the web server and the workers, or disable the interface.",
)

register(globals())
