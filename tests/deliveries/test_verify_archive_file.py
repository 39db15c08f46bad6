"""The stand-alone verifier proves a true copy, and finds and names every attack on a copy.

All tests use copies of one archive: thirty days of one interface, and five days of another one, under a key prefix in
the same bucket.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from django.db import transaction

from anaphora.deliveries import signing, verifier
from anaphora.deliveries.manifest_models import SigningKey
from anaphora.deliveries.models import Delivery
from tests.support import archives
from tests.support.archives import FIRST, deliver_on, write
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy
from tests.support.keys import new_key
from tests.support.servers import S3Server

verify = verifier.module()

LAST = date(2026, 3, 30)
Archive = tuple[Path, Path]
"""A copy of the bucket, and the file of the public key."""


@pytest.fixture(scope="module")
def archive(
    s3: S3Server, django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Archive:
    folder = tmp_path_factory.mktemp("archive")
    locked: dict[str, Any] = {} if s3.kind == "rclone" else {"ObjectLockEnabledForBucket": True}
    lock = {"object_lock_mode": "GOVERNANCE", "retention_days": 1} if locked else {}
    with django_db_blocker.unblock(), transaction.atomic():
        bucket = Bucket(s3, **locked)
        interface = make_interface(s3, bucket.name, **lock)
        second = make_interface(s3, bucket.name, key_prefix="second/", **lock)
        make_policy(interface)
        for day in archives.days(30):
            if day.day % 7:
                deliver_on(interface, day, 1 + day.day % 2)
        policy = make_policy(second)
        for day in archives.days(5):
            deliver_on(second, day)
        Delivery.objects.exclude(pk__in=Delivery.objects.filter(state="delivered")).delete()
        policy.delete()
        write(interface, LAST)
        write(second, FIRST + timedelta(days=4))
        key = archives.public_key(folder)
        copied = archives.copy(bucket, folder / "copy")
        transaction.set_rollback(True)
    return copied, key


@pytest.fixture
def copy(archive: Archive, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive[0], tmp_path / "copy"))


@pytest.fixture
def found(archive: Archive, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Return a function that verifies a folder and returns the exit status and the JSON document."""

    def run(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
        arguments = [str(folder), "--public-key", str(archive[1]), "--json", *options]
        status = verify.main(arguments)
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return status, result

    return run


def manifest(folder: Path, day: int, prefix: str = "") -> Path:
    return folder / f"{prefix}archive.manifests/2026/2026-03-{day:02}.jsonl"


def report(folder: Path, day: int = 3) -> Path:
    return sorted((folder / f"sales/2026/03/{day:02}").iterdir())[0]


def companion(path: Path, ending: str = ".sig") -> Path:
    """Return the path of a manifest's signature, or of another file with the manifest's name and `ending`."""
    return path.with_name(path.name + ending)


def remove(path: Path) -> None:
    path.unlink()
    companion(path).unlink()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def change_header(path: Path, **values: Any) -> None:
    header, *rest = lines_of(path)
    changed = json.dumps(json.loads(header) | values).encode() + b"\n"
    path.write_bytes(changed + b"".join(rest))


def sign(path: Path, private: Ed25519PrivateKey) -> None:
    companion(path).write_bytes(private.sign(path.read_bytes()))


def a_key() -> Ed25519PrivateKey:
    key = load_pem_private_key(new_key().encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def pem_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_true_copy_is_proven(
    archive: Archive, found: Callable[..., tuple[int, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, result = found(archive[0], "--until", str(FIRST + timedelta(days=4)))
    assert (status, result["findings"]) == (0, [])
    assert result["verified"] is True
    assert [(chain["prefix"], chain["manifests"]) for chain in result["chains"]] == [("", 30), ("second/", 5)]
    reports = list(archive[0].glob("sales/**/*.pdf")) + list(archive[0].glob("second/sales/**/*.pdf"))
    assert sum(chain["reports"] for chain in result["chains"]) == len(reports)
    command = [sys.executable, str(verifier.PATH), str(archive[0]), "--public-key", str(archive[1])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "PROVEN: every report listed in the manifests exists" in printed
    assert "Not proven: anything stored after the last manifest" in printed


def test_a_copy_of_a_prefix_alone_is_proven(
    copy: Path, tmp_path: Path, found: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    status, result = found(copy / "second")
    assert (status, result["findings"]) == (0, [])
    report_file = next((copy / "second/sales").rglob("*.pdf"))
    report_file.write_bytes(b"altered")
    assert found(copy / "second")[0] == 1


def test_sha256sum_accepts_the_list_that_the_verifier_prints(archive: Archive, tmp_path: Path) -> None:
    command = [sys.executable, str(verifier.PATH), str(archive[0]), "--public-key", str(archive[1]), "--sha256sum"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PROVEN" in listed.stderr
    check = ["sha256sum", "--check", "--quiet", "--strict", "-"]
    assert not subprocess.run(check, cwd=archive[0], input=listed.stdout, text=True, check=True).returncode


def test_a_report_after_the_last_manifest_may_be_allowed(
    copy: Path, found: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    new = copy / "sales/2026/04/01/20260401T060000Z_0123456789abcdef.pdf"
    new.parent.mkdir(parents=True)
    new.write_bytes(b"new")
    assert found(copy)[1]["counts"] == {"report-unlisted": 1}
    status, result = found(copy, "--allow-unlisted")
    assert status == 0
    assert "1 reports are in no manifest" in str(result["remarks"])


Attack = Callable[[Path], None]
ATTACKS: dict[str, tuple[Attack, str]] = {}


def attack(kind: str) -> Callable[[Attack], Attack]:
    def register(function: Attack) -> Attack:
        ATTACKS[function.__name__] = function, kind
        return function

    return register


@attack("report-altered")
def report_altered(folder: Path) -> None:
    content = bytearray(report(folder).read_bytes())
    content[3] ^= 1
    report(folder).write_bytes(content)


@attack("report-truncated")
def report_truncated(folder: Path) -> None:
    report(folder).write_bytes(report(folder).read_bytes()[:-1])


@attack("report-truncated")
def report_emptied(folder: Path) -> None:
    report(folder).write_bytes(b"")


@attack("report-altered")
def report_lengthened(folder: Path) -> None:
    report(folder).write_bytes(report(folder).read_bytes() + b"\n")


@attack("report-altered")
def report_replaced_by_another_of_the_same_size(folder: Path) -> None:
    report(folder).write_bytes(b"x" * report(folder).stat().st_size)


@attack("report-altered")
def two_reports_exchanged(folder: Path) -> None:
    one, other = report(folder, 3), report(folder, 5)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


@attack("report-missing")
def report_removed(folder: Path) -> None:
    report(folder).unlink()


@attack("report-missing")
def report_renamed(folder: Path) -> None:
    report(folder).rename(report(folder).with_name("20260303T070000Z_0123456789abcdef.pdf"))


@attack("report-unlisted")
def report_added(folder: Path) -> None:
    shutil.copy(report(folder), report(folder).with_name("20260303T070000Z_0123456789abcdef.pdf"))


@attack("unknown-object")
def another_file_added(folder: Path) -> None:
    (folder / "sales/2026/03/03/holiday.jpg").write_bytes(b"x")


@attack("unknown-object")
def a_file_added_among_the_manifests(folder: Path) -> None:
    (folder / "archive.manifests/2026/readme.txt").write_bytes(b"x")


@attack("signature-wrong")
def manifest_altered(folder: Path) -> None:
    path = manifest(folder, 3)
    path.write_bytes(path.read_bytes().replace(b'"sales"', b'"stock"'))


@attack("manifest-missing")
def first_manifest_removed(folder: Path) -> None:
    remove(manifest(folder, 1))


@attack("manifest-missing")
def middle_manifest_removed(folder: Path) -> None:
    remove(manifest(folder, 15))


@attack("manifest-missing")
def manifest_removed_and_its_signature_left(folder: Path) -> None:
    manifest(folder, 30).unlink()


@attack("chain-ends-early")
def last_manifest_removed_with_its_reports(folder: Path) -> None:
    remove(manifest(folder, 30))
    shutil.rmtree(folder / "sales/2026/03/30")


@attack("report-unlisted")
def last_manifest_removed(folder: Path) -> None:
    remove(manifest(folder, 30))


@attack("no-manifests")
def all_manifests_removed(folder: Path) -> None:
    shutil.rmtree(folder / "archive.manifests")
    shutil.rmtree(folder / "second")


@attack("manifest-misplaced")
def two_manifests_exchanged(folder: Path) -> None:
    for ending in ("", ".sig"):
        one, other = (companion(manifest(folder, day), ending) for day in (3, 4))
        one.rename(folder / "aside")
        other.rename(one)
        (folder / "aside").rename(other)


@attack("signature-wrong")
def sequence_numbers_exchanged(folder: Path) -> None:
    change_header(manifest(folder, 3), sequence=4)
    change_header(manifest(folder, 4), sequence=3)


@attack("unknown-key")
def manifest_signed_anew_by_another_key(folder: Path) -> None:
    key = a_key()
    change_header(manifest(folder, 30), public_key=signing.fingerprint(key.public_key()))
    sign(manifest(folder, 30), key)


@attack("signature-wrong")
def manifest_signed_anew_under_the_old_name_of_the_key(folder: Path) -> None:
    sign(manifest(folder, 30), a_key())


@attack("unknown-key")
def whole_chain_signed_anew_by_another_key(folder: Path) -> None:
    key = a_key()
    name = signing.fingerprint(key.public_key())
    for day in range(1, 31):
        change_header(manifest(folder, day), public_key=name)
        sign(manifest(folder, day), key)
    (folder / f"archive.manifests/keys/{name}.pem").write_text(pem_of(key))


@attack("unknown-key")
def a_new_chain_pretended(folder: Path) -> None:
    key = a_key()
    name = signing.fingerprint(key.public_key())
    change_header(manifest(folder, 30), public_key=name, new_chain="The former key was lost.")
    sign(manifest(folder, 30), key)
    (folder / f"archive.manifests/keys/{name}.pem").write_text(pem_of(key))


@attack("unknown-key")
def a_successor_announced_without_the_key(folder: Path) -> None:
    key = a_key()
    name = signing.fingerprint(key.public_key())
    change_header(manifest(folder, 29), next_public_key={"fingerprint": name, "pem": pem_of(key)})
    change_header(manifest(folder, 30), public_key=name)
    sign(manifest(folder, 30), key)


@attack("signature-wrong")
def line_removed(folder: Path) -> None:
    header, first, *_ = lines_of(manifest(folder, 3))
    manifest(folder, 3).write_bytes(header + first)


@attack("signature-wrong")
def line_doubled(folder: Path) -> None:
    path = manifest(folder, 3)
    path.write_bytes(path.read_bytes() + lines_of(path)[-1])


@attack("signature-wrong")
def header_altered(folder: Path) -> None:
    change_header(manifest(folder, 3), reports=1)


@attack("signature-wrong")
def previous_hash_recomputed(folder: Path) -> None:
    manifest_altered(folder)
    for day in range(4, 31):
        former = manifest(folder, day - 1)
        previous = {"key": former.name, "sha256": hashlib.sha256(former.read_bytes()).hexdigest()}
        change_header(manifest(folder, day), previous=previous)


@attack("manifest-misplaced")
def day_of_another_interface(folder: Path) -> None:
    for ending in ("", ".sig"):
        shutil.copy(companion(manifest(folder, 3, "second/"), ending), companion(manifest(folder, 3), ending))


@attack("manifest-misplaced")
def first_days_exchanged_between_interfaces(folder: Path) -> None:
    for ending in ("", ".sig"):
        one, other = (companion(manifest(folder, 1, prefix), ending) for prefix in ("", "second/"))
        one.rename(folder / "aside")
        other.rename(one)
        (folder / "aside").rename(other)


@attack("sequence-twice")
def a_signed_manifest_copied_under_another_day(folder: Path) -> None:
    for ending in ("", ".sig"):
        path = manifest(folder, 31)
        shutil.copy(companion(manifest(folder, 30), ending), companion(path, ending))


@attack("signature-missing")
def signature_removed(folder: Path) -> None:
    companion(manifest(folder, 3)).unlink()


@attack("signature-wrong")
def signature_of_another_day(folder: Path) -> None:
    shutil.copy(companion(manifest(folder, 4)), companion(manifest(folder, 3)))


@attack("signature-wrong")
def signature_too_long(folder: Path) -> None:
    companion(manifest(folder, 3)).write_bytes(companion(manifest(folder, 3)).read_bytes() + b"\0" * 10_000_000)


def key_file(folder: Path) -> Path:
    return next((folder / "archive.manifests/keys").iterdir())


@attack("key-replaced")
def key_file_replaced(folder: Path) -> None:
    key_file(folder).write_text(pem_of(a_key()))


@attack("key-replaced")
def key_file_added(folder: Path) -> None:
    key = a_key()
    key_file(folder).with_name(f"{signing.fingerprint(key.public_key())}.pem").write_text(pem_of(key))


@attack("key-replaced")
def key_file_with_random_bytes(folder: Path) -> None:
    key_file(folder).write_bytes(os.urandom(5000))


@attack("verifier-replaced")
def verifier_replaced(folder: Path) -> None:
    next((folder / "archive.manifests/verifier").rglob("*.py")).write_text("print('PROVEN')\n")


@attack("not-a-file")
def report_replaced_by_a_link_to_its_copy(folder: Path) -> None:
    path = report(folder)
    elsewhere = folder.parent / "elsewhere.pdf"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@attack("not-a-file")
def manifests_replaced_by_a_link(folder: Path) -> None:
    (folder / "archive.manifests").rename(folder.parent / "elsewhere")
    (folder / "archive.manifests").symlink_to(folder.parent / "elsewhere")


@attack("not-a-file")
def circular_link(folder: Path) -> None:
    (folder / "sales/2026/again").symlink_to(folder)


@attack("not-a-file")
def report_replaced_by_a_named_pipe(folder: Path) -> None:
    report(folder).unlink()
    os.mkfifo(folder / "sales/2026/03/03/20260303T060000Z_0123456789abcdef.pdf")


@attack("not-a-file")
def names_with_control_characters(folder: Path) -> None:
    (folder / "sales/a\nb\x1b[2J").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(folder / "sales") + b"/\xff\xfe")).write_bytes(b"x")


@attack("report-unreadable")
def report_replaced_by_a_folder(folder: Path) -> None:
    path = report(folder)
    path.unlink()
    path.mkdir()


@attack("manifest-malformed")
def huge_line(folder: Path) -> None:
    manifest(folder, 3).write_bytes(b'{"type": "' + b"x" * 50_000_000)


@attack("manifest-malformed")
def deeply_nested_json(folder: Path) -> None:
    manifest(folder, 3).write_bytes(b"[" * 60_000 + b"\n")


@attack("manifest-malformed")
def huge_number(folder: Path) -> None:
    manifest(folder, 3).write_bytes(b'{"type": "manifest", "sequence": ' + b"9" * 50_000 + b"}\n")


@attack("manifest-malformed")
def json_that_is_not_a_manifest(folder: Path) -> None:
    manifest(folder, 3).write_bytes(b'{"type": "manifest", "sequence": NaN}\n')


@attack("manifest-malformed")
def random_bytes(folder: Path) -> None:
    manifest(folder, 3).write_bytes(os.urandom(1000))


@attack("manifest-malformed")
def wrong_types_in_the_header(folder: Path) -> None:
    change_header(manifest(folder, 3), sequence=True, day=[], previous=5)


@attack("manifest-malformed")
def empty_manifest(folder: Path) -> None:
    manifest(folder, 3).write_bytes(b"")


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 45


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found_and_named(name: str, copy: Path, found: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    change, kind = ATTACKS[name]
    change(copy)
    status, result = found(copy, "--until", "2026-03-05" if kind != "chain-ends-early" else str(LAST))
    assert status == 1
    assert not result["verified"]
    assert kind in result["counts"], result["findings"]


def test_findings_name_the_file_and_are_safe_to_print(
    archive: Archive, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names_with_control_characters(copy)
    report_altered(copy)
    assert verify.main([str(copy), "--public-key", str(archive[1])]) == 1
    printed = capsys.readouterr().out
    assert f"report-altered: {report(copy).relative_to(copy)}: its SHA-256 is" in printed
    assert "\x1b" not in printed
    assert "NOT PROVEN" in printed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["/nowhere/at/all", "--public-key", "KEY"], "No such file"),
        (["FOLDER"], "--public-key is needed"),
        (["FOLDER", "--public-key", "/nowhere"], "No such file"),
        (["FOLDER", "--public-key", "KEY", "--until", "yesterday"], "Invalid isoformat"),
        ([str(verifier.PATH), "--public-key", "KEY"], "not a zip file"),
        (["FOLDER", "--public-key", str(verifier.PATH)], "not a public key"),
    ],
)
def test_unusable_arguments_prove_nothing(
    archive: Archive, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"FOLDER": str(archive[0]), "KEY": str(archive[1])}
    assert verify.main([names.get(each, each) for each in arguments]) == 1
    assert problem in capsys.readouterr().err


def test_without_openssl_nothing_is_proven(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert verify.main([str(archive[0]), "--public-key", str(archive[1])]) == 1
    assert "openssl is not installed" in capsys.readouterr().err


@pytest.mark.django_db
class TestRotation:
    @pytest.fixture
    def rotated(self, bucket: Bucket, tmp_path: Path) -> tuple[Path, Path, Path]:
        """Return a copy and the files of the first and the last public key, with two rotations between them."""
        interface = make_interface(bucket.server, bucket.name)
        make_policy(interface)
        keys = []
        for number, day in enumerate(archives.days(3)):
            if number:
                signing.make_key()
            (tmp_path / str(number)).mkdir()
            keys.append(archives.public_key(tmp_path / str(number)))
            deliver_on(interface, day)
            write(interface, day)
        write(interface, FIRST + timedelta(days=3))
        return archives.copy(bucket, tmp_path / "copy"), keys[0], keys[2]

    @pytest.mark.parametrize("which", [1, 2])
    def test_either_key_is_enough(
        self, rotated: tuple[Path, Path, Path], which: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify.main([str(rotated[0]), "--public-key", str(rotated[which])]) == 0, capsys.readouterr().out

    def test_a_manifest_forged_with_a_former_key_breaks_the_chain(
        self, rotated: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        thief = signing.find(SigningKey.objects.get(generation=1).fingerprint)
        assert thief is not None
        for day in (1, 4):
            copy = Path(shutil.copytree(rotated[0], rotated[0].with_name(f"forged-{day}")))
            change_header(manifest(copy, day), public_key=thief.fingerprint, interface="forged")
            companion(manifest(copy, day)).write_bytes(thief.sign(manifest(copy, day).read_bytes()))
            for key in rotated[1:]:
                assert verify.main([str(copy), "--public-key", str(key)]) == 1
        assert "chain-broken" in (printed := capsys.readouterr().out)
        assert "which the previous manifest does not announce" in printed
