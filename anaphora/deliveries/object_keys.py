"""Builds and parses object keys and object metadata. Pure functions, no I/O.

A key contains the content's SHA-256, so it names exactly one content, and the instant in UTC, so a plain
listing of the bucket is in order of time. The metadata makes an object understandable without any database.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote
from uuid import UUID

from anaphora.foreign_text import clean_line
from anaphora.reports.timestamps import compact_instant, is_plausible, iso_instant, parse_compact_instant

FORMAT_VERSION = "1"
"""The version of the keys and metadata of reports. Readers of the bucket check it."""

MANIFEST_VERSION = 2
"""The version of manifests and the files that belong to them."""

MAX_KEY_BYTES = 1024
"""Amazon S3 User Guide, "Naming Amazon S3 objects"."""

MAX_NAME_BYTES = 240
"""The longest file name in Content-Disposition, percent-encoded."""

MAX_TITLE_BYTES = 200
"""The longest dashboard title in the metadata, percent-encoded. Longer titles are left out."""

_PREFIX = re.compile(r"(?:[A-Za-z0-9!_.*'()-]+/)+")
_SHA256, _MD5 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
_OF_A_REPORT = re.compile(
    r"(?P<dashboard>[-a-zA-Z0-9_]{1,100})/\d{4}/\d\d/\d\d/(?P<stamp>\d{8}T\d{6}Z)_[0-9a-f]{16}(?:\.[a-z0-9]{1,10})?"
)
_OF_A_CATALOGUE = re.compile(r"[-a-zA-Z0-9_]{1,100}/catalogue/\d{4}-\d\d-\d\d\.jsonl")
_OF_A_TEST = re.compile(r"(?:connection\.test|immutability\.check)/\d{8}T\d{6}Z_[0-9a-f]{16}\.txt")
_OF_A_MANIFEST = re.compile(r"archive\.manifests/\d{4}/\d{4}-\d\d-\d\d(?:\.\d{1,10})?\.jsonl")
_BESIDE_MANIFESTS = re.compile(
    r"archive\.manifests/(?:\d{4}/[-0-9.]{10,21}\.jsonl\.(?:sig|tsr)|keys/[0-9a-f]{64}\.pem"
    r"|verifier/[0-9a-f]{16}/verify_archive\.py)"
)

_KINDS = (
    ("report", _OF_A_REPORT),
    ("manifest", _OF_A_MANIFEST),
    ("proof", _BESIDE_MANIFESTS),
    ("catalogue", _OF_A_CATALOGUE),
    ("test", _OF_A_TEST),
)


def prefix_problem(prefix: str) -> str:
    """Return a sentence about what is wrong with a key prefix; empty if it is valid."""
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
    stamp = compact_instant(rendered_at)
    return f"{prefix}{dashboard}/{stamp[:4]}/{stamp[4:6]}/{stamp[6:8]}/{stamp}_{sha256[:16]}{suffix}"


def connection_test_key(*, prefix: str, tested_at: datetime, sha256: str) -> str:
    """Return the key of a connection test's file. Its folder contains a dot, so no dashboard's slug can equal it."""
    return f"{prefix}connection.test/{compact_instant(tested_at)}_{sha256[:16]}.txt"


def immutability_check_key(*, prefix: str, checked_at: datetime, sha256: str) -> str:
    """Return the key of the object that an immutability check attacks."""
    return f"{prefix}immutability.check/{compact_instant(checked_at)}_{sha256[:16]}.txt"


def manifests_prefix(prefix: str) -> str:
    """Return the prefix of all manifests' keys. Its folder contains a dot, so no dashboard's slug can equal it."""
    return f"{prefix}archive.manifests/"


def manifest_key(*, prefix: str, day: date, again: int | None = None) -> str:
    """Return the key of the manifest of a UTC day.

    `again` is the manifest's sequence number if the day already has a manifest, because a clock was set back.
    """
    name = day.isoformat() if again is None else f"{day.isoformat()}.{again}"
    return f"{manifests_prefix(prefix)}{day.year:04}/{name}.jsonl"


def public_key_key(*, prefix: str, fingerprint: str) -> str:
    """Return the key of a public key."""
    return f"{manifests_prefix(prefix)}keys/{fingerprint}.pem"


def verifier_key(*, prefix: str, sha256: str) -> str:
    """Return the key of the verifier with this SHA-256. Each version of the verifier has its own key."""
    return f"{manifests_prefix(prefix)}verifier/{sha256[:16]}/verify_archive.py"


def object_metadata(
    *,
    report_id: str,
    dashboard: str,
    title: str,
    rendered_at: datetime,
    ingested_at: datetime,
    sha256: str,
    md5: str,
    filename: str,
) -> dict[str, str]:
    """Return the `x-amz-meta-*` values by name without that prefix. All are ASCII; names are percent-encoded UTF-8."""
    metadata = {
        "format-version": FORMAT_VERSION,
        "report-id": report_id,
        "dashboard": dashboard,
        "rendered-at": iso_instant(rendered_at.replace(microsecond=0)),
        "ingested-at": iso_instant(ingested_at),
        "sha256": sha256,
        "md5": md5,
        "filename": quote(filename, safe=""),
    }
    encoded = quote(title, safe="")
    return metadata | ({"title": encoded} if 0 < len(encoded) <= MAX_TITLE_BYTES else {})


class Described(NamedTuple):
    """A report as described by its object's key and metadata, or by a line of a manifest."""

    report_id: UUID
    dashboard: str
    title: str
    rendered_at: datetime
    ingested_at: datetime
    sha256: str
    md5: str
    filename: str


class Unclear(ValueError):  # noqa: N818  # a state of an object, not a malfunction
    """Key and metadata do not describe a report; the message says why."""


def kind_of(prefix: str, key: str) -> str:
    """Return the kind of object that a key belongs to; empty if the archive writes no such key.

    The kinds are `report`, `manifest`, `proof` (signatures, time stamps, public keys and the verifier), `catalogue`
    (written by earlier versions) and `test`.
    """
    if not key.startswith(prefix):
        return ""
    rest = key.removeprefix(prefix)
    for kind, pattern in _KINDS:
        if pattern.fullmatch(rest):
            return kind
    return ""


def parts_of(prefix: str, key: str) -> tuple[str, datetime]:
    """Return dashboard and instant of a report's key. Raises ValueError if the instant is not a valid date."""
    found = _OF_A_REPORT.fullmatch(key.removeprefix(prefix))
    if found is None:
        raise ValueError(key)
    return found["dashboard"], parse_compact_instant(found["stamp"])


def described(*, prefix: str, key: str, metadata: Mapping[str, str]) -> Described:
    """Return the report described by a key and its metadata. Raises Unclear."""
    version = metadata.get("format-version")
    if version is None:
        raise Unclear("It does not have the metadata of a report.")
    if version != FORMAT_VERSION:
        raise Unclear(f"Its format version is {version}; this program reads {FORMAT_VERSION}.")
    try:
        found = Described(
            report_id=UUID(metadata["report-id"]),
            dashboard=metadata["dashboard"],
            title=unquote(metadata.get("title", ""), errors="strict"),
            rendered_at=instant_of(metadata["rendered-at"]),
            ingested_at=instant_of(metadata["ingested-at"]),
            sha256=metadata["sha256"],
            md5=metadata["md5"],
            filename=unquote(metadata["filename"], errors="strict"),
        )
    except KeyError as error:
        raise Unclear(f"Its metadata lack {error.args[0]}.") from error
    except (ValueError, OverflowError) as error:
        raise Unclear(f"Its metadata can't be read: {clean_line(str(error), 200)}.") from error
    return checked(found, prefix=prefix, key=key)


def checked(found: Described, *, prefix: str, key: str) -> Described:
    """Return the description of a report if it is valid and matches its key. Raises Unclear."""
    if not (_SHA256.fullmatch(found.sha256) and _MD5.fullmatch(found.md5)):
        raise Unclear("Its metadata name no digests.")
    if not is_plausible(found.rendered_at, datetime.now(UTC)):
        raise Unclear(f"Its metadata say that it was rendered at {iso_instant(found.rendered_at)}.")
    filename = found.filename
    if not filename.isprintable() or not 0 < len(filename.encode()) <= 255 or "/" in filename or "\\" in filename:
        raise Unclear("Its metadata name no file.")
    if not found.title.isprintable() or len(found.title) > 200:
        raise Unclear("Its metadata have a title that is none.")
    wanted = object_key(
        prefix=prefix, dashboard=found.dashboard, rendered_at=found.rendered_at, sha256=found.sha256, suffix=""
    )
    if not key.startswith(wanted):
        raise Unclear("Its metadata belong to another key.")
    return found


def instant_of(text: str) -> datetime:
    """Return an instant with a time zone in UTC. Raises ValueError, and OverflowError for one outside the calendar."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found.astimezone(UTC)


def content_disposition(filename: str) -> str:
    """Return the header that makes a browser save the object under its original name.

    It contains the name twice, as RFC 6266 recommends: in plain ASCII for old clients, in percent-encoded UTF-8 for all
    others. A very long name is shortened, because stores limit headers and metadata to 2 KB in all. The metadata have
    the complete name.
    """
    stem, dot, ending = filename.rpartition(".")
    while len(quote(filename, safe="")) > MAX_NAME_BYTES and stem:
        stem = stem[:-1]
        filename = f"{stem}{dot}{ending}"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
