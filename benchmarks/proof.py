"""100,000 reports of one day: `python -m benchmarks.proof`.

On PostgreSQL, with a store in memory: what writing the manifest takes, and what the stand-alone verifier takes for a
copy of files on disk and how much memory. `benchmarks.rebuild` measures rebuilding the index from a manifest. Exits 1
if the verifier takes too much memory.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from benchmarks import results
from benchmarks.installation import installation

REPORTS = 100_000
DAY = datetime(2026, 3, 1, tzinfo=UTC)
BAR_MB = 100
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


class Store:
    """Objects in memory: what was put."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, upload: Any, body: BinaryIO) -> None:
        """Keep an object."""
        body.seek(0)
        self.objects[upload.key] = body.read()

    def head(self, key: str, version_id: str = "") -> Any:
        """Return what a store says of an object."""
        from anaphora.deliveries.destinations import StoredObject

        return StoredObject(len(self.objects[key]), "", "", DAY) if key in self.objects else None


def fill(interface: Any, folder: Path) -> None:
    """Make the rows of delivered reports, and their files in a folder."""
    from anaphora.deliveries.models import Delivery, State
    from anaphora.deliveries.object_keys import object_key
    from anaphora.reports.models import Dashboard, Report

    reports, deliveries = [], []
    for number in range(REPORTS):
        if number % 1000 == 0:
            dashboard = Dashboard.objects.create(slug=f"d-{number // 1000:03}")
            (folder / f"{dashboard.slug}/2026/03/01").mkdir(parents=True)
        at = DAY + timedelta(seconds=number % 1000)
        content = b"report %d" % number
        sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
        report = Report(
            dashboard=dashboard, rendered_at=at, filename="report.pdf", content_type="application/pdf",
            size=len(content), sha256=sha256, md5=md5, ingested_at=at, preview="none",
        )  # fmt: skip
        key = object_key(prefix="", dashboard=dashboard.slug, rendered_at=at, sha256=sha256, suffix=".pdf")
        (folder / key).write_bytes(content)
        reports.append(report)
        deliveries.append(
            Delivery(
                report=report,
                interface=interface,
                state=State.DELIVERED,
                object_key=key,
                sha256=sha256,
                etag=md5,
                size=len(content),
                delivered_at=at,
                integrity="etag",
            )
        )
    Report.objects.bulk_create(reports, batch_size=2000)
    Delivery.objects.bulk_create(deliveries, batch_size=2000)


def verify(folder: Path, store: Store, public_key: str) -> tuple[float, int]:
    """Run the stand-alone verifier on the copy; return its seconds and its megabytes."""
    from anaphora.deliveries import verifier

    copy = folder / "copy"
    for key, content in store.objects.items():
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        (copy / key).write_bytes(content)
    (folder / "key.pem").write_text(public_key)
    command = [sys.executable, "-c", MEASURED, str(verifier.PATH), str(copy), "--public-key", str(folder / "key.pem")]
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stdout[-2000:] + result.stderr)
    return time.perf_counter() - started, int(result.stdout.split()[-1]) * 1024 // 10**6


def main() -> int:
    """Measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as name, installation(Path(name)):
        from anaphora.deliveries import manifests, signing
        from delivery_s3.models import S3Interface

        folder, store = Path(name), Store()
        interface = S3Interface.objects.create(name="benchmark", provider="other", bucket_name="b")
        with mock.patch.object(S3Interface, "destination", return_value=store):
            fill(interface, folder / "copy")
            started = time.perf_counter()
            list(manifests.write(interface, until=DAY.date(), now=DAY + timedelta(days=2)))
            written = time.perf_counter() - started
            verified, memory = verify(folder, store, signing.current().public_pem)
    print(f"{REPORTS:,} reports: manifest written in {written:.1f} s")
    print(f"copy verified in {verified:.1f} s, {memory} MB")
    return results.finish("proof", results.Bar("memory of the verifier / 100 MB", memory / BAR_MB, at_most=1))


if __name__ == "__main__":
    sys.exit(main())
