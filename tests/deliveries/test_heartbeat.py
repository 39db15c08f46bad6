"""Heartbeats, and what pages show if no worker or no beat runs."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from anaphora.deliveries import heartbeat
from anaphora.deliveries.models import Delivery, Heartbeat, Role, State
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT, wait_for, worker_environment
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db


def all_run() -> None:
    for role in Role:
        heartbeat.note(role)


class TestMissing:
    def test_a_role_that_was_never_seen_is_missing(self) -> None:
        assert [str(each) for each in heartbeat.missing()] == [
            "No worker has been seen yet",
            "No beat has been seen yet",
        ]

    def test_a_role_seen_a_moment_ago_runs(self) -> None:
        all_run()
        all_run()
        assert heartbeat.missing() == []
        assert Heartbeat.objects.count() == len(Role)

    def test_a_role_without_heartbeats_is_missing_since_the_last_one(self) -> None:
        all_run()
        then = timezone.now() - timedelta(hours=2)
        Heartbeat.objects.filter(role=Role.WORKER).update(seen_at=then)
        (missing,) = heartbeat.missing()
        assert (missing.role, missing.since) == (Role.WORKER, then)
        assert str(missing) == f"No worker has been seen since {then:%d %b %Y %H:%M} UTC"

    def test_the_newest_of_several_machines_counts(self) -> None:
        all_run()
        Heartbeat.objects.create(role=Role.WORKER, host="other", seen_at=timezone.now() - timedelta(days=1))
        assert heartbeat.missing() == []

    def test_a_clock_that_was_ahead_hides_nothing(self) -> None:
        all_run()
        Heartbeat.objects.update(seen_at=timezone.now() + timedelta(days=400))
        assert [missing.since for missing in heartbeat.missing()] == [None, None]

    def test_a_missing_web_server_is_not_reported(self) -> None:
        heartbeat.note(Role.WORKER)
        heartbeat.note(Role.BEAT)
        assert heartbeat.missing() == []

    def test_machines_that_are_gone_are_forgotten(self) -> None:
        all_run()
        Heartbeat.objects.create(role=Role.WORKER, host="gone", seen_at=timezone.now() - timedelta(days=31))
        heartbeat.delete_old(timezone.now())
        assert not Heartbeat.objects.filter(host="gone").exists()
        assert heartbeat.missing() == []


@pytest.mark.django_db(transaction=True)
def test_workers_and_beat_are_seen(start_celery: Callable[..., Path]) -> None:
    start_celery("worker")
    start_celery("beat")
    end = time.monotonic() + 60
    while heartbeat.missing():
        assert time.monotonic() < end, [str(each) for each in heartbeat.missing()]
        time.sleep(0.1)


@pytest.mark.django_db(transaction=True)
def test_a_web_server_is_seen_from_its_first_request_on() -> None:
    url = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", "anaphora.wsgi", "--preload", "--bind", url]
    process = subprocess.Popen(command, cwd=ROOT, env=worker_environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(f"http://{url}/healthz/live"), 60)
        wait_for(Heartbeat.objects.filter(role=Role.WEB).exists, 20)
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class TestPages:
    PAGES = (
        "admin:index",
        "admin:delivery_s3_s3interface_changelist",
        "admin:deliveries_delivery_changelist",
        "admin:reports_report_upload",
    )

    @pytest.mark.parametrize("name", PAGES)
    def test_say_that_no_worker_runs(self, admin_client: Client, name: str) -> None:
        assert "No worker has been seen yet" in admin_client.get(reverse(name)).text
        all_run()
        assert "has been seen" not in admin_client.get(reverse(name)).text

    def test_say_so_to_whoever_may_see_what_waits(self, client: Client) -> None:
        viewer = User.objects.create_user("viewer", is_staff=True)
        client.force_login(viewer)
        assert "has been seen" not in client.get(reverse("admin:index")).text
        viewer.user_permissions.add(Permission.objects.get(codename="add_report"))
        assert "No worker has been seen yet" in client.get(reverse("admin:index")).text

    def test_the_response_to_an_upload_reports_it(self, admin_client: Client) -> None:
        def answer() -> str:
            file = SimpleUploadedFile("a.pdf", b"%PDF-1.7")
            form = {"file": file, "dashboard": "sales", "rendered_at": "2026-03-01T12:00:00"}
            notice: str = admin_client.post(reverse("admin:reports_report_upload"), form).json()["notice"]
            return notice

        assert answer() == "No worker has been seen yet. Reports wait until one runs."
        all_run()
        assert answer() == ""


class TestDeliveryPage:
    @pytest.fixture
    def waiting(self, interface: S3Interface) -> Delivery:
        make_policy(interface)
        return Delivery.objects.get(report=make_report())

    def explanation(self, client: Client, delivery: Delivery) -> str:
        return client.get(reverse("admin:deliveries_delivery_change", args=[delivery.pk])).text

    def test_names_the_worker_that_is_missing(self, admin_client: Client, waiting: Delivery) -> None:
        page = self.explanation(admin_client, waiting)
        assert "<strong>No worker runs</strong>" in page
        assert "No worker has been seen yet." in page

    def test_names_what_the_interface_waits_for(self, admin_client: Client, waiting: Delivery) -> None:
        all_run()
        then = timezone.now() + timedelta(minutes=7)
        S3Interface.objects.update(diagnosis="bucket_not_found", detail="404 for another key", paused_until=then)
        page = self.explanation(admin_client, waiting)
        assert "<strong>Bucket not found</strong>" in page
        assert "another key" not in page
        assert f"The next automatic attempt is at {then:%-d %b %Y, %H:%M:%S} UTC." in page
        assert "Bucket not found" in admin_client.get(reverse("admin:deliveries_delivery_changelist")).text
        S3Interface.objects.update(enabled=False)
        assert "<strong>Interface disabled</strong>" in self.explanation(admin_client, waiting)

    def test_says_that_nothing_is_wrong(self, admin_client: Client, waiting: Delivery) -> None:
        all_run()
        assert "It is waiting for a worker." in self.explanation(admin_client, waiting)

    def test_has_nothing_in_the_way_once_delivered(self, admin_client: Client, waiting: Delivery) -> None:
        Delivery.objects.update(
            state=State.DELIVERED, object_key="sales/a.pdf", size=8, delivered_at=timezone.now(), integrity="sha256"
        )
        assert "What is in the way" not in self.explanation(admin_client, waiting)
