"""Each manifest gets a time stamp from an authority. A failure of the authority delays only time stamps."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from anaphora.deliveries import verifier
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import Delivery
from delivery_s3.models import S3Interface
from tests.support import archives, servers, time_stamping
from tests.support.archives import FIRST, deliver_on, write
from tests.support.buckets import Bucket
from tests.support.factories import make_policy
from tests.support.time_stamping import Authority

pytestmark = pytest.mark.django_db

verify = verifier.module()
KEY = "archive.manifests/2026/2026-03-{:02}.jsonl"


@pytest.fixture
def authority(tmp_path: Path, settings: Settings) -> Iterator[Authority]:
    with time_stamping.authority(tmp_path / "tsa") as running:
        settings.TIME_STAMP_URL = running.url
        yield running


@pytest.fixture
def interface(interface: S3Interface) -> S3Interface:
    make_policy(interface)
    deliver_on(interface, FIRST)
    return interface


@pytest.fixture
def copy(authority: Authority, interface: S3Interface, bucket: Bucket, tmp_path: Path) -> Path:
    """A copy of an archive with two days of manifests and time stamps."""
    write(interface, FIRST + timedelta(days=1))
    return archives.copy(bucket, tmp_path / "copy")


def test_openssl_verifies_it(copy: Path, authority: Authority) -> None:
    manifest = copy / KEY.format(1)
    command = ["openssl", "ts", "-verify", "-data", str(manifest), "-in", f"{manifest}.tsr"]
    result = subprocess.run(
        [*command, "-CAfile", str(authority.certificate)], capture_output=True, text=True, check=False
    )
    assert "Verification: OK" in result.stdout + result.stderr
    out = io.StringIO()
    call_command("verify_archive", stdout=out)
    assert "2 manifests, 0 findings" in out.getvalue()


def test_the_verifier_names_invalid_time_stamps(
    copy: Path, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = archives.public_key(tmp_path)

    def run(*options: str) -> tuple[int, str]:
        status = verify.main([str(copy), "--public-key", str(key), *options])
        return status, capsys.readouterr().out

    trusted = ["--time-stamp-ca", str(authority.certificate)]
    assert run(*trusted)[0] == 0
    status, printed = run()
    assert status == 0
    assert "The signer of the time stamps was not checked" in printed
    with time_stamping.authority(tmp_path / "another") as other:
        status, printed = run("--time-stamp-ca", str(other.certificate))
    assert status == 1
    assert "time-stamp-wrong" in printed
    one, two = (copy / f"{KEY.format(day)}.tsr" for day in (1, 2))
    kept = two.read_bytes()
    for change, kind in (
        (lambda: shutil.copy(one, two), "time-stamp-wrong"),
        (lambda: two.write_bytes(b"nonsense"), "time-stamp-wrong"),
        (lambda: two.write_bytes(b"\x30" * 1_000_000), "time-stamp-wrong"),
        (lambda: two.unlink(), "time-stamp-missing"),
    ):
        change()
        for options in (trusted, []):
            status, printed = run(*options)
            assert status == 1
            assert kind in printed
        two.write_bytes(kept)


def test_evidence_contains_the_time_stamp(
    copy: Path, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Manifest.objects.get(sequence=1).deliveries.get().report
    path = tmp_path / "evidence.zip"
    call_command("evidence", str(report.pk), "--output", str(path), stdout=io.StringIO())
    assert verify.main([str(path), "--time-stamp-ca", str(authority.certificate)]) == 0
    assert "A time-stamping authority stamped the manifest" in capsys.readouterr().out


def test_a_rebuilt_index_has_them(copy: Path, interface: S3Interface, bucket: Bucket) -> None:
    before = {each.key: bytes(each.time_stamp) for each in Manifest.objects.all()}
    assert all(before.values())
    Delivery.objects.all()._raw_delete(Delivery.objects.db)
    Irregularity.objects.all().delete()
    Manifest.objects.all().delete()
    call_command("rebuild_index", interface.name, stdout=io.StringIO())
    assert {each.key: bytes(each.time_stamp) for each in Manifest.objects.all()} == before
    assert not Manifest.objects.filter(wants_time_stamp=True).exists()


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"\x30" * 100_000])
def test_a_failing_authority_delays_only_time_stamps(
    authority: Authority, interface: S3Interface, bucket: Bucket, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    authority.answer = lambda true: answer
    assert write(interface, FIRST) == [KEY.format(1)]
    assert "No time stamp for" in caplog.text
    assert f"{KEY.format(1)}.tsr" not in archives.keys(bucket)
    authority.answer = bytes
    write(interface, FIRST)
    assert f"{KEY.format(1)}.tsr" in archives.keys(bucket)
    assert not Manifest.objects.filter(wants_time_stamp=True).exists()


def test_an_authority_that_is_unreachable_or_repeats_an_answer(
    authority: Authority, interface: S3Interface, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TIME_STAMP_URL = f"http://127.0.0.1:{servers.free_port()}/"
    write(interface, FIRST)
    settings.TIME_STAMP_URL = authority.url
    seen: list[bytes] = []

    def repeat(true: bytes) -> bytes:
        seen.append(true)
        return seen[0]

    authority.answer = repeat
    write(interface, FIRST + timedelta(days=1))
    assert Manifest.objects.filter(wants_time_stamp=True).count() == 1
    assert "belongs to another request" in caplog.text
