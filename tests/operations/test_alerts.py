"""Alerts, through a real mail server and a real web hook: one message when an alert begins, and one when it ends."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from anaphora.deliveries import engine, heartbeat, signals
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import ArchivePolicy, Delivery, Heartbeat, Role, State
from anaphora.operations import alerts, channels, situation, tasks, watcher
from anaphora.operations.models import Alert, AlertChannel, Expectation, Installation, Verification
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report
from tests.support.processes import wait_for
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db


class Mailbox:
    """A mail server that stores the messages it receives."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.refuse = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuse:
            return "451 The disk is full, said by hunter2"
        self.messages.append(envelope.content.decode())
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        # Long headers are folded.
        return [str(message_from_string(each, policy=policy.default)["Subject"]) for each in self.messages]


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    kept, port = Mailbox(), free_port()
    controller = Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    yield kept
    controller.stop()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a web hook. Yields its Apprise URL and the list of received messages."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    server.server_close()


@pytest.fixture
def mail(mailbox: Mailbox) -> AlertChannel:
    return AlertChannel.objects.create(name="mail", kind="mail", recipients="ops@example.com")


@pytest.fixture(autouse=True)
def all_run() -> None:
    for role in Role:
        heartbeat.note(role)


def check(minutes: float = 0) -> None:
    alerts.check(timezone.now() + timedelta(minutes=minutes), force=True)


def titles() -> list[str]:
    return sorted(each.title for each in situation.problems(situation.gather(timezone.now())))


def broken(interface: S3Interface) -> None:
    S3Interface.objects.filter(pk=interface.pk).update(diagnosis="bucket_not_found", failures=1)


def repaired(interface: S3Interface) -> None:
    S3Interface.objects.filter(pk=interface.pk).update(diagnosis="", failures=0)


class TestProblems:
    def test_no_problems_if_everything_works(self, interface: S3Interface) -> None:
        assert titles() == []

    def test_an_interface_that_fails_and_one_whose_test_failed(self, interface: S3Interface) -> None:
        broken(interface)
        assert titles() == [f"Interface {interface}: Bucket not found"]
        repaired(interface)
        S3Interface.objects.update(bucket_name="there-is-none")
        assert S3Interface.objects.get().test() is False
        assert titles() == [f"Interface {interface}: the connection test failed: Bucket not found"]
        S3Interface.objects.update(enabled=False)
        assert titles() == []

    def test_deliveries_that_failed_or_wait_too_long(self, interface: S3Interface) -> None:
        make_policy(interface)
        Delivery.objects.filter(report=make_report()).update(state=State.FAILED)
        report = make_report()
        waiting = f"Reports have waited for {interface} for more than 60 minutes"
        assert waiting not in titles()
        Delivery.objects.filter(report=report).update(due_at=timezone.now() - timedelta(hours=2))
        assert titles() == [f"1 delivery to {interface} failed", waiting]

    def test_a_report_that_is_tried_again_and_again_waits_since_it_came_in(self, interface: S3Interface) -> None:
        make_policy(interface)
        report = make_report()
        Report.objects.update(ingested_at=timezone.now() - timedelta(hours=2))
        assert titles() == [], "as if a backfill had created the delivery"
        Delivery.objects.filter(report=report).update(attempts=3, due_at=timezone.now() + timedelta(minutes=30))
        assert titles() == [f"Reports have waited for {interface} for more than 60 minutes"]

    def test_processes_that_are_missing(self) -> None:
        Heartbeat.objects.filter(role=Role.WORKER).update(seen_at=timezone.now() - timedelta(minutes=5))
        (title,) = titles()
        assert title.startswith("No worker has been seen since")

    def test_a_scheduled_run_that_was_missed(self, interface: S3Interface) -> None:
        hourly = CrontabSchedule.objects.create(minute="0", hour="*")
        policy = make_policy(interface, schedule=hourly)
        assert titles() == []
        ArchivePolicy.objects.update(ran_at=timezone.now() - timedelta(hours=3))
        assert titles() == [f"Policy {policy} missed its scheduled run"]

    def test_a_dashboard_that_is_late(self) -> None:
        Expectation.objects.create(
            dashboard=make_report().dashboard, every_hours=1, since=timezone.now() - timedelta(days=1)
        )
        assert titles() == ["Dashboard sales is late"]

    def test_a_disk_that_is_nearly_full(self, settings: Any) -> None:
        settings.ALERT_DISK_MB = 10**9
        assert titles() == ["The local disk is nearly full"]

    def test_differences_are_a_problem_until_a_verification_finds_none(self, interface: S3Interface) -> None:
        signals.archive_verified.send_robust(None, interface_id=interface.pk, checked=10, different=2)
        assert titles() == [f"The verification of {interface} found 2 differences"]
        call_command("verify_archive", "--json")
        assert Verification.objects.get().different == 0
        assert titles() == []

    def test_manifests_that_are_overdue(self, interface: S3Interface) -> None:
        today = timezone.now().date()
        manifest = Manifest.objects.create(interface=interface, sequence=1, day=today - timedelta(days=2), key="a")
        Manifest.objects.update(written_at=timezone.now())
        assert titles() == []
        Manifest.objects.update(day=manifest.day - timedelta(days=2))
        assert titles() == [f"Daily manifests of {interface} are overdue"]
        S3Interface.objects.update(write_manifests=False)
        assert titles() == []

    def test_a_lock_that_the_store_ignores(self, interface: S3Interface) -> None:
        S3Interface.objects.update(protection={"grade": "versioned", "text": "It was replaced.", "advice": "Lock it."})
        assert titles() == [], "no lock is configured"
        S3Interface.objects.update(object_lock_mode="COMPLIANCE", retention_days=30)
        assert titles() == [f"Objects of {interface} are not locked as configured"]

    def test_a_dashboard_that_is_late_is_in_the_next_manifest_once(self, interface: S3Interface) -> None:
        make_policy(interface)
        S3Interface.objects.create(name="another", bucket_name="b")
        Expectation.objects.create(
            dashboard=make_report().dashboard, every_hours=1, since=timezone.now() - timedelta(days=1)
        )
        check()
        check()
        row = Irregularity.objects.get(kind="dashboard late")
        assert (row.interface.name, row.facts["dashboard"]) == (interface.name, "sales")

    def test_runs_the_same_number_of_queries_for_many_rows(
        self, interface: S3Interface, django_assert_num_queries: Any
    ) -> None:
        make_policy(interface, schedule=CrontabSchedule.objects.create())
        for number in range(4):
            broken(S3Interface.objects.create(name=f"another {number}", bucket_name="b"))
            dashboard = make_report(dashboard=f"d{number}").dashboard
            Expectation.objects.create(dashboard=dashboard, every_hours=1)
        with django_assert_num_queries(9):
            situation.problems(situation.gather(timezone.now()))


class TestMessages:
    def test_an_interface_that_fails_and_recovers_causes_two_messages(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox
    ) -> None:
        check()
        broken(interface)
        for _ in range(3):
            check()
        repaired(interface)
        for _ in range(3):
            check()
        title = f"Interface {interface}: Bucket not found"
        assert mailbox.subjects == [f"Anaphora archive: {title}", f"Anaphora archive: Over: {title}"]

    def test_a_late_dashboard_causes_two_calls_of_the_web_hook(self, hook: tuple[str, list[dict[str, Any]]]) -> None:
        AlertChannel.objects.create(name="hook", kind="apprise", url=hook[0])
        Expectation.objects.create(
            dashboard=make_report().dashboard, every_hours=1, since=timezone.now() - timedelta(days=1)
        )
        check()
        check()
        make_report(rendered_at=timezone.now())
        check()
        check()
        assert [each["title"] for each in hook[1]] == [
            "Anaphora archive: Dashboard sales is late",
            "Anaphora archive: Over: Dashboard sales is late",
        ]

    def test_alerts_that_begin_together_are_one_message(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox
    ) -> None:
        broken(interface)
        Heartbeat.objects.all().delete()
        check()
        assert len(mailbox.messages) == 1
        assert "(and 2 more)" in mailbox.subjects[0]

    def test_a_lasting_alert_is_repeated(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox, settings: Any
    ) -> None:
        settings.ALERT_REPEAT_HOURS = 2
        broken(interface)
        problem = situation.problems(situation.gather(timezone.now()))
        for minutes in (0, 60, 119, 121, 180):
            now = timezone.now() + timedelta(minutes=minutes)
            alerts.record(problem, now)
            alerts.notify(mail, now)
        assert ["Still" in each for each in mailbox.subjects] == [False, True]
        settings.ALERT_REPEAT_HOURS = 0
        alerts.notify(mail, timezone.now() + timedelta(days=300))
        assert len(mailbox.messages) == 2

    def test_a_failing_channel_is_shown_and_notified_later(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox, admin_client: Client
    ) -> None:
        mailbox.refuse = True
        broken(interface)
        check()
        repaired(interface)
        check()
        mail.refresh_from_db()
        assert "did not accept the message" in mail.error
        assert "Alert channel mail fails" in admin_client.get(reverse("admin:index")).text
        mailbox.refuse = False
        check()
        check()
        assert len(mailbox.messages) == 1
        assert "over since" in mailbox.messages[0], "it began and ended meanwhile, and both are in the message"
        mail.refresh_from_db()
        assert mail.error == ""

    @pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "0.0.0.0"])
    def test_a_service_at_a_metadata_address_is_refused(self, host: str) -> None:
        channel = AlertChannel.objects.create(name="hook", kind="apprise", url=f"json://{host}/secret-part")
        assert not channels.send_test(channel)
        assert "are forbidden: it is" in channel.error
        assert "secret-part" not in channel.error

    @pytest.mark.parametrize("scheme", ["mailto", "mailtos"])
    def test_a_mail_server_named_beside_the_host_is_checked_too(self, scheme: str) -> None:
        url = f"{scheme}://user:secret-part@example.com?smtp=169.254.169.254"
        channel = AlertChannel.objects.create(name="hook", kind="apprise", url=url)
        assert not channels.send_test(channel)
        assert "are forbidden: it is" in channel.error
        assert "secret-part" not in channel.error

    @pytest.mark.parametrize("part", ["template={}", "template=http://127.0.0.1:9/"])
    def test_a_service_that_reads_a_file_is_refused(
        self, hook: tuple[str, list[dict[str, Any]]], part: str, tmp_path: Path
    ) -> None:
        (tmp_path / "private.json").write_text('{"type": "AdaptiveCard", "body": []}')
        host = hook[0].partition("//")[2].partition("/")[0]
        url = f"workflow://{host}/{'a' * 32}/{'b' * 32}?{part.format(tmp_path / 'private.json')}"
        channel = AlertChannel.objects.create(name="hook", kind="apprise", url=url)
        assert not channels.send_test(channel)
        assert "contains a file" in channel.error
        assert hook[1] == []

    def test_private_addresses_are_refused_where_the_installation_forbids_them(
        self, hook: tuple[str, list[dict[str, Any]]], settings: Any
    ) -> None:
        channel = AlertChannel.objects.create(name="hook", kind="apprise", url=hook[0])
        assert channels.send_test(channel)
        settings.ALLOW_PRIVATE_ENDPOINTS = False
        assert not channels.send_test(channel)
        assert "loopback" in channel.error
        assert len(hook[1]) == 1

    @pytest.mark.parametrize("query", ["", "?redirect=yes"])
    def test_a_redirect_is_not_followed(self, hook: tuple[str, list[dict[str, Any]]], query: str) -> None:
        class Redirect(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(307)
                self.send_header("Location", hook[0].replace("json://", "http://"))
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            url = f"json://127.0.0.1:{server.server_port}/{query}"
            assert not channels.send_test(AlertChannel.objects.create(name="hook", kind="apprise", url=url))
            server.shutdown()
        assert hook[1] == []

    def test_a_failing_channel_does_not_delay_others(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox
    ) -> None:
        AlertChannel.objects.create(name="a hook", kind="apprise", url="json://127.0.0.1:1/secret-part")
        broken(interface)
        check()
        assert len(mailbox.messages) == 1
        failing = AlertChannel.objects.get(name="a hook")
        assert failing.error
        assert "secret-part" not in failing.error

    def test_a_new_channel_is_notified_only_of_open_alerts(self, interface: S3Interface, mailbox: Mailbox) -> None:
        broken(interface)
        check()
        repaired(interface)
        check()
        AlertChannel.objects.create(name="mail", kind="mail", recipients="ops@example.com")
        check()
        assert mailbox.messages == []

    def test_two_processes_notify_a_channel_once(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox
    ) -> None:
        broken(interface)
        now = timezone.now()
        alerts.record(situation.problems(situation.gather(now)), now)
        AlertChannel.objects.update(claimed_until=now + timedelta(minutes=1))
        assert not alerts.notify(mail, now), "another process is sending"
        assert alerts.check(now)
        assert not alerts.check(now), "there was a check a moment ago"

    def test_a_message_names_the_page_and_no_secret(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox, settings: Any
    ) -> None:
        settings.SITE_URL = "https://archive.example.com"
        broken(interface)
        check()
        text = mailbox.messages[0].replace("=\n", "")
        assert f"https://archive.example.com{interface.admin_url}" in text
        assert interface.secret_access_key.reveal() not in text


class TestChannelPage:
    def test_saves_a_channel_and_sends_a_test_alert_the_same_way(
        self, admin_client: Client, hook: tuple[str, list[dict[str, Any]]]
    ) -> None:
        form = {"name": "Chat", "kind": "apprise", "url": hook[0], "enabled": "on"}
        admin_client.post(reverse("admin:operations_alertchannel_add"), form)
        channel = AlertChannel.objects.get()
        page = reverse("admin:operations_alertchannel_change", args=[channel.pk])
        text = admin_client.get(page).text
        assert "Send a test alert" in text
        assert hook[0] not in text
        answer = admin_client.post(reverse("admin:operations_alertchannel_test", args=[channel.pk]), follow=True)
        assert "The test alert was sent" in answer.text
        assert hook[1][0]["title"] == "Anaphora archive: test alert"
        admin_client.post(page, form | {"url": "", "name": "Chat room"})
        channel.refresh_from_db()
        assert (channel.name, channel.url.reveal()) == ("Chat room", hook[0])

    @pytest.mark.parametrize(
        ("form", "problem"),
        [
            ({"kind": "mail", "recipients": ""}, "Enter at least one mail address."),
            ({"kind": "mail", "recipients": "not an address"}, "Enter mail addresses, separated by commas."),
            ({"kind": "apprise"}, "Apprise URL."),
        ],
    )
    def test_shows_missing_values_at_their_fields(
        self, admin_client: Client, form: dict[str, str], problem: str
    ) -> None:
        answer = admin_client.post(reverse("admin:operations_alertchannel_add"), {"name": "a", **form})
        assert problem in answer.text
        assert not AlertChannel.objects.exists()

    def test_says_why_a_test_alert_was_not_sent(self, admin_client: Client) -> None:
        channel = AlertChannel.objects.create(name="a", kind="apprise", url="nothing://known")
        answer = admin_client.post(reverse("admin:operations_alertchannel_test", args=[channel.pk]), follow=True)
        assert "Apprise does not support this kind of service URL." in answer.text

    def test_keys_are_rotated_for_channels_too(self, settings: Any) -> None:
        AlertChannel.objects.create(name="a", kind="apprise", url="json://somewhere")
        call_command("rotate_fernet_keys")
        assert AlertChannel.objects.get().url.reveal() == "json://somewhere"


class TestWatcher:
    def test_a_web_process_checks_if_no_other_did_lately(self, mail: AlertChannel, monkeypatch: Any) -> None:
        looked: list[int] = []
        monkeypatch.setattr(watcher, "_check_in_background", lambda: looked.append(1))
        watcher.check_if_stale()
        assert len(looked) == 1
        Installation.get()
        Installation.objects.update(alerts_checked_at=timezone.now())
        watcher.check_if_stale()
        assert len(looked) == 1
        Installation.objects.update(alerts_checked_at=timezone.now() - timedelta(minutes=4))
        watcher.check_if_stale()
        assert len(looked) == 2
        AlertChannel.objects.update(enabled=False)
        watcher.check_if_stale()
        assert len(looked) == 2, "there is no channel"

    def test_a_timer_can_check_by_the_command(
        self, interface: S3Interface, mail: AlertChannel, mailbox: Mailbox, capsys: Any
    ) -> None:
        broken(interface)
        call_command("check_alerts")
        assert "Bucket not found" in capsys.readouterr().out
        assert len(mailbox.messages) == 1
        mailbox.refuse = True
        repaired(interface)
        with pytest.raises(CommandError, match="Channel mail"):
            call_command("check_alerts")

    @pytest.mark.heavy
    @pytest.mark.django_db(transaction=True)
    def test_beat_sends_an_alert_that_no_worker_runs(
        self,
        start_celery: Callable[..., Path],
        celery_processes: list[subprocess.Popen[bytes]],
        mailbox: Mailbox,
        hook: tuple[str, list[dict[str, Any]]],
        settings: Any,
        admin_client: Client,
    ) -> None:
        AlertChannel.objects.create(name="mail", kind="mail", recipients="ops@example.com")
        AlertChannel.objects.create(name="hook", kind="apprise", url=hook[0])
        server = {"EMAIL_URL": f"smtp://127.0.0.1:{settings.EMAIL_PORT}"}
        Heartbeat.objects.all().delete()
        start_celery("worker", **server)
        start_celery("beat", **server)
        wait_for(lambda: not heartbeat.missing(), 60)
        stopped = time.monotonic()
        os.killpg(celery_processes[0].pid, signal.SIGKILL)
        wait_for(lambda: "No worker has been seen since" in admin_client.get(reverse("admin:index")).text, 120)
        assert time.monotonic() - stopped < 120
        wait_for(lambda: bool(mailbox.messages and hook[1]), 90)
        time.sleep(45)
        (subject,) = mailbox.subjects
        assert "No worker has been seen since" in subject
        (posted,) = hook[1]
        assert posted["title"] == subject


class TestScheduledTests:
    def test_are_repeated_when_the_last_one_is_old(self, interface: S3Interface) -> None:
        tasks.retest()
        first = S3Interface.objects.get().tested_at
        assert first is not None
        tasks.retest()
        assert S3Interface.objects.get().tested_at == first
        S3Interface.objects.update(tested_at=timezone.now() - timedelta(hours=25))
        tasks.retest()
        again = S3Interface.objects.get().passed_at
        assert again is not None
        assert again >= first

    def test_remove_the_test_file_if_that_is_permitted(self, interface: S3Interface, bucket: Any) -> None:
        tasks.retest()
        keys = bucket.keys()
        assert [key for key in keys if "connection.test" in key] == []

    def test_can_be_switched_off_and_leave_disabled_interfaces_alone(
        self, interface: S3Interface, settings: Any
    ) -> None:
        S3Interface.objects.update(enabled=False)
        tasks.retest()
        S3Interface.objects.update(enabled=True)
        settings.RETEST_HOURS = 0
        tasks.retest()
        assert S3Interface.objects.get().tested_at is None

    def test_one_that_passes_ends_the_pause(self, interface: S3Interface) -> None:
        broken(interface)
        tasks.retest()
        assert titles() == []
        assert not Alert.objects.exists()

    def test_after_a_report_is_archived_there_are_no_alerts(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        assert engine.deliver_due(interface.pk).complete
        assert titles() == []
