"""The main job, with everything real: admin pages, a rendered file, a Celery worker, a broker and an S3 server."""

import io
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection as database
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from anaphora.deliveries import tasks
from anaphora.deliveries.models import Delivery, State
from anaphora.demo.dashboards import SAMPLES
from anaphora.reports.models import Dashboard
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import interface_form, make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db(transaction=True)

SECRET_OF_ANOTHER_TRY = "S3CRET-typed-but-wrong"


def text_of(response: Any) -> str:
    """Return the text of a response, streamed or not."""
    content: bytes = response.getvalue() if response.streaming else response.content
    return content.decode()


def wait_until(condition: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"still not so after {seconds} s; the worker's log:\n{log.read_text()}")


def everything_is_delivered() -> bool:
    return Delivery.objects.exists() and not Delivery.objects.exclude(state=State.DELIVERED).exists()


def whole_database() -> bytes:
    """Return the content of the whole database as bytes."""
    rows: list[bytes] = []
    with database.cursor() as cursor:
        for table in database.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {database.ops.quote_name(table)}")
            for row in cursor.fetchall():
                rows += [bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode() for v in row]
    return b"\n".join(rows)


def waiting_messages() -> list[str]:
    """Remove all messages from the queue; return them in the broker's format."""
    found = []
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue(django_settings.CELERY_TASK_DEFAULT_QUEUE)
        while True:
            try:
                message = queue.get(timeout=1)
            except queue.Empty:
                break
            found.append(f"{message.headers} {message.properties} {message.body!r}")
            message.ack()
        queue.close()
    return found


@pytest.fixture(autouse=True)
def empty_queue() -> None:
    waiting_messages()


def test_from_an_empty_form_to_the_receipt(
    admin_client: Client, bucket: Bucket, start_celery: Callable[..., Path], tmp_path: Path
) -> None:
    form = interface_form(bucket)
    tested = admin_client.post(reverse("admin:delivery_s3_s3interface_test_new"), form)
    assert "The test passed" in text_of(tested)
    admin_client.post(reverse("admin:delivery_s3_s3interface_add"), form)
    admin_client.post(
        reverse("admin:deliveries_archivepolicy_add"),
        {"name": "all", "interface": S3Interface.objects.get().pk, "enabled": "on"},
    )
    log = start_celery()
    start_celery("beat", DELIVERY_SWEEP_SECONDS="1")  # it retries uploads that the store refused temporarily
    moment = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
    files = [sample.render(moment + timedelta(days=day), tmp_path) for sample in SAMPLES for day in range(2)]
    for file in files:
        call_command(
            "ingest", str(file), "--dashboard", "sales", "--rendered-at", moment.isoformat(), stdout=io.StringIO()
        )
    wait_until(everything_is_delivered, log)
    for file in files:
        delivery = Delivery.objects.get(report__filename=file.name)
        stored = bucket.read(delivery.object_key)
        assert stored == file.read_bytes()
        if file.suffix == ".pdf":
            assert len(pypdfium2.PdfDocument(stored)) == 1
        page = admin_client.get(reverse("admin:deliveries_delivery_change", args=[delivery.pk]))
        assert delivery.object_key in page.content.decode()


def test_a_report_whose_message_was_lost_is_found_by_the_sweep(
    interface: S3Interface, start_celery: Callable[..., Path]
) -> None:
    make_policy(interface)
    make_report()
    assert len(waiting_messages()) == 1  # the message is lost now
    log = start_celery()
    start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
    wait_until(everything_is_delivered, log)


def test_deliveries_claimed_by_a_dead_worker_are_delivered(
    interface: S3Interface, start_celery: Callable[..., Path]
) -> None:
    import uuid

    make_policy(interface)
    make_report()
    past = timezone.now() - timedelta(seconds=1)
    Delivery.objects.update(state=State.SENDING, lease=uuid.uuid4(), leased_until=past)
    waiting_messages()
    log = start_celery()
    start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
    wait_until(everything_is_delivered, log)


def test_two_workers_share_the_work_without_duplicates(
    interface: S3Interface, bucket: Bucket, start_celery: Callable[..., Path]
) -> None:
    make_policy(interface)
    for _ in range(100):
        make_report()
    log = start_celery()
    start_celery()
    start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
    wait_until(everything_is_delivered, log, 60)
    assert len(bucket.keys()) == 100


def test_a_stopped_worker_finishes_or_gives_back_its_deliveries(
    bucket: Bucket, start_celery: Callable[..., Path], celery_processes: list[subprocess.Popen[bytes]]
) -> None:
    with servers.in_front_of(bucket.server, lambda method, path: servers.Fault.DELAY) as endpoint:
        make_policy(make_interface(bucket.server, bucket.name, endpoint_url=endpoint))
        for _ in range(150):
            make_report()
        log = start_celery("worker", DELIVERY_CONCURRENCY="2")
        wait_until(lambda: Delivery.objects.filter(state=State.DELIVERED).exists(), log, 60)
        celery_processes[0].terminate()
        celery_processes[0].wait(timeout=30)
        assert Delivery.objects.filter(state=State.PENDING, attempts=0, diagnosis="").exists()
        assert not Delivery.objects.filter(state=State.SENDING).exists()
        delivered = Delivery.objects.filter(state=State.DELIVERED).count()
        assert len(bucket.keys()) == delivered


@pytest.mark.heavy
def test_a_slow_interface_does_not_delay_another(
    interface: S3Interface, bucket: Bucket, start_celery: Callable[..., Path]
) -> None:
    with servers.in_front_of(bucket.server, lambda method, path: servers.Fault.DELAY) as endpoint:
        slow = make_interface(bucket.server, bucket.name, endpoint_url=endpoint, key_prefix="second/")
        make_policy(slow).dashboards.add(Dashboard.objects.create(slug="slow"))
        make_policy(interface).dashboards.add(Dashboard.objects.create(slug="sales"))
        for _ in range(300):
            make_report(dashboard="slow")
        log = start_celery("worker", DELIVERY_CONCURRENCY="1")
        of_slow = Delivery.objects.filter(interface=slow, state=State.DELIVERED)
        wait_until(of_slow.exists, log, 60)
        started = time.monotonic()
        make_report(dashboard="sales")
        of_other = Delivery.objects.filter(interface=interface, state=State.DELIVERED)
        wait_until(of_other.exists, log, 60)
        assert time.monotonic() - started < 2 * tasks.TURN_SECONDS
        assert of_slow.count() < 300


@pytest.mark.heavy
def test_a_database_locked_for_long_causes_no_loss(
    interface: S3Interface, bucket: Bucket, start_celery: Callable[..., Path]
) -> None:
    """The database is locked for longer than SQLite waits, so that tasks end with an error."""
    make_policy(interface)
    for _ in range(20):
        make_report()
    with transaction.atomic():
        if database.vendor == "postgresql":
            with database.cursor() as cursor:
                cursor.execute("LOCK TABLE deliveries_delivery IN ACCESS EXCLUSIVE MODE")
        else:
            S3Interface.objects.update(wakeup_sent_at=None)
        log = start_celery()
        start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
        time.sleep(33)
        assert bucket.keys() == []
    wait_until(everything_is_delivered, log, 60)
    assert len(bucket.keys()) == 20


def test_an_unreachable_broker_does_not_lose_a_report(
    interface: S3Interface, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kombu.exceptions import OperationalError

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("no route to the broker")

    monkeypatch.setattr(tasks.deliver_due, "delay", unreachable)
    make_policy(interface)
    make_report()
    assert Delivery.objects.get().state == State.PENDING
    assert "the delivery waits for the sweep" in caplog.text


def test_the_secret_appears_nowhere(
    admin_client: Client,
    bucket: Bucket,
    start_celery: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in the database as plain text nor on a page, in a log at DEBUG or in a task message."""
    import logging

    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "boto3", "urllib3", "s3transfer", "django", "celery", "kombu"):
        caplog.set_level(logging.DEBUG, logger=name)
    secret = bucket.server.secret_access_key
    interface = make_interface(bucket.server, bucket.name)
    make_policy(interface)
    form = {
        "name": "archive",
        "provider": "other",
        "access_key_id": interface.access_key_id,
        "secret_access_key": secret,
        "region": interface.region,
        "bucket_name": bucket.name,
        "endpoint_url": interface.endpoint_url,
        "addressing_style": "auto",
        "ca_bundle": bucket.server.ca_bundle,
        "enabled": "on",
    }
    change = reverse("admin:delivery_s3_s3interface_change", args=[interface.pk])
    test = reverse("admin:delivery_s3_s3interface_test", args=[interface.pk])
    pages = [
        admin_client.post(test, form),
        admin_client.post(test, form | {"secret_access_key": SECRET_OF_ANOTHER_TRY}),
        admin_client.post(test, form | {"bucket_name": "no-such-bucket-here"}),
        admin_client.post(test, form | {"name": ""}),
        admin_client.post(change, form | {"name": ""}),
        admin_client.post(change, form | {"_save_and_test": "1"}, follow=True),
        admin_client.get(change),
        admin_client.get(reverse("admin:delivery_s3_s3interface_changelist")),
        admin_client.get(reverse("admin:delivery_s3_s3interface_history", args=[interface.pk])),
        admin_client.get(reverse("admin:delivery_s3_s3interface_delete", args=[interface.pk])),
    ]
    make_report()
    tasks.sweep.delay()
    messages = waiting_messages()
    assert len(messages) >= 2
    tasks.sweep.delay()
    log = start_celery("worker", LOG_LEVEL="DEBUG")
    start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
    wait_until(everything_is_delivered, log)

    out = io.StringIO()
    call_command("test_s3_interface", "archive", "--json", stdout=out)
    call_command("test_s3_interface", "archive", stdout=out)
    seen = {
        "pages": "\n".join(text_of(page) for page in pages),
        "database": whole_database().decode("utf-8", "replace"),
        "task messages": "\n".join(messages),
        "log": caplog.text,
        "worker's log": log.read_text(),
        "commands": out.getvalue(),
        "representations": repr([interface, vars(S3Interface.objects.get()), interface.connection()]),
    }
    for place, text in seen.items():
        assert len(text) > 100, place
        assert secret not in text, place
        assert SECRET_OF_ANOTHER_TRY not in text, place
    assert "DEBUG" in seen["worker's log"]
    assert interface.access_key_id in seen["pages"]
