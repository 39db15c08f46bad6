"""The demo: a local S3 server, the web server, a worker and beat. It renders two dashboards and archives the reports.

All data is under var/demo and is kept for the next run. With DEMO_EXIT=1, the demo exits after it prints the receipts.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anaphora.demo.processes import Processes, find_program, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "var" / "demo"
BUCKET = "reports-archive"
ADMINISTRATOR = "admin"
INTERFACE = "Local bucket"
DAYS = 4
"""Days of history that the first run renders, in addition to the current state."""
MAX_RECEIPTS = 10
"""Maximum number of receipts that are printed."""


def main() -> int:
    """Run the demo; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    started = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with _single_instance(), Processes(FOLDER / "logs") as processes:
            credentials = _environment()
            web, store = _port("web", 8000), _port("S3", 9000)
            _start(processes, credentials, web=web, store=store)
            _configure(credentials, f"http://127.0.0.1:{store}")
            _ingest_samples()
            complete = _wait_for_receipts(processes)
            _print_receipts()
            print(f"\nReady after {time.monotonic() - started:.0f} s.")  # noqa: T201
            if not os.environ.get("DEMO_EXIT"):
                _print_welcome(credentials, web)
                while True:
                    processes.check()
                    time.sleep(1)
    except KeyboardInterrupt:
        print("\nStopped.")  # noqa: T201
        return 0
    except RuntimeError as error:
        print(f"demo: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0 if complete else 1


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _single_instance() -> Iterator[None]:
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another demo is running in {FOLDER}. Stop it first.") from error
        yield


def _print_step(text: str) -> None:
    print(f"· {text}", flush=True)  # noqa: T201


def _environment() -> dict[str, str]:
    """Set the environment of this process for the demo and return its credentials. They are created once and kept."""
    file = FOLDER / "env"
    if not file.exists():
        values = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "FERNET_KEYS": secrets.token_urlsafe(32),
            "DATA_DIR": str(FOLDER),
            "DEMO_PASSWORD": secrets.token_urlsafe(9),
            "DEMO_S3_ACCESS_KEY_ID": secrets.token_hex(10).upper(),
            "DEMO_S3_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
        }
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as target:
            target.writelines(f"{name}='{value}'\n" for name, value in values.items())
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    values = {name: value.strip("'") for name, value in values.items()}
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "ALLOWED_HOSTS", "DEBUG"):
        os.environ.pop(name, None)
    os.environ |= {name: values[name] for name in ("SECRET_KEY", "FERNET_KEYS", "DATA_DIR")}
    os.environ |= {"INBOX_DIR": str(FOLDER / "inbox"), "MIN_FREE_MB": "0"}
    os.environ |= {"ENV_FILE": str(file), "DELIVERY_SWEEP_SECONDS": "5", "DJANGO_SETTINGS_MODULE": "anaphora.settings"}
    return values


def _port(what: str, preferred: int) -> int:
    port = free_port(preferred)
    if port != preferred:
        _print_step(f"Port {preferred} is in use. The {what} server uses port {port}")
    return port


def _start(processes: Processes, credentials: dict[str, str], *, web: int, store: int) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    _print_step("Preparing the database")
    call_command("migrate", verbosity=0)
    bucket = FOLDER / "s3" / BUCKET
    bucket.mkdir(parents=True, exist_ok=True)
    _print_step(f"Starting an S3 server on port {store}, a web server on port {web}, a worker and beat")
    # Quoted, because rclone reads a list, and the pair must be one item.
    keys = f'"{credentials["DEMO_S3_ACCESS_KEY_ID"]},{credentials["DEMO_S3_SECRET_ACCESS_KEY"]}"'
    processes.start(
        "S3-server", find_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{store}", bucket.parent,
        RCLONE_AUTH_KEY=keys, RCLONE_CONFIG=os.devnull,
    )  # fmt: skip
    # One process with threads, because SQLite allows only one writer at a time.
    processes.start(
        "web-server", sys.executable, "-m", "gunicorn", "anaphora.wsgi", "--bind", f"127.0.0.1:{web}",
        "--threads", "4", "--chdir", ROOT, "--no-control-socket",
    )  # fmt: skip
    celery = [sys.executable, "-m", "celery", "--app", "anaphora", "--workdir", str(ROOT)]
    processes.start("worker", *celery, "worker", "--concurrency", "2", "--loglevel", "INFO")
    processes.start("beat", *celery, "beat", "--pidfile=", "--loglevel", "INFO")
    processes.wait_for_port(store)
    processes.wait_for_port(web)


def _configure(credentials: dict[str, str], endpoint: str) -> None:
    from django.contrib.auth import get_user_model

    from anaphora.deliveries.models import ArchivePolicy
    from anaphora.demo.dashboards import SAMPLES
    from anaphora.reports.models import Dashboard
    from delivery_s3.connection_test import services
    from delivery_s3.models import S3Interface

    administrators = get_user_model()
    user, _ = administrators.objects.get_or_create(username=ADMINISTRATOR, is_staff=True, is_superuser=True)
    if not user.check_password(credentials["DEMO_PASSWORD"]):
        user.set_password(credentials["DEMO_PASSWORD"])
        user.save()
    interface, _ = S3Interface.objects.update_or_create(
        name=INTERFACE,
        defaults={
            "provider": "other",
            "access_key_id": credentials["DEMO_S3_ACCESS_KEY_ID"],
            "secret_access_key": credentials["DEMO_S3_SECRET_ACCESS_KEY"],
            "region": "us-east-1",
            "bucket_name": BUCKET,
            "endpoint_url": endpoint,
        },
    )
    report = services.test_and_record(interface)
    if report.diagnosis is not None:
        raise RuntimeError(f"The connection test failed: {report.diagnosis.title}. {report.diagnosis.remedy}")
    _print_step(f"Connection test passed: {report.object_key} is in the bucket")
    ArchivePolicy.objects.get_or_create(name="Everything, as soon as rendered", defaults={"interface": interface})
    for sample in SAMPLES:
        Dashboard.objects.get_or_create(slug=sample.slug, defaults={"title": sample.title})


def _ingest_samples() -> None:
    """Render and ingest the missing reports of the history and the current state."""
    from anaphora.demo.dashboards import SAMPLES
    from anaphora.reports.ingest import ingest
    from anaphora.reports.models import Report

    now = datetime.now(UTC).replace(microsecond=0)
    morning = now.replace(hour=6, minute=0, second=0)
    instants = [morning - timedelta(days=days) for days in range(DAYS, 0, -1)] + [now]
    _print_step("Rendering two dashboards and ingesting the reports")
    with tempfile.TemporaryDirectory() as folder:
        for sample in SAMPLES:
            for instant in instants:
                if Report.objects.filter(dashboard__slug=sample.slug, rendered_at=instant).exists():
                    continue
                file = sample.render(instant, Path(folder))
                with file.open("rb") as source:
                    ingest(source=source, filename=file.name, dashboard=sample.slug, rendered_at=instant)


def _wait_for_receipts(processes: Processes, seconds: float = 60) -> bool:
    from anaphora.deliveries.models import Delivery, State

    _print_step("Waiting for the worker to archive them")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        processes.check()
        if not Delivery.objects.exclude(state=State.DELIVERED).exists():
            return Delivery.objects.exists()
        time.sleep(0.2)
    return False


def _print_receipts() -> None:
    from anaphora.deliveries.models import Delivery, State, diagnosis_of

    rows = list(Delivery.objects.select_related("report__dashboard").order_by("report__rendered_at", "pk"))
    bucket = FOLDER / "s3" / BUCKET
    print(f"\nReceipts, the latest {MAX_RECEIPTS} of {len(rows)}:" if len(rows) > MAX_RECEIPTS else "\nReceipts:")  # noqa: T201
    for row in rows[-MAX_RECEIPTS:]:
        if row.state == State.DELIVERED:
            stored = hashlib.sha256((bucket / row.object_key).read_bytes()).hexdigest()
            same = "identical to the report" if stored == row.report.sha256 else "DIFFERENT FROM THE REPORT"
            print(f"  {row.object_key}  {row.size:>7,} bytes  {row.get_integrity_display()}, {same}")  # noqa: T201
        else:
            diagnosis = diagnosis_of(row)
            print(f"  {row.report}  {row.state}  {diagnosis.title if diagnosis else ''} {row.detail}")  # noqa: T201
    print(f"\nThe objects are in {bucket}")  # noqa: T201


def _print_welcome(credentials: dict[str, str], web: int) -> None:
    print(  # noqa: T201
        f"\nOpen   http://127.0.0.1:{web}/admin/   as {ADMINISTRATOR}   with the password "
        f"{credentials['DEMO_PASSWORD']},\n"
        f"and    http://127.0.0.1:{web}/timeline/   for the dashboards at any date.\n\n"
        "Archive a file of your own from another terminal:\n"
        "  ENV_FILE=var/demo/env .venv/bin/python manage.py ingest FILE.pdf --dashboard my-dashboard\n"
        "or copy it to the inbox: var/demo/inbox/my-dashboard/FILE.pdf\n\n"
        "Ctrl-C stops everything.",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
