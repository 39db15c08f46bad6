"""Object keys and object metadata: pure functions of what a report is. No input or output.

A key contains the content's SHA-256, so it names exactly one content, and the instant in UTC, so a plain
listing of the bucket is in order of time. The metadata makes an object understandable without any database.
"""

import re
from datetime import UTC, datetime
from urllib.parse import quote

FORMAT_VERSION = "1"
"""Of keys and metadata together; a reader of the bucket goes by it."""

MAX_KEY_BYTES = 1024
"""Amazon S3 User Guide, "Naming Amazon S3 objects"."""

_PREFIX = re.compile(r"(?:[A-Za-z0-9!_.*'()-]+/)+")


def prefix_problem(prefix: str) -> str:
    """Return what is wrong with a key prefix, in words; empty when it can be used."""
    if not prefix:
        return ""
    if not _PREFIX.fullmatch(prefix):
        return (
            "Use folders of letters, digits and - _ . ! * ' ( ), each followed by a slash, and none before "
            "the first, as in reports/finance/."
        )
    if any(part in {".", ".."} for part in prefix.split("/")):
        return "A folder can't be named . or .. here."
    return ""


def object_key(*, prefix: str, dashboard: str, rendered_at: datetime, sha256: str, suffix: str) -> str:
    """Return `{prefix}{dashboard}/{YYYY}/{MM}/{DD}/{YYYYMMDDTHHMMSSZ}_{16 hex}{suffix}`, in UTC.

    `prefix` is empty or ends with a slash; `dashboard` is a slug; `sha256` is hexadecimal; `suffix` is the
    report's, such as `.pdf`, or empty.
    """
    instant = rendered_at.astimezone(UTC)
    day = f"{instant.year:04}/{instant:%m/%d}"
    return f"{prefix}{dashboard}/{day}/{_stamp(instant)}_{sha256[:16]}{suffix}"


def connection_test_key(*, prefix: str, tested_at: datetime, sha256: str) -> str:
    """Return the key of a connection test's file. A folder that no dashboard's slug can name keeps it apart."""
    return f"{prefix}connection.test/{_stamp(tested_at.astimezone(UTC))}_{sha256[:16]}.txt"


def object_metadata(
    *, report_id: str, dashboard: str, rendered_at: datetime, sha256: str, filename: str
) -> dict[str, str]:
    """Return the `x-amz-meta-*` values, without that prefix, all ASCII: the file name is percent-encoded UTF-8."""
    instant = rendered_at.astimezone(UTC)
    return {
        "format-version": FORMAT_VERSION,
        "report-id": report_id,
        "dashboard": dashboard,
        "rendered-at": f"{instant.year:04}-{instant:%m-%dT%H:%M:%SZ}",
        "sha256": sha256,
        "filename": quote(filename, safe=""),
    }


def content_disposition(filename: str) -> str:
    """Return the header that makes a browser save the object under its original name.

    Two forms, as RFC 6266 recommends: plain ASCII for old clients, percent-encoded UTF-8 for all others.
    """
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _stamp(instant: datetime) -> str:
    return f"{instant.year:04}{instant:%m%dT%H%M%SZ}"
