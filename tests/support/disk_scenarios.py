"""The program that `test_disk` runs in a mount namespace: a local disk that is full, and one that becomes read-only.

`python -m tests.support.disk_scenarios`, inside `unshare --net --mount --map-root-user`, where DATA_DIR can be a
small disk.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

REPORTS = 5


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as name:
        data, bucket = Path(name) / "data", Path(name) / "s3"
        data.mkdir()
        (bucket / "reports").mkdir(parents=True)
        mount("-t", "tmpfs", "-o", "size=8M", "tmpfs", str(data))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATA_DIR": str(data),
            "DATABASE_URL": f"sqlite:///{data}/anaphora.sqlite3",
            "CELERY_BROKER_URL": "filesystem://localhost",
            "DELIVERY_LEASE_SECONDS": "10",
        }
        try:
            run(data, bucket)
        finally:
            from django.db import connection

            connection.close()
            subprocess.run(["umount", "--lazy", str(data)], check=True)
    print("all scenarios passed")  # noqa: T201


def run(data: Path, folder: Path) -> None:
    import django
    from django.core.management import call_command

    from tests.support import servers

    django.setup()
    call_command("migrate", verbosity=0)
    with servers.rclone(folder) as server:
        from tests.support.factories import make_interface, make_policy

        make_policy(interface := make_interface(server, "reports"))
        for number in range(REPORTS):
            take_in(number)
        for trouble in (full, read_only):
            with trouble(data):
                refused(lambda: take_in(99))
                try_to_deliver(interface.pk)
            assert nothing_is_lost(), trouble
        end = time.monotonic() + 30
        while pending() and time.monotonic() < end:  # a lease may have to expire first
            try_to_deliver(interface.pk)
            time.sleep(0.5)
    assert not pending()
    stored = [path for path in folder.rglob("*") if path.is_file()]
    assert len(stored) == REPORTS, stored


def take_in(number: int) -> None:
    from anaphora.reports.ingest import ingest

    ingest(
        source=io.BytesIO(bytes([number]) * 200_000),
        filename="report.pdf",
        dashboard="sales",
        rendered_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number),
    )


def refused(take: Callable[[], None]) -> None:
    """Check that a report that cannot be stored is refused with a remedy, and leaves no files."""
    import pytest

    from anaphora.reports.ingest import IngestError

    with pytest.raises(IngestError, match="DATA_DIR") as caught:
        take()
    assert caught.value.field == "file"


def try_to_deliver(interface: int) -> None:
    """Deliver like a worker, whose task fails if the database cannot be written."""
    from django.db import OperationalError

    from anaphora.deliveries.engine import deliver_due

    try:
        deliver_due(interface, ignore_pause=True)
    except OperationalError as error:
        print("The database says:", error)  # noqa: T201


def nothing_is_lost() -> bool:
    from django.conf import settings

    from anaphora.deliveries.models import Delivery
    from anaphora.reports.models import Report

    files = [report.local_path.exists() for report in Report.objects.select_related("dashboard")]
    left_over = len([path for path in settings.DATA_DIR.glob("reports/**/*") if path.is_file()]) - REPORTS
    return files == [True] * REPORTS and left_over == 0 and Delivery.objects.count() == REPORTS


def pending() -> int:
    from anaphora.deliveries.models import Delivery, State

    assert not Delivery.objects.filter(state=State.FAILED).exists()
    return Delivery.objects.exclude(state=State.DELIVERED).count()


@contextmanager
def full(data: Path) -> Iterator[None]:
    ballast = data / "ballast"
    with ballast.open("wb", buffering=0) as target:
        try:
            while True:
                target.write(b"x" * 4096)
        except OSError:
            pass
    yield
    ballast.unlink()


@contextmanager
def read_only(data: Path) -> Iterator[None]:
    from django.db import connection

    connection.close()
    mount("-o", "remount,ro", str(data))
    yield
    connection.close()
    mount("-o", "remount,rw", str(data))


if __name__ == "__main__":
    main()
    sys.exit(0)
