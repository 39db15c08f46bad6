import os
import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, OperationalError, transaction
from django.db import connection as database
from django.db.models import ProtectedError
from django.utils import timezone

from anaphora.deliveries import engine, outcomes, queue, sending, time_slice
from anaphora.deliveries.destinations import open_destinations
from anaphora.deliveries.engine import deliver_due
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.policies import create_for_new
from anaphora.deliveries.queue import interfaces_with_due_work
from anaphora.reports.models import Dashboard
from delivery_s3 import diagnoses
from delivery_s3.models import S3Interface
from delivery_s3.storage import S3Destination
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import NOON, make_interface, make_policy, make_report
from tests.support.servers import Fault, S3Server

pytestmark = pytest.mark.django_db


@pytest.fixture
def refused(bucket: Bucket) -> S3Interface:
    """An interface whose endpoint refuses connections."""
    return make_interface(bucket.server, bucket.name, endpoint_url=f"http://127.0.0.1:{servers.free_port()}")


class TestPlan:
    def test_a_policy_without_dashboards_covers_all(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        assert Delivery.objects.get().interface_id == interface.pk

    def test_a_policy_covers_its_dashboards(self, interface: S3Interface) -> None:
        make_policy(interface).dashboards.add(Dashboard.objects.create(slug="sales"))
        make_report(dashboard="stock")
        assert not Delivery.objects.exists()
        make_report(dashboard="sales")
        assert Delivery.objects.count() == 1

    def test_a_disabled_policy_covers_nothing(self, interface: S3Interface) -> None:
        make_policy(interface, enabled=False)
        make_report()
        assert not Delivery.objects.exists()

    def test_two_policies_to_one_interface_make_one_delivery(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_policy(interface)
        report = make_report()
        assert Delivery.objects.count() == 1
        assert create_for_new(report) == {interface.pk}
        assert Delivery.objects.count() == 1

    def test_two_interfaces_make_two_deliveries(self, interface: S3Interface, bucket: Bucket) -> None:
        make_policy(interface)
        make_policy(make_interface(bucket.server, bucket.name, key_prefix="second/"))
        make_report()
        assert Delivery.objects.count() == 2


class TestDeliver:
    def test_reports_are_stored_byte_for_byte_with_a_receipt(self, interface: S3Interface, bucket: Bucket) -> None:
        make_policy(interface)
        contents = [b"%PDF" + os.urandom(1000 * (n + 1)) for n in range(60)]
        reports = [make_report(content, rendered_at=NOON + timedelta(hours=n)) for n, content in enumerate(contents)]
        days = {f"{report.rendered_at:%Y/%m/%d}" for report in reports}
        for day in days:  # rclone answers 500 when two uploads make the same folder at the same time
            bucket.client.put_object(Bucket=bucket.name, Key=f"sales/{day}/there", Body=b"")
        drained = deliver_due(interface.pk)
        assert (drained.delivered, drained.complete) == (60, True)
        for report, content in zip(reports, contents, strict=True):
            delivery = Delivery.objects.get(report=report)
            assert bucket.read(delivery.object_key) == content
            assert delivery.state == State.DELIVERED
            assert delivery.object_key.startswith(f"sales/{report.rendered_at:%Y/%m/%d}/")
            assert (delivery.size, delivery.sha256, delivery.etag) == (report.size, report.sha256, report.md5)
            assert delivery.integrity in {"sha256", "etag"}
            assert delivery.delivered_at is not None
            assert (delivery.lease, delivery.leased_until, delivery.attempts) == (None, None, 0)
        assert len(bucket.keys()) == 60 + len(days)

    def test_the_prefix_comes_first(self, bucket: Bucket, interface: S3Interface) -> None:
        S3Interface.objects.update(key_prefix="reports/finance/")
        make_policy(interface)
        make_report()
        deliver_due(interface.pk)
        assert bucket.keys()[0].startswith("reports/finance/sales/2026/03/01/20260301T120000Z_")

    def test_without_due_deliveries_nothing_happens(self, interface: S3Interface) -> None:
        drained = deliver_due(interface.pk)
        assert (drained.delivered, drained.complete) == (0, True)

    def test_a_delivery_that_is_not_due_yet_waits(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        Delivery.objects.update(due_at=timezone.now() + timedelta(minutes=1))
        assert deliver_due(interface.pk).delivered == 0
        assert interfaces_with_due_work() == []

    def test_a_disabled_interface_keeps_its_deliveries_pending(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        S3Interface.objects.update(enabled=False)
        assert deliver_due(interface.pk).delivered == 0
        assert Delivery.objects.get().state == State.PENDING
        assert interfaces_with_due_work() == []

    def test_a_deleted_interface_is_not_an_error(self) -> None:
        assert deliver_due(4711).complete


class TestFailures:
    def test_a_lost_local_copy_fails_with_its_diagnosis_and_delays_no_other(self, interface: S3Interface) -> None:
        make_policy(interface)
        lost, kept = make_report(), make_report()
        lost.local_path.unlink()
        drained = deliver_due(interface.pk)
        assert (drained.delivered, drained.failed, drained.complete) == (1, 1, False)
        delivery = Delivery.objects.get(report=lost)
        assert (delivery.state, delivery.diagnosis, delivery.attempts) == (State.FAILED, "local_copy_missing", 1)
        assert Delivery.objects.get(report=kept).state == State.DELIVERED

    @pytest.mark.parametrize("content", [b"what rotted ", b"shorter"])
    def test_a_local_copy_that_changed_is_never_archived(
        self, interface: S3Interface, bucket: Bucket, content: bytes
    ) -> None:
        make_policy(interface)
        make_report(b"what came in").local_path.write_bytes(content)
        deliver_due(interface.pk)
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.diagnosis) == (State.FAILED, "local_copy_changed")
        assert bucket.keys() == []

    def test_a_failed_delivery_can_be_retried_once_its_cause_is_gone(self, interface: S3Interface) -> None:
        make_policy(interface)
        report = make_report(b"content", filename="x.pdf")
        report.local_path.unlink()
        deliver_due(interface.pk)
        make_report(b"content", filename="x.pdf")
        assert queue.retry(list(Delivery.objects.all())) == 1
        assert deliver_due(interface.pk).delivered == 1
        assert queue.retry(list(Delivery.objects.all())) == 0

    def test_a_failing_interface_is_paused_and_counts_no_attempt(self, refused: S3Interface) -> None:
        make_policy(refused)
        for _ in range(60):
            make_report()
        drained = deliver_due(refused.pk)
        refused.refresh_from_db()
        assert drained.delivered == 0
        assert not drained.complete
        assert set(Delivery.objects.values_list("state", "attempts", "lease")) == {(State.PENDING, 0, None)}
        assert (refused.failures, refused.diagnosis) == (1, "connection_refused")
        assert refused.paused_until is not None
        assert refused.paused_until <= timezone.now() + timedelta(seconds=10)

    def test_a_paused_interface_is_skipped_until_it_is_resumed(self, refused: S3Interface) -> None:
        make_policy(refused)
        make_report()
        S3Interface.objects.update(paused_until=timezone.now() + timedelta(hours=1), failures=5, diagnosis="throttled")
        assert deliver_due(refused.pk).complete
        assert interfaces_with_due_work() == []
        queue.resume(refused.pk)
        assert interfaces_with_due_work() == [refused.pk]
        assert not deliver_due(refused.pk).complete

    def test_success_ends_the_count_of_failures(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        S3Interface.objects.update(paused_until=timezone.now(), failures=5, diagnosis="throttled", detail="x")
        deliver_due(interface.pk)
        interface.refresh_from_db()
        assert (interface.failures, interface.paused_until, interface.diagnosis) == (0, None, "")

    def test_a_temporary_failure_is_retried_later(self, s3: S3Server, bucket: Bucket) -> None:
        with servers.silent() as port:
            interface = make_interface(s3, bucket.name, endpoint_url=f"http://127.0.0.1:{port}")
            make_policy(interface)
            make_report()
            open_destinations.get(interface.pk, interface.configuration(), lambda: _hurried(interface))
            deliver_due(interface.pk)
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.diagnosis, delivery.attempts) == (State.PENDING, "read_timeout", 0)
        interface.refresh_from_db()
        assert interface.paused_until is not None
        assert interface.paused_until <= timezone.now() + timedelta(seconds=outcomes.PROBE_SECONDS)

    def test_a_failure_while_others_succeed_counts_for_the_report(self, bucket: Bucket) -> None:
        make_reset = servers.in_front_of(
            bucket.server, lambda method, path: Fault.RESET if "T090000Z" in path else Fault.NONE
        )
        with make_reset as endpoint:
            interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
            make_policy(interface)
            broken = make_report(rendered_at=NOON - timedelta(hours=3))
            for _ in range(5):
                make_report()
            assert deliver_due(interface.pk).delivered == 5
        delivery = Delivery.objects.get(report=broken)
        assert (delivery.state, delivery.diagnosis, delivery.attempts) == (State.PENDING, "connection_lost", 1)
        assert delivery.due_at > timezone.now() - timedelta(seconds=1)
        interface.refresh_from_db()
        assert interface.paused_until is None

    def test_an_outage_counts_for_no_report(self, bucket: Bucket) -> None:
        with servers.in_front_of(bucket.server, lambda method, path: Fault.ANSWER_500) as endpoint:
            interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
            make_policy(interface)
            for _ in range(20):
                make_report()
            deliver_due(interface.pk)
        assert set(Delivery.objects.values_list("state", "attempts")) == {(State.PENDING, 0)}
        interface.refresh_from_db()
        assert interface.diagnosis == "server_error"

    def test_an_unreadable_secret_pauses_the_interface_with_its_diagnosis(self, interface: S3Interface) -> None:
        from cryptography.fernet import Fernet
        from django.db import connection

        with connection.cursor() as cursor:
            foreign = Fernet(Fernet.generate_key()).encrypt(b"secret")
            cursor.execute("UPDATE delivery_s3_s3interface SET secret_access_key = %s", [foreign])
        make_policy(interface)
        make_report()
        drained = deliver_due(interface.pk)
        interface.refresh_from_db()
        assert not drained.complete
        assert interface.diagnosis == "secret_unreadable"
        assert Delivery.objects.get().state == State.PENDING

    def test_a_bug_counts_one_attempt_and_logs_its_traceback(
        self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_policy(interface)
        make_report()

        def buggy(*args: Any) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(S3Destination, "put", buggy)
        deliver_due(interface.pk)
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.diagnosis, delivery.attempts) == (State.PENDING, "internal", 1)
        assert "Traceback" in caplog.text


def _hurried(interface: S3Interface) -> S3Destination:
    """Return a destination with a short read timeout, to replace the cached one."""
    return S3Destination(interface.connection(read_timeout=0.3))


class TestLeases:
    def test_deliveries_of_a_dead_worker_are_claimed_again_after_the_lease(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        later = timezone.now() + timedelta(minutes=1)
        Delivery.objects.update(state=State.SENDING, lease=uuid.uuid4(), leased_until=later)
        assert deliver_due(interface.pk).delivered == 0
        assert interfaces_with_due_work() == []
        Delivery.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
        assert interfaces_with_due_work() == [interface.pk]
        assert deliver_due(interface.pk).delivered == 1

    def test_an_upload_that_succeeded_before_its_worker_died_is_not_stored_twice(
        self, moto: S3Server, versioned_bucket: Bucket
    ) -> None:
        bucket = versioned_bucket
        interface = make_interface(moto, bucket.name)
        make_policy(interface)
        make_report()
        deliver_due(interface.pk)
        stored = Delivery.objects.get()
        Delivery.objects.all()._raw_delete("default")  # as if the database had been restored to an earlier day
        create_for_new(stored.report)
        assert deliver_due(interface.pk).delivered == 1
        again = Delivery.objects.get()
        assert (again.object_key, again.version_id) == (stored.object_key, stored.version_id)
        assert len(bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]) == 1

    def test_an_outcome_that_comes_after_its_lease_was_lost_is_not_written(
        self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_policy(interface)
        make_report()
        put, other = S3Destination.put, uuid.uuid4()
        settle = outcomes.settle

        def lose_lease(*args: Any) -> Any:
            Delivery.objects.update(lease=other)
            return settle(*args)

        monkeypatch.setattr(outcomes, "settle", lose_lease)
        deliver_due(interface.pk)
        assert S3Destination.put is put
        assert (Delivery.objects.get().state, Delivery.objects.get().lease) == (State.SENDING, other)
        assert "their lease had run out" in caplog.text

    def test_a_lease_is_renewed_while_an_upload_runs(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        make_report()
        settings.DELIVERY_LEASE_SECONDS = 1
        ends: list[datetime | None] = []

        def slow(*args: Any) -> Any:
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                time.sleep(0.1)
            return DeliveryError(diagnoses.SERVER_ERROR)

        renew = engine._Run._renew

        def watched(run: engine._Run) -> None:
            renew(run)
            ends.extend(Delivery.objects.exclude(leased_until=None).values_list("leased_until", flat=True))

        monkeypatch.setattr(sending, "send", slow)
        monkeypatch.setattr(engine._Run, "_renew", watched)
        deliver_due(interface.pk)
        assert len(set(ends)) >= 3

    def test_no_row_is_claimed_twice(self, interface: S3Interface) -> None:
        make_policy(interface)
        for _ in range(engine.BATCH + 10):
            make_report()
        first, second, third = (queue.claim(interface.pk, uuid.uuid4(), engine.BATCH) for _ in range(3))
        assert (len(first), len(second), len(third)) == (engine.BATCH, 10, 0)
        assert not {each.pk for each in first} & {each.pk for each in second}


@pytest.mark.django_db(transaction=True)
class TestDatabase:
    """The database connection breaks during uploads."""

    @pytest.fixture(autouse=True)
    def quickly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "RECONNECT_SECONDS", 0.05)

    def test_uploads_are_recorded_when_the_database_is_back(
        self, interface: S3Interface, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        for _ in range(20):
            make_report()
        vanished = make_report()
        vanished.local_path.unlink()
        cut_while_writing(monkeypatch, times=2)
        drained = deliver_due(interface.pk)
        assert drained.unfinished
        assert (drained.delivered, drained.failed) == (20, 1)
        assert set(Delivery.objects.values_list("state", "attempts")) == {(State.DELIVERED, 0), (State.FAILED, 1)}
        assert len(bucket.keys()) == 20
        make_report()
        assert deliver_due(interface.pk).complete

    def test_the_wait_ends_with_the_lease(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        make_report()
        settings.DELIVERY_LEASE_SECONDS = 1
        cut_while_writing(monkeypatch, times=10_000)
        with pytest.raises(OperationalError):
            deliver_due(interface.pk)
        database.close()
        assert Delivery.objects.get().state == State.SENDING
        monkeypatch.undo()
        time.sleep(1)
        assert deliver_due(interface.pk).delivered == 1

    def test_without_uploads_in_progress_the_error_is_raised_immediately(
        self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        make_report()

        def broken(*args: object) -> None:
            raise OperationalError("the connection is closed")

        monkeypatch.setattr(queue, "claim", broken)
        with pytest.raises(OperationalError):
            deliver_due(interface.pk)


def cut_while_writing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Break the database connection this many times before outcomes are written. With SQLite, raise errors instead."""
    write, left = outcomes._write, iter(range(times))

    def cut_and_write(*args: Any) -> list[outcomes.Outcome]:
        if next(left, None) is not None:
            if database.vendor != "postgresql":
                raise OperationalError("database is locked")
            with database.cursor() as cursor, suppress(OperationalError):
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return write(*args)

    monkeypatch.setattr(outcomes, "_write", cut_and_write)


class TestTurns:
    def test_a_turn_ends_after_its_time_and_reports_that_more_may_be_due(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        drained = deliver_due(interface.pk, seconds=-1)
        assert (drained.delivered, drained.unfinished, drained.complete) == (0, True, False)
        assert Delivery.objects.get().state == State.PENDING
        assert not deliver_due(interface.pk, seconds=60).unfinished

    def test_at_the_end_of_a_turn_deliveries_not_started_are_given_back(self, bucket: Bucket) -> None:
        with servers.in_front_of(bucket.server, lambda method, path: Fault.DELAY) as endpoint:
            interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
            make_policy(interface)
            for _ in range(40):
                make_report()
            started = time.monotonic()
            drained = deliver_due(interface.pk, seconds=0.3)
        assert time.monotonic() - started < 15
        assert drained.unfinished
        assert 0 < drained.delivered < 40
        assert not Delivery.objects.filter(state=State.SENDING).exists()
        assert not Delivery.objects.exclude(attempts=0).exists()

    def test_an_upload_that_outlasts_its_turn_delays_no_others(
        self, bucket: Bucket, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.DELIVERY_CONCURRENCY = 2
        monkeypatch.setattr(time_slice, "OUTLASTING_SECONDS", 0.2)
        monkeypatch.setattr(engine, "SETTLE_SECONDS", 0.3)
        slow = "T110000Z"  # the large one's, in its key
        with servers.in_front_of(
            bucket.server, lambda method, path: Fault.STALL if slow in path else Fault.NONE
        ) as endpoint:
            interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
            make_policy(interface)
            large = make_report(rendered_at=NOON - timedelta(hours=1))
            for _ in range(5):
                make_report()
            # They become due while the large one is being uploaded, after the time of its run.
            Delivery.objects.exclude(report=large).update(due_at=timezone.now() + timedelta(seconds=1))
            drained = deliver_due(interface.pk, seconds=0.3)
        assert drained.delivered == 6
        assert drained.unfinished
        in_order = Delivery.objects.order_by("delivered_at").values_list("report", flat=True)
        assert list(in_order)[-1] == large.pk

    def test_a_backlog_wakes_another_worker_once(self, interface: S3Interface) -> None:
        make_policy(interface)
        calls: list[int] = []
        for _ in range(engine.BATCH):
            make_report()
        deliver_due(interface.pk, on_backlog=lambda: calls.append(1))
        make_report()
        deliver_due(interface.pk, on_backlog=lambda: calls.append(2))
        assert calls == [1]

    def test_many_reports_need_only_one_message_until_it_is_received(self, interface: S3Interface) -> None:
        assert [queue.record_wakeup_sent(interface.pk) for _ in range(3)] == [True, False, False]
        queue.record_wakeup_received(interface.pk)
        assert queue.record_wakeup_sent(interface.pk)
        S3Interface.objects.update(wakeup_sent_at=timezone.now() - timedelta(hours=1))
        assert queue.record_wakeup_sent(interface.pk), "a lost message does not block new ones"

    def test_a_process_that_must_end_claims_nothing_new(
        self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        make_report()
        monkeypatch.setattr(time_slice, "_stopping", threading.Event())
        engine.stop()
        assert deliver_due(interface.pk).unfinished
        assert Delivery.objects.get().state == State.PENDING

    def test_a_large_report_does_not_delay_the_small_ones_behind_it(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        large = make_report(b"large" * 1000, rendered_at=NOON - timedelta(days=1))
        for _ in range(engine.BATCH * 2):
            make_report()
        settings.DELIVERY_CONCURRENCY = 2
        send, released = sending.send, threading.Event()

        def send_slowly(job: sending.Job, halt: threading.Event) -> Any:
            if job.delivery.report_id == large.pk:
                assert released.wait(30), "the small ones waited for the large one"
            return send(job, halt)

        settle = outcomes.settle

        def count(*args: Any) -> Any:
            failure = settle(*args)
            if Delivery.objects.filter(state=State.DELIVERED).count() == engine.BATCH * 2:
                released.set()
            return failure

        monkeypatch.setattr(sending, "send", send_slowly)
        monkeypatch.setattr(outcomes, "settle", count)
        assert deliver_due(interface.pk).delivered == engine.BATCH * 2 + 1

    def test_retry_after_is_respected(self, s3: S3Server, bucket: Bucket) -> None:
        busy = b"HTTP/1.1 503 Slow Down\r\nRetry-After: 120\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        with servers.answering(busy) as (port, seen):
            interface = make_interface(s3, bucket.name, endpoint_url=f"http://127.0.0.1:{port}")
            make_policy(interface)
            for _ in range(30):
                make_report()
            deliver_due(interface.pk)
        interface.refresh_from_db()
        assert interface.diagnosis == "throttled"
        assert interface.paused_until is not None
        assert 110 < (interface.paused_until - timezone.now()).total_seconds() <= 120
        assert len(seen) <= django_settings.DELIVERY_CONCURRENCY
        assert set(Delivery.objects.values_list("state", "attempts")) == {(State.PENDING, 0)}

    def test_headers_that_a_store_refuses_are_remembered(self, bucket: Bucket) -> None:
        with servers.refusing_conditions(bucket.server) as endpoint:
            interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
            make_policy(interface)
            make_report()
            assert deliver_due(interface.pk).complete
        interface.refresh_from_db()
        assert interface.capabilities["condition"] == "refused"
        assert not interface.connection().conditional_writes


class TestClients:
    def test_one_client_serves_an_interface_until_it_changes(self, interface: S3Interface) -> None:
        first = interface.destination()
        again = S3Interface.objects.get().destination()
        assert first is again
        S3Interface.objects.update(region="eu-central-1")
        changed = S3Interface.objects.get().destination()
        assert changed is not first

    def test_a_changed_prefix_takes_effect_at_once_with_the_same_client(
        self, interface: S3Interface, bucket: Bucket
    ) -> None:
        make_policy(interface)
        make_report()
        deliver_due(interface.pk)
        S3Interface.objects.update(key_prefix="new/")
        make_report()
        deliver_due(interface.pk)
        assert [key.split("/")[0] for key in sorted(bucket.keys())] == ["new", "sales"]


class TestConstraints:
    def test_a_delivered_row_without_a_receipt_cannot_exist(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        with pytest.raises(IntegrityError), transaction.atomic():
            Delivery.objects.update(state=State.DELIVERED)

    def test_a_row_in_sending_without_a_lease_cannot_exist(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        with pytest.raises(IntegrityError), transaction.atomic():
            Delivery.objects.update(state=State.SENDING)


class TestOperating:
    def test_only_undelivered_deliveries_can_be_cancelled(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        deliver_due(interface.pk)
        make_report()
        assert len(queue.cancel(list(Delivery.objects.all()))) == 1
        assert sorted(Delivery.objects.values_list("state", flat=True)) == [State.CANCELLED, State.DELIVERED]
        counts = queue.count_by_state([interface.pk])[interface.pk]
        assert (counts[State.PENDING], counts[State.FAILED]) == (0, 0)
        assert queue.oldest_pending([interface.pk]) == {}
        assert queue.interfaces_with_due_work() == []
        assert deliver_due(interface.pk).delivered == 0

    def test_a_receipt_and_its_report_and_interface_cannot_be_deleted(self, interface: S3Interface) -> None:
        make_policy(interface)
        report = make_report()
        deliver_due(interface.pk)
        for doomed in (Delivery.objects.get(), Delivery.objects.all(), report, interface):
            with pytest.raises(ProtectedError), transaction.atomic():
                doomed.delete()
        assert Delivery.objects.count() == 1

    def test_the_age_of_the_oldest_pending_delivery(self, interface: S3Interface) -> None:
        make_policy(interface)
        assert queue.oldest_pending([interface.pk]) == {}
        report = make_report()
        make_report()
        assert queue.oldest_pending([interface.pk]) == {interface.pk: Delivery.objects.get(report=report).due_at}


class TestClock:
    """The clock of the machine jumps by hours, ahead and back."""

    def test_after_the_clock_is_set_back_nothing_waits_for_the_old_time(self, interface: S3Interface) -> None:
        make_policy(interface)
        reports = [make_report() for _ in range(3)]
        later = timezone.now() + timedelta(hours=5)
        Delivery.objects.filter(report=reports[0]).update(due_at=later)
        Delivery.objects.filter(report=reports[1]).update(
            state=State.SENDING, lease=uuid.uuid4(), leased_until=later + timedelta(minutes=5)
        )
        S3Interface.objects.update(paused_until=later, wakeup_sent_at=later)
        assert interfaces_with_due_work() == []
        queue.reset_future_timestamps()
        assert interfaces_with_due_work() == [interface.pk]
        assert queue.record_wakeup_sent(interface.pk)
        assert deliver_due(interface.pk).delivered == 3

    def test_waits_of_a_correct_clock_do_not_change(self, interface: S3Interface, settings: Any) -> None:
        make_policy(interface)
        make_report()
        soon = timezone.now() + timedelta(seconds=settings.DELIVERY_RETRY_SECONDS)
        Delivery.objects.update(due_at=soon)
        S3Interface.objects.update(paused_until=soon)
        queue.reset_future_timestamps()
        assert Delivery.objects.get().due_at == soon
        interface.refresh_from_db()
        assert interface.paused_until == soon

    def test_after_the_clock_jumps_ahead_a_second_claim_causes_no_duplicate(
        self, interface: S3Interface, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_policy(interface)
        make_report(b"content")
        put, now = S3Destination.put, timezone.now

        def put_while_the_clock_steps(self: S3Destination, *args: Any) -> Any:
            monkeypatch.setattr(S3Destination, "put", put)
            receipt = put(self, *args)
            monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(hours=5))
            lease = uuid.uuid4()
            second.extend(queue.claim(interface.pk, lease, 1))
            return receipt

        second: list[queue.Claimed] = []
        monkeypatch.setattr(S3Destination, "put", put_while_the_clock_steps)
        monkeypatch.setattr(engine, "Pool", _Inline)
        deliver_due(interface.pk)
        assert len(second) == 1
        Delivery.objects.update(leased_until=now())
        deliver_due(interface.pk)
        assert Delivery.objects.get().state == State.DELIVERED
        assert len(bucket.keys()) == 1


class _Inline:
    """A pool that runs each job immediately, in the thread that submits it."""

    width = 1

    def __init__(self, *args: int) -> None:
        pass

    def __enter__(self) -> "_Inline":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def submit(self, jobs: Any) -> None:
        for job in jobs:
            job()

    def adapt(self) -> None:
        pass


def test_waits_double_up_to_a_bound() -> None:
    bounds = [max(outcomes._backoff(failures) for _ in range(300)).total_seconds() for failures in (1, 3, 30)]
    assert 5 < bounds[0] <= 10
    assert 25 < bounds[1] <= 40
    assert 2000 < bounds[2] <= django_settings.DELIVERY_RETRY_SECONDS
