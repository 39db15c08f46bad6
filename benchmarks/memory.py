"""Peak memory of taking in and delivering one large report: `python -m benchmarks.memory [MIB]`, 1024 without.

Starts an S3 server (rclone) on loopback, takes a report of that size in with `manage.py ingest` and delivers it with
`manage.py deliver_due`, each in a process of its own, as a worker is. Prints the peak resident memory of both beside
the same for a report of 1 MiB, and checks that what lies in the bucket is what came in. Exits 1 if a process took
200 MB or more.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import servers

ROOT = Path(__file__).resolve().parent.parent
BAR_MB = 200


def main(mebibytes: int) -> int:
    """Measure, print a table, return the exit status."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "s3" / "reports").mkdir(parents=True)
        with servers.rclone(folder / "s3") as server:
            environment = os.environ | {
                "SECRET_KEY": "benchmark",
                "FERNET_KEYS": "benchmark",
                "DATA_DIR": str(folder / "data"),
                "DATABASE_URL": f"sqlite:///{folder}/benchmark.sqlite3",
                "ENV_FILE": os.devnull,
                "LOG_LEVEL": "ERROR",
            }
            _manage(environment, "migrate", "--verbosity", "0")
            _manage(environment, "shell", "--verbosity", "0", "--command", _SET_UP.format(server=server))
            for size in (1, mebibytes):
                file = folder / f"report-{size}.bin"
                _write(file, size)
                rows.append((size, "ingest", *_manage(environment, "ingest", str(file), "--dashboard", "large")))
                rows.append((size, "deliver_due", *_manage(environment, "deliver_due")))
                digest = _digest(file)
                stored = [_digest(path) for path in (folder / "s3").rglob(f"*_{digest[:16]}.bin")]
                if stored != [digest]:
                    print(f"What lies in the bucket is not what came in: {stored}")
                    return 1
                file.unlink()
    print(f"{'report':>10}  {'process':12} {'peak memory':>12} {'time':>8}")
    for size, process, megabytes, seconds in rows:
        print(f"{size:6} MiB  {process:12} {megabytes:9.0f} MB {seconds:6.1f} s")
    worst = max(megabytes for _, _, megabytes, _ in rows)
    print(f"The bar is {BAR_MB} MB: {'kept' if worst < BAR_MB else 'MISSED'}.")
    return 0 if worst < BAR_MB else 1


_SET_UP = """
from delivery_s3.models import ArchivePolicy, S3Interface
interface = S3Interface.objects.create(
    name="benchmark", provider="other", access_key_id="{server.access_key_id}",
    secret_access_key="{server.secret_access_key}", bucket_name="reports", endpoint_url="{server.endpoint}")
ArchivePolicy.objects.create(name="all", interface=interface)
"""


def _manage(environment: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Run manage.py; return its peak resident memory in MB (10^6 bytes) and its time in seconds."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"manage.py {arguments[0]} ended with status {process.returncode}")
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss * 1024 / 1e6, time.monotonic() - started


def _write(file: Path, mebibytes: int) -> None:
    with file.open("wb") as target:
        for _ in range(mebibytes):
            target.write(os.urandom(1024 * 1024))


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
