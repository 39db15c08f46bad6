#!/usr/bin/env python3
"""Verify a copy of an archive, or one report's evidence, offline: with Python 3.10 or newer and the openssl program.

    python3 verify_archive.py FOLDER --public-key KEY.pem [--until DATE] [--json]
    python3 verify_archive.py EVIDENCE.zip [--public-key KEY.pem]

FOLDER is a copy of a bucket, or of an interface's key prefix in it. Exits 0 if everything is proven, else 1.
docs/proof.md explains what that proves, and against whom. Nothing in the folder is trusted unless it was signed by a
key given on the command line, or by a successor that such a key announced in a signed manifest.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import ssl
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

FORMAT_VERSION = 2
LONGEST_LINE = 64 * 1024
"""Bytes of one line of a manifest. A report's line needs less than a tenth of that."""
MOST_KEPT = 10_000
"""Findings kept for --json."""
MOST_SHOWN = 20
"""Findings printed for each kind."""
LARGEST_IN_ZIP = 6 * 1024**3
"""Bytes. A report has at most 5 GiB."""
LATE_TIME_STAMP = timedelta(days=3)

MANIFEST = re.compile(r"(?P<prefix>(?:.+/)?)archive\.manifests/\d{4}/(?P<name>\d{4}-\d\d-\d\d(?:\.\d{1,10})?)\.jsonl")
IN_MANIFEST_FOLDER = re.compile(r"(?P<prefix>(?:.+/)?)archive\.manifests/(?P<rest>.+)")
REPORT = re.compile(r"[-a-zA-Z0-9_]{1,100}/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_[0-9a-f]{16}(?:\.[a-z0-9]{1,10})?")
IGNORED = re.compile(
    r"(?:connection\.test|immutability\.check)/\d{8}T\d{6}Z_[0-9a-f]{16}\.txt"
    r"|[-a-zA-Z0-9_]{1,100}/catalogue/\d{4}-\d\d-\d\d\.jsonl"
)
HEX = re.compile(r"[0-9a-f]{64}")


class Unsafe(Exception):
    """The name leads out of the folder, or is not that of a regular file."""


class Malformed(Exception):
    """The content does not have the expected format; the message says why."""


# Findings.


@dataclass
class Findings:
    """The problems found, each with its kind and place, and remarks, which do not fail the verification."""

    on_finding: Callable[[dict[str, str]], None] = lambda finding: None
    counts: Counter[str] = field(default_factory=Counter)
    kept: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, where: str, text: str) -> None:
        """Count one finding, keep it unless there are too many, and call `on_finding`."""
        self.counts[kind] += 1
        finding = {"kind": kind, "where": where, "text": text}
        if len(self.kept) < MOST_KEPT:
            self.kept.append(finding)
        self.on_finding(finding)

    def remark(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def as_json(self) -> dict[str, Any]:
        """Return the findings as values that JSON can represent."""
        return {
            "verified": not self.counts,
            "counts": dict(self.counts),
            "findings": self.kept,
            "remarks": self.remarks,
            "chains": self.chains,
        }


# Sources of files.


class Folder:
    """The files below a folder. Symbolic links are not followed, and no name can lead out of the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each file's relative name, with slashes, and the problem with it, empty if there is none."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(self._root / folder))
            except OSError as error:
                yield folder, f"an unreadable folder ({error.strerror})"
                continue
            for entry in entries:
                name = f"{folder}{entry.name}"
                if not name.isprintable():
                    yield name, "a name with characters that do not occur in an archive's keys"
                elif entry.is_symlink():
                    yield name, "a symbolic link, which was not followed"
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name, ""
                else:
                    yield name, "neither a file nor a folder"

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file. Raises FileNotFoundError, Unsafe, and OSError."""
        path = self._checked(name)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unsafe(f"{name} is not a regular file")
            yield file

    def _checked(self, name: str) -> Path:
        parts = name.split("/")
        if not name or "\0" in name or "\\" in name or any(part in {"", ".", ".."} for part in parts):
            raise Unsafe(f"{name!r} is not the name of a file in this folder")
        path = self._root
        for part in parts:
            path /= part
            if path.is_symlink():
                raise Unsafe(f"{name} leads through a symbolic link")
        return path


class Zip:
    """The files of a ZIP archive, read without unpacking it."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each file's name, always without a problem."""
        for info in self._zip.infolist():
            if not info.is_dir():
                yield info.filename, ""

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file. Raises FileNotFoundError."""
        try:
            info = self._zip.getinfo(name)
        except KeyError as error:
            raise FileNotFoundError(name) from error
        if info.file_size > LARGEST_IN_ZIP:
            raise Unsafe(f"{name} has {info.file_size:,} bytes")
        file = self._zip.open(info)
        with file:
            yield file  # type: ignore[misc]


# Keys, signatures and time stamps.


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of a public key's DER form. Raises Malformed if it is not an Ed25519 key in PEM form."""
    body = re.fullmatch(r"\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]{20,200})-----END PUBLIC KEY-----\s*", pem)
    if body is None:
        raise Malformed("This is not a public key in PEM form")
    certificate = f"{ssl.PEM_HEADER}\n{body[1].strip()}\n{ssl.PEM_FOOTER}\n"
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError as error:
        raise Malformed("This is not a public key in PEM form") from error
    if len(der) != 44 or not der.startswith(bytes.fromhex("302a300506032b6570032100")):
        raise Malformed("This is not an Ed25519 key")
    return hashlib.sha256(der).hexdigest()


class OpenSsl:
    """Checks signatures and time stamps with the openssl program, 3.0 or newer."""

    def __init__(self, program: str = "openssl", *, time_stamp_ca: str = "") -> None:
        self._program = shutil.which(program) or ""
        self._time_stamp_ca = time_stamp_ca
        if not self._program:
            raise Malformed(f"The program {program} is not installed; signatures cannot be checked without it")

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([self._program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def signature(self, content: str, signature: bytes, pem: str) -> bool:
        """Return whether the signature is valid for the file `content`."""
        with tempfile.TemporaryDirectory() as folder:
            key, file = os.path.join(folder, "key.pem"), os.path.join(folder, "signature")
            Path(key).write_text(pem)
            Path(file).write_bytes(signature)
            found = self._run("pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", content, "-sigfile", file)
        return found.returncode == 0

    def time_stamp(self, content: str, sha256: str, token: bytes) -> datetime:
        """Return the time at which a time-stamping authority stamped a file with this SHA-256. Raises Malformed."""
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "token.tsr")
            Path(file).write_bytes(token)
            text = self._run("ts", "-reply", "-in", file, "-text").stdout.decode("ascii", "replace")
            data = re.search(r"Message data:\n((?:\s+[0-9a-f]{4} - [^\n]+\n)+)", text)
            when = re.search(r"Time stamp: (\w{3} +\d+ [\d:]{8})(?:\.\d+)? (\d{4}) GMT", text)
            if data is None or when is None:
                raise Malformed("it is not a time stamp")
            pairs = re.findall(r"^\s+[0-9a-f]{4} - ((?:[0-9a-f]{2}[ -]){1,16})", data[1], re.MULTILINE)
            if re.sub(r"[^0-9a-f]", "", "".join(pairs)) != sha256:
                raise Malformed("it is the time stamp of another file")
            made_at = datetime.strptime(f"{when[1]} {when[2]}", "%b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc)
            if self._time_stamp_ca:
                checked = self._run(
                    "ts", "-verify", "-data", content, "-in", file, "-CAfile", self._time_stamp_ca,
                    "-attime", str(int(made_at.timestamp())),
                )  # fmt: skip
                if checked.returncode != 0:
                    raise Malformed("the authority of --time-stamp-ca has not signed it")
        return made_at

    @property
    def checks_authority(self) -> bool:
        """Whether the signer of time stamps is checked."""
        return bool(self._time_stamp_ca)


# Manifests.


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object of one line. Raises Malformed."""
    if len(line) > LONGEST_LINE:
        raise Malformed(f"a line has more than {LONGEST_LINE:,} bytes")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member occurs twice")
        return found

    def constant(text: str) -> None:
        raise ValueError(f"{text} is not a number")

    try:
        found = json.loads(line.decode("utf-8", "strict"), object_pairs_hook=members, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"a line is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Malformed("a line is not a JSON object")
    return found


def text_of(found: dict[str, Any], name: str) -> str:
    """Return a member that must be a string. Raises Malformed."""
    value = found.get(name)
    if not isinstance(value, str) or len(value) > 4096:
        raise Malformed(f"{name} is missing or not text")
    return value


def number_of(found: dict[str, Any], name: str) -> int:
    """Return a member that must be a non-negative integer. Raises Malformed."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Malformed(f"{name} is missing or not a whole number")
    return value


@dataclass
class Header:
    """The first line of a manifest. `read` checks its format."""

    name: str
    """The manifest's file name, relative to the source."""
    interface: str
    bucket: str
    prefix: str
    day: date
    sequence: int
    previous: str
    """SHA-256 of the previous manifest; empty for the first."""
    reports: int
    size: int
    irregularities: int
    public_key: str
    sealed_at: datetime
    time_stamp: bool
    verifier: str
    successor: str = ""
    """PEM of the key that signs the next manifest, if it is a new key."""
    new_chain: str = ""
    """The reason why this manifest is signed by a key that no manifest announced."""

    @classmethod
    def read(cls, name: str, line: bytes) -> "Header":
        """Parse the first line of the manifest `name`. Raises Malformed."""
        found = parsed(line)
        if found.get("type") != "manifest":
            raise Malformed("it does not begin with the header of a manifest")
        if found.get("format_version") != FORMAT_VERSION:
            raise Malformed(
                f"its format version is {found.get('format_version')!r}; this program reads {FORMAT_VERSION}"
            )
        previous, successor = found.get("previous"), found.get("next_public_key")
        if not isinstance(previous, (dict, type(None))) or not isinstance(successor, (dict, type(None))):
            raise Malformed("previous or next_public_key is not an object")
        try:
            day, sealed_at = date.fromisoformat(text_of(found, "day")), instant(text_of(found, "sealed_at"))
        except ValueError as error:
            raise Malformed(f"a date cannot be read: {error}") from error
        return cls(
            name=name,
            interface=text_of(found, "interface"),
            bucket=text_of(found, "bucket"),
            prefix=text_of(found, "prefix"),
            day=day,
            sequence=number_of(found, "sequence"),
            previous=text_of(previous, "sha256") if previous else "",
            reports=number_of(found, "reports"),
            size=number_of(found, "bytes"),
            irregularities=number_of(found, "irregularities"),
            public_key=text_of(found, "public_key"),
            sealed_at=sealed_at,
            time_stamp=found.get("time_stamp") is True,
            verifier=text_of(found, "verifier"),
            successor=text_of(successor, "pem") if successor else "",
            new_chain=text_of(found, "new_chain") if "new_chain" in found else "",
        )


def instant(text: str) -> datetime:
    """Parse an instant in UTC that ends with Z. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def read_all(source: Any, name: str, longest: int) -> bytes:
    """Return the content of a file of at most `longest` bytes. Raises OSError, Unsafe and Malformed."""
    with source.open(name) as file:
        content: bytes = file.read(longest + 1)
    if len(content) > longest:
        raise Malformed(f"it has more than {longest:,} bytes")
    return content


@contextlib.contextmanager
def copied(source: Any, name: str) -> Iterator[tuple[str, str]]:
    """Copy a file of a source to a temporary file, where nobody else can change it; yield its path and SHA-256."""
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile() as copy:
        with source.open(name) as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
                copy.write(chunk)
        copy.flush()
        yield copy.name, digest.hexdigest()


class Listed:
    """The keys listed by manifests, stored on disk so that memory does not grow with the archive."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # SQLite creates a temporary file and removes it
        self._database.execute("CREATE TABLE listed (name TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, name: str) -> bool:
        """Add a name; return False if it was listed before."""
        return bool(self._database.execute("INSERT OR IGNORE INTO listed VALUES (?)", [name]).rowcount)

    def __contains__(self, name: str) -> bool:
        row = self._database.execute("SELECT 1 FROM listed WHERE name = ?", [name]).fetchone()
        return row is not None

    def close(self) -> None:
        """Close the database, which removes its file."""
        self._database.close()


def compare(source: Any, name: str, line: dict[str, Any]) -> tuple[str, str]:
    """Compare a stored report with its manifest line; return a finding's kind and text, both empty if they match."""
    size, sha256 = number_of(line, "size"), text_of(line, "sha256")
    digest, found = hashlib.sha256(), 0
    try:
        with source.open(name) as file:
            while found <= size and (chunk := file.read(1024 * 1024)):
                found += len(chunk)
                digest.update(chunk)
    except FileNotFoundError:
        return "report-missing", "a manifest lists it, but it does not exist"
    except (OSError, Unsafe) as error:
        return "report-unreadable", f"it cannot be read: {error}"
    if found < size:
        return "report-truncated", f"it has {found:,} bytes, the manifest says {size:,}"
    if found > size:
        return "report-altered", f"it has more than {size:,} bytes, the size in the manifest"
    if digest.hexdigest() != sha256:
        return "report-altered", f"its SHA-256 is {digest.hexdigest()}, the manifest says {sha256}"
    return "", ""


class Verification:
    """Verifies all chains of manifests in a source; `run()` adds the problems to `findings`."""

    def __init__(
        self,
        source: Any,
        public_keys: dict[str, str],
        tools: Any,
        findings: Findings,
        *,
        until: date | None = None,
        allow_unlisted: bool = False,
        check: Callable[[str, dict[str, Any]], tuple[str, str]] | None = None,
        on_report: Callable[[str, dict[str, Any]], None] = lambda name, line: None,
    ) -> None:
        self.source, self.tools, self.findings = source, tools, findings
        self._given, self._trusted = set(public_keys), dict(public_keys)
        self._until, self._allow_unlisted, self._on_report = until, allow_unlisted, on_report
        self._check = check or (lambda name, line: compare(source, name, line))
        self._listed = Listed()
        self._in_manifest_folder: dict[str, set[str]] = {}
        self._named: set[str] = set()
        """Fingerprints of keys and SHA-256 of verifiers that verified headers name."""

    def run(self) -> None:
        """Verify everything."""
        chains: dict[str, list[str]] = {}
        for name, problem in self.source.names():
            if problem:
                self.findings.add("not-a-file", name, f"this is {problem}")
            elif found := MANIFEST.fullmatch(name):
                chains.setdefault(found["prefix"], []).append(name)
            elif found := IN_MANIFEST_FOLDER.fullmatch(name):
                self._in_manifest_folder.setdefault(found["prefix"], set()).add(name)
        if not chains:
            self.findings.add("no-manifests", "", "no manifest was found, so nothing can be proven")
        for prefix in sorted(chains):
            self._chain(prefix, chains[prefix])
        for prefix in self._in_manifest_folder:
            self._manifest_folder(prefix, chains.get(prefix, []))
        self._unlisted(sorted(chains, key=len, reverse=True))
        self._listed.close()

    # One chain.

    def _headers(self, names: list[str]) -> list[Header]:
        headers = []
        for name in names:
            try:
                with self.source.open(name) as file:
                    headers.append(Header.read(name, file.readline(LONGEST_LINE + 1)))
            except (Malformed, Unsafe, OSError) as error:
                self.findings.add("manifest-malformed", name, f"{error}")
        return sorted(headers, key=lambda each: (each.sequence, each.name))

    def _chain(self, prefix: str, names: list[str]) -> None:
        headers = self._headers(names)
        self._trust_earlier_keys(headers, prefix)
        before: Header | None = None
        digest, reports, size, irregular = "", 0, 0, 0
        first = headers[0] if headers else None
        for header in headers:
            with copied(self.source, header.name) as (path, sha256):
                if not self._signed(header, path, sha256, before):
                    self._link(header, before, digest)
                    before, digest = header, sha256
                    continue
                self._link(header, before, digest)
                assert first is not None
                self._place(header, first, prefix)
                self._lines(header, path, prefix)
            reports, size = reports + header.reports, size + header.size
            irregular += header.irregularities
            before, digest = header, sha256
        if first is None or before is None:
            return
        if self._until and before.day < self._until:
            text = f"the chain of {first.interface} ends on {before.day}, before {self._until}"
            self.findings.add("chain-ends-early", before.name, text)
        self.findings.chains.append(
            {
                "interface": before.interface, "bucket": before.bucket, "prefix": before.prefix,
                "from": first.day.isoformat(), "to": before.day.isoformat(), "manifests": len(headers),
                "reports": reports, "bytes": size, "irregularities": irregular, "public_key": before.public_key,
                "last_sequence": before.sequence, "last_sha256": digest,
            }
        )  # fmt: skip

    def _trust_earlier_keys(self, headers: list[Header], prefix: str) -> None:
        """Trust the key of a manifest whose SHA-256 is named by a following manifest, signed by a trusted key.

        The present key alone is therefore enough after a rotation. The earlier key is read from the folder and must
        have the fingerprint that the earlier manifest names.
        """
        for before, header in reversed(list(itertools.pairwise(headers))):
            if before.public_key in self._trusted or header.public_key not in self._trusted:
                continue
            with contextlib.suppress(Malformed, Unsafe, OSError, UnicodeError):
                pem = read_all(self.source, f"{prefix}archive.manifests/keys/{before.public_key}.pem", 4096).decode(
                    "ascii"
                )
                with copied(self.source, before.name) as (_, earlier), copied(self.source, header.name) as (path, _):
                    signature = read_all(self.source, f"{header.name}.sig", 64)
                    signed = self.tools.signature(path, signature, self._trusted[header.public_key])
                if signed and header.previous == earlier and fingerprint(pem) == before.public_key:
                    self._trusted[before.public_key] = pem

    def _signed(self, header: Header, path: str, sha256: str, before: Header | None) -> bool:
        """Return whether a trusted key has signed a manifest. Otherwise its content is ignored."""
        name = f"{header.name}.sig"
        in_folder = self._in_manifest_folder.get(header.name.partition("archive.manifests/")[0], set())
        if name not in in_folder:
            self.findings.add("signature-missing", header.name, "it has no signature file")
            return False
        if header.public_key not in self._trusted:
            text = f"it names the key {header.public_key} as its signer, which was neither given nor announced"
            self.findings.add("unknown-key", header.name, text)
            return False
        try:
            signature = read_all(self.source, name, 64)
        except (Malformed, Unsafe, OSError) as error:
            self.findings.add("signature-wrong", header.name, f"its signature cannot be read: {error}")
            return False
        if not self.tools.signature(path, signature, self._trusted[header.public_key]):
            self.findings.add(
                "signature-wrong", header.name, "its signature is not valid: the manifest or its signature was altered"
            )
            return False
        self._named |= {header.public_key, header.verifier}
        self._keys(header, before)
        self._time_stamp(header, path, sha256, in_folder)
        return True

    def _keys(self, header: Header, before: Header | None) -> None:
        """Trust a key that this signed manifest announces, and check that the announced key signed this one."""
        if header.successor:
            try:
                announced = fingerprint(header.successor)
            except Malformed as error:
                self.findings.add("manifest-malformed", header.name, f"the key that it announces: {error}")
                return
            self._trusted[announced] = header.successor
            self._named.add(announced)
        if before is None:
            return
        expected = before.public_key
        with contextlib.suppress(Malformed):
            expected = fingerprint(before.successor) if before.successor else expected
        if header.public_key == expected:
            return
        if header.new_chain and header.public_key in self._given:
            self.findings.remark(f"From {header.day} on, manifests are signed by another given key. {header.new_chain}")
        else:
            text = f"it is signed by the key {header.public_key}, which the previous manifest does not announce"
            self.findings.add("unknown-key", header.name, text)

    def _time_stamp(self, header: Header, path: str, sha256: str, in_folder: set[str]) -> None:
        name = f"{header.name}.tsr"
        if name not in in_folder:
            if header.time_stamp:
                self.findings.add("time-stamp-missing", header.name, "its header promises a time stamp; there is none")
            return
        try:
            made_at = self.tools.time_stamp(path, sha256, read_all(self.source, name, LONGEST_LINE))
        except (Malformed, Unsafe, OSError) as error:
            self.findings.add("time-stamp-wrong", header.name, f"its time stamp is not valid: {error}")
            return
        if made_at - header.sealed_at > LATE_TIME_STAMP:
            self.findings.remark(f"The manifest of {header.day} was not stamped before {made_at:%Y-%m-%d}.")
        if not self.tools.checks_authority:
            self.findings.remark("The signer of the time stamps was not checked: give --time-stamp-ca.")

    def _link(self, header: Header, before: Header | None, digest: str) -> None:
        """Check that a manifest follows the previous one: its sequence number, the SHA-256 it names, and its day."""
        if before is None:
            if header.sequence != 1 or header.previous:
                text = f"the manifests before sequence {header.sequence} ({header.day}) are missing"
                self.findings.add("manifest-missing", header.name, text)
            return
        if header.sequence == before.sequence:
            text = f"{before.name} has the same sequence number, {header.sequence}"
            self.findings.add("sequence-twice", header.name, text)
        elif header.sequence != before.sequence + 1:
            text = f"manifests are missing between sequence {before.sequence} and {header.sequence}"
            self.findings.add("manifest-missing", header.name, text)
        elif header.previous != digest:
            text = f"the SHA-256 that it names as its predecessor's is not that of {before.name}, {digest}"
            self.findings.add("chain-broken", header.name, text)
        if header.day <= before.day:
            self.findings.remark(
                f"Sequence {header.sequence} is for {header.day}, the previous one for {before.day}: a clock went back."
            )
        elif header.day != before.day + timedelta(days=1):
            text = f"there is no manifest between {before.day} and {header.day}"
            self.findings.add("day-missing", header.name, text)

    def _place(self, header: Header, first: Header, prefix: str) -> None:
        """Check that a signed manifest belongs to this archive and has its original name."""
        name = header.name.rpartition("/")[2].removesuffix(".jsonl")
        again = f"{header.day}.{header.sequence}"
        if name not in {str(header.day), again} or f"/{header.day.year:04}/" not in f"/{header.name}":
            text = f"it is the manifest of {header.day}, sequence {header.sequence}: it was renamed"
            self.findings.add("manifest-misplaced", header.name, text)
        if (header.bucket, header.prefix) != (first.bucket, first.prefix) or not header.prefix.endswith(prefix):
            text = f"it belongs to the bucket {header.bucket!r} with the prefix {header.prefix!r}"
            self.findings.add("manifest-misplaced", header.name, text)
        if header.interface != first.interface:
            self.findings.remark(f"The interface was renamed from {first.interface!r} to {header.interface!r}.")

    def _lines(self, header: Header, path: str, prefix: str) -> None:
        """Check every line of a signed manifest and the report it lists. The totals must match the header."""
        base = header.prefix.removesuffix(prefix)
        reports = size = irregularities = 0
        with open(path, "rb") as file:
            file.readline()
            while line := file.readline(LONGEST_LINE + 1):
                try:
                    found = parsed(line)
                    if found.get("type") == "irregularity":
                        irregularities += 1
                        continue
                    key = text_of(found, "key")
                    size += number_of(found, "size")
                    reports += 1
                    self._report(header, key, base, found)
                except Malformed as error:
                    self.findings.add("manifest-malformed", header.name, f"{error}")
                    return
        if (reports, size, irregularities) != (header.reports, header.size, header.irregularities):
            text = f"its header says {header.reports} reports and {header.size} bytes; its lines, {reports} and {size}"
            self.findings.add("manifest-malformed", header.name, text)

    def _report(self, header: Header, key: str, base: str, line: dict[str, Any]) -> None:
        if not key.startswith(header.prefix):
            raise Malformed(f"it lists {key!r}, which is outside its prefix")
        name = key.removeprefix(base)
        if not self._listed.add(name):
            self.findings.add("listed-twice", name, f"{header.name} lists it a second time")
            return
        kind, text = self._check(name, line)
        if kind:
            self.findings.add(kind, name, f"{text} ({header.name})")
        self._on_report(name, line)

    # All other files.

    def _manifest_folder(self, prefix: str, manifests: list[str]) -> None:
        """Check the other files in archive.manifests/: keys, verifiers, and that every signature has its manifest."""
        known = {f"{name}.sig" for name in manifests} | {f"{name}.tsr" for name in manifests}
        for name in sorted(self._in_manifest_folder[prefix]):
            rest = name.removeprefix(f"{prefix}archive.manifests/")
            if name in known:
                continue
            if rest.endswith((".jsonl.sig", ".jsonl.tsr")):
                self.findings.add("manifest-missing", name[:-4], f"{name} exists, but its manifest is missing")
            elif rest.startswith("keys/"):
                self._key_file(name)
            elif rest.startswith("verifier/"):
                with copied(self.source, name) as (_, sha256):
                    if sha256 not in self._named or not rest.startswith(f"verifier/{sha256[:16]}/"):
                        self.findings.add(
                            "verifier-replaced", name, "no signed manifest names this program: do not run it"
                        )
            else:
                self.findings.add("unknown-object", name, "the archive does not write such an object")

    def _key_file(self, name: str) -> None:
        try:
            found = fingerprint(read_all(self.source, name, 4096).decode("ascii", "strict"))
        except (Malformed, Unsafe, OSError, UnicodeError) as error:
            self.findings.add("key-replaced", name, f"it is not a public key: {error}")
            return
        if not name.endswith(f"/{found}.pem"):
            self.findings.add("key-replaced", name, f"it contains another key, {found}")
        elif found not in self._named:
            self.findings.add("key-replaced", name, "no manifest that a trusted key signed names this key")

    def _unlisted(self, prefixes: list[str]) -> None:
        """Add findings for objects that no manifest lists."""
        ignored = outside = unlisted = 0
        for name, problem in self.source.names():
            if problem or IN_MANIFEST_FOLDER.fullmatch(name) or name in self._listed:
                continue
            prefix = next((each for each in prefixes if name.startswith(each)), None)
            if prefix is None:
                outside += 1
            elif IGNORED.fullmatch(name.removeprefix(prefix)):
                ignored += 1
            elif REPORT.fullmatch(name.removeprefix(prefix)):
                unlisted += 1
                if not self._allow_unlisted:
                    text = "no signed manifest lists it: it was added, or delivered after the last manifest"
                    self.findings.add("report-unlisted", name, text)
            else:
                self.findings.add("unknown-object", name, "the archive does not write such an object")
        if ignored:
            self.findings.remark(
                f"{ignored:,} files of tests and catalogues of earlier versions: not reports, and not proven."
            )
        if outside:
            self.findings.remark(f"{outside:,} files are outside every archive in this folder and were not checked.")
        if unlisted and self._allow_unlisted:
            self.findings.remark(f"{unlisted:,} reports are in no manifest (--allow-unlisted): not proven.")


# Evidence for one report.


def verify_evidence(source: Any, public_keys: dict[str, str], tools: Any, findings: Findings) -> None:
    """Verify the evidence for one report. `source` is a folder or ZIP archive with an evidence.json."""
    try:
        Evidence(source, public_keys, tools, findings).verify()
    except (Malformed, Unsafe, OSError, UnicodeError, KeyError, TypeError, zipfile.BadZipFile) as error:
        findings.add("evidence-incomplete", "evidence.json", f"{error}")


class Evidence:
    """One evidence package. evidence.json, which is signed, names the report and the chain from its manifest on."""

    def __init__(self, source: Any, public_keys: dict[str, str], tools: Any, findings: Findings) -> None:
        self._source, self._tools, self._findings = source, tools, findings
        self._names = {name for name, _ in source.names()}
        self._enclosed = {}
        for name in self._names:
            if name.startswith("keys/") and name.endswith(".pem"):
                pem = read_all(source, name, 4096).decode("ascii", "strict")
                self._enclosed[fingerprint(pem)] = pem
        self._trusted = public_keys or self._enclosed
        self._statement = parsed_document(read_all(source, "evidence.json", 64 * 1024 * 1024))
        self._signer = text_of(self._statement, "public_key")
        if not public_keys:
            findings.remark(
                "The public key was taken from the package itself. Compare its fingerprint with one from another "
                f"source, or give a key with --public-key: {self._signer}"
            )

    def verify(self) -> None:
        """Verify the package. A malformed package raises one of the exceptions that `verify_evidence` catches."""
        if not self._statement_is_signed():
            return
        chain, report = self._statement["chain"], self._statement["report"]
        for before, each in itertools.pairwise(chain):
            if each["sequence"] != before["sequence"] + 1:
                text = f"sequence {before['sequence']} is followed by {each['sequence']}"
                self._findings.add("chain-broken", "evidence.json", text)
        header, line = self._manifest(text_of(self._statement, "manifest"), chain[0], text_of(report, "key"))
        if line is None:
            self._findings.add("report-unlisted", text_of(report, "key"), "the manifest does not list it")
            return
        kind, text = compare(self._source, text_of(report, "file"), line)
        if kind:
            self._findings.add(kind, text_of(report, "file"), text)
        self._findings.chains.append(
            {
                "interface": header.interface, "bucket": header.bucket, "prefix": header.prefix, "key": line["key"],
                "from": header.day.isoformat(), "to": chain[-1]["day"], "manifests": len(chain), "reports": 1,
                "bytes": line["size"], "irregularities": 0, "public_key": self._signer,
                "report_sha256": line["sha256"], "rendered_at": line["rendered_at"], "dashboard": line["dashboard"],
                "last_sequence": chain[-1]["sequence"], "last_sha256": chain[-1]["sha256"],
            }
        )  # fmt: skip

    def _statement_is_signed(self) -> bool:
        if self._signer not in self._trusted:
            text = f"it is signed by the key {self._signer}, which was not given"
            self._findings.add("unknown-key", "evidence.json", text)
            return False
        if not self._is_signed("evidence.json", self._trusted[self._signer]):
            self._findings.add("signature-wrong", "evidence.json", "its signature is not valid")
            return False
        return True

    def _is_signed(self, name: str, pem: str) -> bool:
        with copied(self._source, name) as (path, _):
            signed: bool = self._tools.signature(path, read_all(self._source, f"{name}.sig", 64), pem)
        return signed

    def _manifest(self, name: str, expected: dict[str, Any], key: str) -> tuple[Header, dict[str, Any] | None]:
        """Check the report's manifest; return its header and the report's line."""
        with copied(self._source, name) as (path, sha256), open(path, "rb") as file:
            header = Header.read(name, file.readline(LONGEST_LINE + 1))
            if sha256 != expected["sha256"] or header.sequence != expected["sequence"]:
                text = f"its SHA-256 is {sha256}, the signed chain says {expected['sha256']}"
                self._findings.add("manifest-altered", name, text)
            pem = (self._enclosed | self._trusted).get(header.public_key)
            if pem is None or not self._is_signed(name, pem):
                self._findings.add("signature-wrong", name, "its signature is not valid")
            if header.time_stamp or f"{name}.tsr" in self._names:
                self._time_stamp(name, path, sha256)
            return header, _line_of(file, key)

    def _time_stamp(self, name: str, path: str, sha256: str) -> None:
        try:
            made_at = self._tools.time_stamp(path, sha256, read_all(self._source, f"{name}.tsr", LONGEST_LINE))
        except (Malformed, OSError) as error:
            self._findings.add("time-stamp-wrong", name, f"its time stamp is not valid: {error}")
            return
        self._findings.remark(f"A time-stamping authority stamped the manifest at {made_at:%Y-%m-%d %H:%M:%S} UTC.")
        if not self._tools.checks_authority:
            self._findings.remark("The signer of the time stamp was not checked: give --time-stamp-ca.")


def parsed_document(content: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises Malformed."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Malformed("it is not a JSON object")
    return found


def _line_of(file: BinaryIO, key: str) -> dict[str, Any] | None:
    while line := file.readline(LONGEST_LINE + 1):
        found = parsed(line)
        if found.get("type") == "report" and found.get("key") == key:
            return found
    return None


# The command.


def printable(text: str) -> str:
    """Return text with its control characters escaped, so that a terminal does not interpret them."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def summary(findings: Findings, *, evidence: bool) -> Iterator[str]:
    """Yield the lines of the summary: what is proven and what is not."""
    for kind, number in sorted(findings.counts.items()):
        if number > MOST_SHOWN:
            yield f"{kind}: {number:,} in all"
    yield from (f"Remark: {text}" for text in findings.remarks)
    for each in findings.chains:
        about = f"{each['manifests']:,} manifests of {each['interface']!r}, bucket {each['bucket']!r}"
        if evidence:
            yield f"Report {each['key']} ({each['dashboard']}, rendered {each['rendered_at']})"
            yield f"SHA-256 {each['report_sha256']}"
        else:
            yield (
                f"{about}: {each['from']} to {each['to']}, {each['reports']:,} reports, {each['bytes']:,} bytes, "
                f"{each['irregularities']:,} irregularities"
            )
        yield f"Signed by {each['public_key']}"
        yield f"Last manifest: sequence {each['last_sequence']}, SHA-256 {each['last_sha256']}"
    if findings.counts:
        yield f"NOT PROVEN: {findings.counts.total():,} findings. Everything else matches the manifests."
        return
    if evidence:
        yield "PROVEN: the report is, byte for byte, the one listed in the signed manifest."
    else:
        yield "PROVEN: every report listed in the manifests exists unaltered; none was added, replaced or removed."
    yield (
        "Not proven: anything stored after the last manifest; that the holder of the private key signed the truth in "
        "the first place (a time stamp limits when); that the content of the reports is true."
    )


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Verify a copy of an archive, or the evidence for one report, offline."
    )
    parser.add_argument("folder", metavar="FOLDER", help="a copy of a bucket, or evidence (a ZIP file or its folder)")
    parser.add_argument(
        "--public-key", metavar="KEY.pem", action="append", default=[], help="a key to trust; repeatable"
    )
    parser.add_argument("--until", metavar="DATE", help="the UTC day up to which there must be manifests")
    parser.add_argument("--time-stamp-ca", metavar="CA.pem", default="", help="the time-stamping authority to trust")
    parser.add_argument("--allow-unlisted", action="store_true", help="accept reports that no manifest lists")
    parser.add_argument(
        "--sha256sum", action="store_true", help="print input for sha256sum --check; everything else goes to stderr"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def keys_of(names: list[str]) -> dict[str, str]:
    """Return public keys by fingerprint. Raises OSError, ValueError and Malformed."""
    pems = [Path(name).read_text("ascii") for name in names]
    return {fingerprint(pem): pem for pem in pems}


def verify(options: argparse.Namespace, findings: Findings, on_report: Callable[[str, dict[str, Any]], None]) -> bool:
    """Verify the archive or evidence named by the options; return True for evidence.

    Raises OSError, ValueError and Malformed.
    """
    path, keys = Path(options.folder), keys_of(options.public_key)
    tools = OpenSsl(time_stamp_ca=options.time_stamp_ca)
    if not path.is_dir() or (path / "evidence.json").is_file():
        verify_evidence(Folder(path) if path.is_dir() else Zip(path), keys, tools, findings)
        return True
    if not keys:
        raise Malformed("--public-key is needed: a key from the folder itself would prove nothing")
    until = date.fromisoformat(options.until) if options.until else None
    allow = options.allow_unlisted
    Verification(Folder(path), keys, tools, findings, until=until, allow_unlisted=allow, on_report=on_report).run()
    return False


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = arguments().parse_args(argv)
    output = sys.stderr if options.sha256sum else sys.stdout

    def show(finding: dict[str, str]) -> None:
        if not options.json and findings.counts[finding["kind"]] <= MOST_SHOWN:
            print(printable(f"{finding['kind']}: {finding['where']}: {finding['text']}"), file=output)

    def show_sum(name: str, line: dict[str, Any]) -> None:
        if options.sha256sum and HEX.fullmatch(line["sha256"]):
            print(f"{line['sha256']}  {printable(name)}")

    findings = Findings(show)
    try:
        evidence = verify(options, findings, show_sum)
    except (OSError, ValueError, Malformed, zipfile.BadZipFile) as error:
        print(printable(f"verify_archive: {error}"), file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(findings.as_json()), file=output)
    else:
        for line in summary(findings, evidence=evidence):
            print(printable(line), file=output)
    return 1 if findings.counts else 0


if __name__ == "__main__":
    sys.exit(main())
