"""Peak memory of ingesting and delivering one large report: `python -m benchmarks.memory [MIB]`, default 1024.

Starts an S3 server (rclone) on loopback, ingests one report of this size with `manage.py ingest` and another one
through the API, and delivers one with `manage.py deliver_due` and the other with a Celery worker. Prints the peak
resident memory of each process, also for a report of 1 MiB, and checks that the objects match the reports. Exits 1 if a
process used 200 MB or more.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.installation import ROOT, Workers, children_of, installation, peak_mb, wait_until_delivered
from tests.support import servers

BAR_MB = 200


def main(mebibytes: int) -> int:
    """Measure, print a table, return the exit status."""
    rows = []
    with tempfile.TemporaryDirectory() as name, installation(folder := Path(name)):
        (folder / "s3" / "reports").mkdir(parents=True)
        with servers.rclone(folder / "s3") as server:
            _configure(server)
            for number, size in enumerate((1, mebibytes)):
                file = _new_file(folder, size)
                rows.append((size, "ingest", *_manage("ingest", str(file), "--dashboard", "large")))
                rows.append((size, "deliver_due", *_manage("deliver_due")))
                stored = _intact(folder, file)
                file = _new_file(folder, size)
                rows.append((size, "web server", *_post(file)))
                with Workers("anaphora", 1, folder) as workers:
                    started = time.monotonic()
                    wait_until_delivered(2 * number + 2)
                    rows.append((size, "worker", workers.largest_mb(), time.monotonic() - started))
                if not stored or not _intact(folder, file):
                    print("The object in the bucket is not the ingested report")
                    return 1
    print(f"{'report':>10}  {'process':12} {'peak memory':>12} {'time':>8}")
    for size, process, megabytes, seconds in rows:
        print(f"{size:6} MiB  {process:12} {megabytes:9.0f} MB {seconds:6.1f} s")
    worst = max(megabytes for _, _, megabytes, _ in rows)
    measured = {f"{process}, {size} MiB": round(megabytes) for size, process, megabytes, _ in rows}
    return results.finish("memory", results.Bar(f"peak / {BAR_MB} MB", worst / BAR_MB, at_most=1), **measured)


def _configure(server: servers.S3Server) -> None:
    from anaphora.deliveries.models import ArchivePolicy
    from delivery_s3.models import S3Interface

    interface = S3Interface.objects.create(
        name="benchmark",
        provider="other",
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        bucket_name="reports",
        endpoint_url=server.endpoint,
    )
    ArchivePolicy.objects.create(name="all", interface=interface)


def _manage(*arguments: str) -> tuple[float, float]:
    """Run manage.py; return its peak resident memory in MB (10^6 bytes) and its time in seconds."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "manage.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"manage.py {arguments[0]} ended with status {process.returncode}")
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss * 1024 / 1e6, time.monotonic() - started


def _post(file: Path) -> tuple[float, float]:
    """Send a file to the API of a web server; return the server's peak resident memory in MB and the seconds."""
    from anaphora.api import tokens
    from anaphora.api.models import Scope

    token, port = tokens.create("benchmark", [Scope.INGEST])[1], servers.free_port()
    command = ["gunicorn", "anaphora.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "2", "--timeout", "300"]
    server = subprocess.Popen([sys.executable, "-m", *command, "--no-control-socket", "--log-level", "error"], cwd=ROOT)
    try:
        servers.wait_for_port(port, server)
        started = time.monotonic()
        form = ["--form", "dashboard=large", "--form", "rendered_at=2026-03-01T06:00:00Z", "--form", f"file=@{file}"]
        address = f"http://127.0.0.1:{port}/api/v1/reports"
        sent = [
            "curl",
            "--fail",
            "--silent",
            "--show-error",
            "--header",
            f"Authorization: Bearer {token}",
            *form,
            address,
        ]
        subprocess.run(sent, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        return max(peak_mb(pid) for pid in children_of(server.pid)), seconds
    finally:
        server.terminate()
        server.wait()


def _new_file(folder: Path, mebibytes: int) -> Path:
    file = folder / "report.bin"
    with file.open("wb") as target:
        for _ in range(mebibytes):
            target.write(os.urandom(1024 * 1024))
    return file


def _intact(folder: Path, file: Path) -> bool:
    digest = _digest(file)
    return [_digest(path) for path in (folder / "s3").rglob(f"*_{digest[:16]}.bin")] == [digest]


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
