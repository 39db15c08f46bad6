#!/usr/bin/env python3
"""Verify a copy of an archive, or one report's evidence, offline: with Python 3.10 or newer and the openssl program.

    python3 verify_archive.py FOLDER --public-key KEY.pem [--until DATE] [--json]
    python3 verify_archive.py EVIDENCE.zip [--public-key KEY.pem]

FOLDER is a copy of a bucket, or of an interface's key prefix in it. Exits 0 if all that was checked is proven, else 1.
docs/proof.md says what that proves against whom. Nothing in the folder is trusted that a given key has not signed,
directly or through a manifest in which it announces its successor.
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
"""Bytes of one line of a manifest. No report needs a tenth of that."""
MOST_KEPT = 10_000
"""Findings that are kept for --json."""
MOST_SHOWN = 20
"""Findings of one kind that are printed."""
LARGEST_IN_ZIP = 6 * 1024**3
"""Bytes. A report has 5 GiB at most."""
LATE_TIME_STAMP = timedelta(days=3)

MANIFEST = re.compile(r"(?P<prefix>(?:.+/)?)archive\.manifests/\d{4}/(?P<name>\d{4}-\d\d-\d\d(?:\.\d{1,10})?)\.jsonl")
BESIDE = re.compile(r"(?P<prefix>(?:.+/)?)archive\.manifests/(?P<rest>.+)")
REPORT = re.compile(r"[-a-zA-Z0-9_]{1,100}/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_[0-9a-f]{16}(?:\.[a-z0-9]{1,10})?")
OF_NO_MEANING = re.compile(
    r"(?:connection\.test|immutability\.check)/\d{8}T\d{6}Z_[0-9a-f]{16}\.txt"
    r"|[-a-zA-Z0-9_]{1,100}/catalogue/\d{4}-\d\d-\d\d\.jsonl"
)
HEX = re.compile(r"[0-9a-f]{64}")


class Unsafe(Exception):
    """A name that leads out of the folder, or something that is no regular file."""


class Malformed(Exception):
    """Something that cannot be read as what it should be; says why."""


# What is found.


@dataclass
class Findings:
    """What is wrong, by kind and place; and remarks, which fail nothing."""

    on_finding: Callable[[dict[str, str]], None] = lambda finding: None
    counts: Counter[str] = field(default_factory=Counter)
    kept: list[dict[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, where: str, text: str) -> None:
        """Count one finding, keep it while there is room, and pass it on."""
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
        """Return all of it as plain values."""
        return {
            "verified": not self.counts,
            "counts": dict(self.counts),
            "findings": self.kept,
            "remarks": self.remarks,
            "chains": self.chains,
        }


# Where files come from.


class Folder:
    """Files below a folder. No symbolic link is followed, and no name leads out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each file's name, relative and with slashes, and what is wrong with it: empty for nothing."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(self._root / folder))
            except OSError as error:
                yield folder, f"a folder that cannot be read ({error.strerror})"
                continue
            for entry in entries:
                name = f"{folder}{entry.name}"
                if not name.isprintable():
                    yield name, "a name with characters that no key of an archive has"
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
    """Files of a ZIP archive, read where they lie."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each file's name; nothing can be wrong with it."""
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
    """Return the SHA-256 of a public key's DER form. Raises Malformed for what is no Ed25519 key in PEM."""
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
        """Tell whether the file `content` bears this signature."""
        with tempfile.TemporaryDirectory() as folder:
            key, file = os.path.join(folder, "key.pem"), os.path.join(folder, "signature")
            Path(key).write_text(pem)
            Path(file).write_bytes(signature)
            found = self._run("pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", content, "-sigfile", file)
        return found.returncode == 0

    def time_stamp(self, content: str, sha256: str, token: bytes) -> datetime:
        """Return when a time-stamping authority saw a file of that digest. Raises Malformed."""
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
                raise Malformed("it is the time stamp of something else")
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
        """Whether it is checked who signed time stamps."""
        return bool(self._time_stamp_ca)


# Manifests.


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object of one line. Raises Malformed."""
    if len(line) > LONGEST_LINE:
        raise Malformed(f"a line has more than {LONGEST_LINE:,} bytes")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member is there twice")
        return found

    def constant(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        found = json.loads(line.decode("utf-8", "strict"), object_pairs_hook=members, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"a line is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Malformed("a line is not a JSON object")
    return found


def text_of(found: dict[str, Any], name: str) -> str:
    """Return a member that must be text. Raises Malformed."""
    value = found.get(name)
    if not isinstance(value, str) or len(value) > 4096:
        raise Malformed(f"{name} is missing or not text")
    return value


def number_of(found: dict[str, Any], name: str) -> int:
    """Return a member that must be a whole number, not negative. Raises Malformed."""
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Malformed(f"{name} is missing or not a whole number")
    return value


@dataclass
class Header:
    """The first line of a manifest, checked for form."""

    name: str
    """Of its file."""
    interface: str
    bucket: str
    prefix: str
    day: date
    sequence: int
    previous: str
    """SHA-256 of the manifest before; empty for none."""
    reports: int
    size: int
    irregularities: int
    public_key: str
    sealed_at: datetime
    time_stamp: bool
    verifier: str
    successor: str = ""
    """PEM of the key that signs the next manifest, where it is a new one."""
    new_chain: str = ""
    """Why a key signs that no manifest announces."""

    @classmethod
    def read(cls, name: str, line: bytes) -> "Header":
        """Read it. Raises Malformed."""
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
    """Read an instant in UTC that ends with Z. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def read_all(source: Any, name: str, longest: int) -> bytes:
    """Return a small file. Raises OSError, Unsafe and Malformed."""
    with source.open(name) as file:
        content: bytes = file.read(longest + 1)
    if len(content) > longest:
        raise Malformed(f"it has more than {longest:,} bytes")
    return content


@contextlib.contextmanager
def copied(source: Any, name: str) -> Iterator[tuple[str, str]]:
    """Copy a file of a source to a place of our own, where nobody changes it; give its path and its SHA-256."""
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile() as copy:
        with source.open(name) as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
                copy.write(chunk)
        copy.flush()
        yield copy.name, digest.hexdigest()


class Listed:
    """Which keys manifests list, kept on disk, so that memory does not grow with the archive."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # a temporary file of SQLite's own
        self._database.execute("CREATE TABLE listed (name TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, name: str) -> bool:
        """Add a name; return False if it was there."""
        return bool(self._database.execute("INSERT OR IGNORE INTO listed VALUES (?)", [name]).rowcount)

    def __contains__(self, name: str) -> bool:
        row = self._database.execute("SELECT 1 FROM listed WHERE name = ?", [name]).fetchone()
        return row is not None

    def close(self) -> None:
        """Let the file go."""
        self._database.close()


def compare(source: Any, name: str, line: dict[str, Any]) -> tuple[str, str]:
    """Compare a stored report with its line; return a finding's kind and text, both empty if it is the same."""
    size, sha256 = number_of(line, "size"), text_of(line, "sha256")
    digest, found = hashlib.sha256(), 0
    try:
        with source.open(name) as file:
            while found <= size and (chunk := file.read(1024 * 1024)):
                found += len(chunk)
                digest.update(chunk)
    except FileNotFoundError:
        return "report-missing", "a manifest lists it, and it is not there"
    except (OSError, Unsafe) as error:
        return "report-unreadable", f"it cannot be read: {error}"
    if found < size:
        return "report-truncated", f"it has {found:,} bytes, the manifest says {size:,}"
    if found > size:
        return "report-altered", f"it has more than the {size:,} bytes that the manifest says"
    if digest.hexdigest() != sha256:
        return "report-altered", f"its SHA-256 is {digest.hexdigest()}, the manifest says {sha256}"
    return "", ""


class Verification:
    """One run over a source: `run()` fills `findings`."""

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
        self._beside: dict[str, set[str]] = {}
        self._vouched: set[str] = set()
        """Of keys and verifiers: what verified headers name."""

    def run(self) -> None:
        """Verify everything."""
        chains: dict[str, list[str]] = {}
        for name, problem in self.source.names():
            if problem:
                self.findings.add("not-a-file", name, f"this is {problem}")
            elif found := MANIFEST.fullmatch(name):
                chains.setdefault(found["prefix"], []).append(name)
            elif found := BESIDE.fullmatch(name):
                self._beside.setdefault(found["prefix"], set()).add(name)
        if not chains:
            self.findings.add("no-manifests", "", "there is no manifest here, so nothing can be proven")
        for prefix in sorted(chains):
            self._chain(prefix, chains[prefix])
        for prefix in self._beside:
            self._files_beside(prefix, chains.get(prefix, []))
        self._others(sorted(chains, key=len, reverse=True))
        self._listed.close()

    # A chain.

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
        """Trust the key of a manifest whose SHA-256 a manifest names that a trusted key has signed.

        So the present key is enough after a rotation. The key itself is then the one in the folder that has the
        fingerprint.
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
        """Tell whether a trusted key has signed a manifest. Only then anything in it counts."""
        name = f"{header.name}.sig"
        beside = self._beside.get(header.name.partition("archive.manifests/")[0], set())
        if name not in beside:
            self.findings.add("signature-missing", header.name, "there is no signature beside it")
            return False
        if header.public_key not in self._trusted:
            text = f"it says that the key {header.public_key} signs it, which neither was given nor is announced"
            self.findings.add("unknown-key", header.name, text)
            return False
        try:
            signature = read_all(self.source, name, 64)
        except (Malformed, Unsafe, OSError) as error:
            self.findings.add("signature-wrong", header.name, f"its signature cannot be read: {error}")
            return False
        if not self.tools.signature(path, signature, self._trusted[header.public_key]):
            self.findings.add(
                "signature-wrong", header.name, "it is not what was signed: it was altered, or its signature"
            )
            return False
        self._vouched |= {header.public_key, header.verifier}
        self._keys(header, before)
        self._time_stamp(header, path, sha256, beside)
        return True

    def _keys(self, header: Header, before: Header | None) -> None:
        """Follow the keys: one that a signed manifest announces is trusted from then on."""
        if header.successor:
            try:
                announced = fingerprint(header.successor)
            except Malformed as error:
                self.findings.add("manifest-malformed", header.name, f"the key that it announces: {error}")
                return
            self._trusted[announced] = header.successor
            self._vouched.add(announced)
        if before is None:
            return
        expected = before.public_key
        with contextlib.suppress(Malformed):
            expected = fingerprint(before.successor) if before.successor else expected
        if header.public_key == expected:
            return
        if header.new_chain and header.public_key in self._given:
            self.findings.remark(f"From {header.day} on, another key signs, which you gave. {header.new_chain}")
        else:
            text = f"the key {header.public_key} signs it, and the manifest before does not announce it"
            self.findings.add("unknown-key", header.name, text)

    def _time_stamp(self, header: Header, path: str, sha256: str, beside: set[str]) -> None:
        name = f"{header.name}.tsr"
        if name not in beside:
            if header.time_stamp:
                self.findings.add("time-stamp-missing", header.name, "it says that it has a time stamp; there is none")
            return
        try:
            made_at = self.tools.time_stamp(path, sha256, read_all(self.source, name, LONGEST_LINE))
        except (Malformed, Unsafe, OSError) as error:
            self.findings.add("time-stamp-wrong", header.name, f"its time stamp is not its own: {error}")
            return
        if made_at - header.sealed_at > LATE_TIME_STAMP:
            self.findings.remark(f"The manifest of {header.day} was stamped only on {made_at:%Y-%m-%d}.")
        if not self.tools.checks_authority:
            self.findings.remark("Who signed the time stamps was not checked: name the authority by --time-stamp-ca.")

    def _link(self, header: Header, before: Header | None, digest: str) -> None:
        """Check that a manifest follows the one before: by sequence, by its hash, by the day."""
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
            text = f"it follows a manifest with another SHA-256 than {before.name} has, {digest}"
            self.findings.add("chain-broken", header.name, text)
        if header.day <= before.day:
            self.findings.remark(
                f"Sequence {header.sequence} is of {header.day}, the one before of {before.day}: a clock was set back."
            )
        elif header.day != before.day + timedelta(days=1):
            text = f"there is no manifest between {before.day} and {header.day}"
            self.findings.add("day-missing", header.name, text)

    def _place(self, header: Header, first: Header, prefix: str) -> None:
        """Check that a signed manifest is where it belongs: in this archive, under its own name."""
        name = header.name.rpartition("/")[2].removesuffix(".jsonl")
        again = f"{header.day}.{header.sequence}"
        if name not in {str(header.day), again} or f"/{header.day.year:04}/" not in f"/{header.name}":
            text = f"it is the manifest of {header.day}, sequence {header.sequence}: it was renamed"
            self.findings.add("manifest-misplaced", header.name, text)
        if (header.bucket, header.prefix) != (first.bucket, first.prefix) or not header.prefix.endswith(prefix):
            text = f"it belongs to the bucket {header.bucket!r} with the prefix {header.prefix!r}"
            self.findings.add("manifest-misplaced", header.name, text)
        if header.interface != first.interface:
            self.findings.remark(f"The interface was named {first.interface!r} first, {header.interface!r} later.")

    def _lines(self, header: Header, path: str, prefix: str) -> None:
        """Check every line of a signed manifest, and what it lists. Its numbers must agree with the header."""
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
            text = (
                f"its header counts {header.reports} reports and {header.size} bytes; its lines, {reports} and {size}"
            )
            self.findings.add("manifest-malformed", header.name, text)

    def _report(self, header: Header, key: str, base: str, line: dict[str, Any]) -> None:
        if not key.startswith(header.prefix):
            raise Malformed(f"it lists {key!r}, which is outside of its prefix")
        name = key.removeprefix(base)
        if not self._listed.add(name):
            self.findings.add("listed-twice", name, f"{header.name} lists it once more")
            return
        kind, text = self._check(name, line)
        if kind:
            self.findings.add(kind, name, f"{text} ({header.name})")
        self._on_report(name, line)

    # What lies beside.

    def _files_beside(self, prefix: str, manifests: list[str]) -> None:
        """Check the keys and verifiers in the folder, and that every signature has its manifest."""
        known = {f"{name}.sig" for name in manifests} | {f"{name}.tsr" for name in manifests}
        for name in sorted(self._beside[prefix]):
            rest = name.removeprefix(f"{prefix}archive.manifests/")
            if name in known:
                continue
            if rest.endswith((".jsonl.sig", ".jsonl.tsr")):
                self.findings.add(
                    "manifest-missing", name[:-4], f"{name} belongs to it; the manifest itself is missing"
                )
            elif rest.startswith("keys/"):
                self._key_file(name)
            elif rest.startswith("verifier/"):
                with copied(self.source, name) as (_, sha256):
                    if sha256 not in self._vouched or not rest.startswith(f"verifier/{sha256[:16]}/"):
                        self.findings.add(
                            "verifier-replaced", name, "no signed manifest names this program: do not run it"
                        )
            else:
                self.findings.add("unknown-object", name, "this is nothing that the archive writes")

    def _key_file(self, name: str) -> None:
        try:
            found = fingerprint(read_all(self.source, name, 4096).decode("ascii", "strict"))
        except (Malformed, Unsafe, OSError, UnicodeError) as error:
            self.findings.add("key-replaced", name, f"it is no public key: {error}")
            return
        if not name.endswith(f"/{found}.pem"):
            self.findings.add("key-replaced", name, f"it holds another key, {found}")
        elif found not in self._vouched:
            self.findings.add("key-replaced", name, "no manifest that a trusted key signed speaks of this key")

    def _others(self, prefixes: list[str]) -> None:
        """Look for objects that no manifest lists."""
        without_meaning = outside = unlisted = 0
        for name, problem in self.source.names():
            if problem or BESIDE.fullmatch(name) or name in self._listed:
                continue
            prefix = next((each for each in prefixes if name.startswith(each)), None)
            if prefix is None:
                outside += 1
            elif OF_NO_MEANING.fullmatch(name.removeprefix(prefix)):
                without_meaning += 1
            elif REPORT.fullmatch(name.removeprefix(prefix)):
                unlisted += 1
                if not self._allow_unlisted:
                    text = "no signed manifest lists it: it was added, or delivered after the last manifest"
                    self.findings.add("report-unlisted", name, text)
            else:
                self.findings.add("unknown-object", name, "this is nothing that the archive writes")
        if without_meaning:
            self.findings.remark(
                f"{without_meaning:,} files of tests and catalogues of earlier versions: no reports, and not proven."
            )
        if outside:
            self.findings.remark(f"{outside:,} files lie outside of every archive here, and were not looked at.")
        if unlisted and self._allow_unlisted:
            self.findings.remark(f"{unlisted:,} reports are in no manifest, as --allow-unlisted permits: not proven.")


# Evidence for one report.


def verify_evidence(source: Any, public_keys: dict[str, str], tools: Any, findings: Findings) -> None:
    """Verify the evidence for one report: a folder or ZIP archive with evidence.json."""
    try:
        Evidence(source, public_keys, tools, findings).verify()
    except (Malformed, Unsafe, OSError, UnicodeError, KeyError, TypeError, zipfile.BadZipFile) as error:
        findings.add("evidence-incomplete", "evidence.json", f"{error}")


class Evidence:
    """One package: evidence.json, signed, says which report it is, and the chain from its manifest to the latest."""

    def __init__(self, source: Any, public_keys: dict[str, str], tools: Any, findings: Findings) -> None:
        self._source, self._tools, self._findings = source, tools, findings
        self._names = {name for name, _ in source.names()}
        self._enclosed = {}
        for name in self._names:
            if name.startswith("keys/") and name.endswith(".pem"):
                pem = read_all(source, name, 4096).decode("ascii", "strict")
                self._enclosed[fingerprint(pem)] = pem
        self._trusted = public_keys or self._enclosed
        self._said = parsed_document(read_all(source, "evidence.json", 64 * 1024 * 1024))
        self._signer = text_of(self._said, "public_key")
        if not public_keys:
            findings.remark(
                "The public key was taken from the package itself. Compare its fingerprint with one that you have from "
                f"elsewhere, or give that key: {self._signer}"
            )

    def verify(self) -> None:
        """Verify the whole of it. Raises what a malformed package makes fail."""
        if not self._statement_is_signed():
            return
        chain, report = self._said["chain"], self._said["report"]
        for before, each in itertools.pairwise(chain):
            if each["sequence"] != before["sequence"] + 1:
                text = f"after sequence {before['sequence']} comes {each['sequence']}"
                self._findings.add("chain-broken", "evidence.json", text)
        header, line = self._manifest(text_of(self._said, "manifest"), chain[0], text_of(report, "key"))
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
            text = f"the key {self._signer} signs it, which was not given"
            self._findings.add("unknown-key", "evidence.json", text)
            return False
        if not self._is_signed("evidence.json", self._trusted[self._signer]):
            self._findings.add("signature-wrong", "evidence.json", "it is not what was signed")
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
                self._findings.add("signature-wrong", name, "it is not what was signed")
            if header.time_stamp or f"{name}.tsr" in self._names:
                self._time_stamp(name, path, sha256)
            return header, _line_of(file, key)

    def _time_stamp(self, name: str, path: str, sha256: str) -> None:
        try:
            made_at = self._tools.time_stamp(path, sha256, read_all(self._source, f"{name}.tsr", LONGEST_LINE))
        except (Malformed, OSError) as error:
            self._findings.add("time-stamp-wrong", name, f"its time stamp: {error}")
            return
        self._findings.remark(f"A time-stamping authority saw the manifest at {made_at:%Y-%m-%d %H:%M:%S} UTC.")
        if not self._tools.checks_authority:
            self._findings.remark("Who signed the time stamp was not checked: name the authority by --time-stamp-ca.")


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
    """Return text that no terminal obeys: control characters as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def words(findings: Findings, *, evidence: bool) -> Iterator[str]:
    """Say what is proven and what is not."""
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
        yield f"NOT PROVEN: {findings.counts.total():,} findings. What they do not concern is as the manifests say."
        return
    if evidence:
        yield "PROVEN: the report is byte for byte the one that the signed manifest lists; the chain goes on from it."
    else:
        yield "PROVEN: every report that the manifests list is there, unaltered; none was added, replaced or removed."
    yield (
        "Not proven: what came after the last manifest; what the holder of the private key signed wrongly in the first "
        "place (time stamps bound when); that what was rendered is true."
    )


def arguments() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    parser = argparse.ArgumentParser(
        description="Verify a copy of an archive, or the evidence for one report, offline."
    )
    parser.add_argument("folder", metavar="FOLDER", help="a copy of a bucket, or evidence (a ZIP file or its folder)")
    parser.add_argument(
        "--public-key", metavar="KEY.pem", action="append", default=[], help="a key to trust; repeatable"
    )
    parser.add_argument("--until", metavar="DATE", help="the day, in UTC, up to which there must be manifests")
    parser.add_argument("--time-stamp-ca", metavar="CA.pem", default="", help="the time-stamping authority to trust")
    parser.add_argument("--allow-unlisted", action="store_true", help="reports after the last manifest are no fault")
    parser.add_argument(
        "--sha256sum", action="store_true", help="print what sha256sum --check takes; the rest to stderr"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def keys_of(names: list[str]) -> dict[str, str]:
    """Return public keys by fingerprint. Raises OSError, ValueError and Malformed."""
    pems = [Path(name).read_text("ascii") for name in names]
    return {fingerprint(pem): pem for pem in pems}


def verify(options: argparse.Namespace, findings: Findings, on_report: Callable[[str, dict[str, Any]], None]) -> bool:
    """Verify what the options name; return whether that is evidence. Raises OSError, ValueError and Malformed."""
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
        for line in words(findings, evidence=evidence):
            print(printable(line), file=output)
    return 1 if findings.counts else 0


if __name__ == "__main__":
    sys.exit(main())
