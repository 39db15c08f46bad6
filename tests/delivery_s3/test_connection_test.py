import datetime
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anaphora.deliveries.errors import DIAGNOSES, DeliveryError
from anaphora.secret import Secret
from delivery_s3 import diagnoses, fast_put
from delivery_s3.connection import Connection
from delivery_s3.connection_test import runner, services
from delivery_s3.connection_test.runner import ConnectionTest, TestReport
from delivery_s3.connection_test.steps import STEPS, Outcome, Step
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_connection
from tests.support.servers import Fault, S3Server

REQUIRED = [title for title, _, optional in STEPS if not optional]


def run(connection: Connection | DeliveryError, prefix: str = "") -> TestReport:
    test = ConnectionTest(connection, prefix=prefix)
    list(test.steps())
    return test.report()


def step(report: TestReport, title: str) -> Step:
    return next(each for each in report.steps if each.title == title)


def failing(report: TestReport) -> tuple[str, str]:
    """Return the code and the field of the diagnosis."""
    assert not report.passed
    assert report.diagnosis is not None
    assert [each.outcome for each in report.steps].count(Outcome.FAILED) == 1
    return report.diagnosis.code, report.diagnosis.field


def test_a_test_puts_its_file_where_reports_go(bucket: Bucket, connection: Connection) -> None:
    report = run(connection, "reports/")
    assert report.passed
    assert [each.title for each in report.steps] == [title for title, _, _ in STEPS]
    assert step(report, "TLS").outcome is Outcome.SKIPPED
    assert {step(report, title).outcome for title in REQUIRED if title != "TLS"} == {Outcome.PASSED}
    assert bucket.keys() == [report.object_key]
    assert report.object_key.startswith("reports/connection.test/")
    assert b"Anaphora put this file here" in bucket.read(report.object_key)
    assert step(report, "Read back").outcome is Outcome.PASSED
    assert report.capabilities["integrity"] in {"sha256", "etag"}


def test_steps_after_a_failed_one_are_skipped(connection: Connection) -> None:
    report = run(make_connection_like(connection, bucket_name="no-such-bucket-here"))
    assert failing(report) == ("bucket_not_found", "bucket_name")
    outcomes = [each.outcome for each in report.steps]
    write = [title for title, _, _ in STEPS].index("Write")
    assert outcomes[write] is Outcome.FAILED
    assert set(outcomes[write + 1 :]) == {Outcome.SKIPPED}
    assert report.object_key == ""


@pytest.mark.parametrize("code", sorted(DIAGNOSES))
def test_no_test_promises_an_automatic_retry(code: str) -> None:
    failed = Step("Write", Outcome.FAILED, diagnosis=code)
    report = TestReport(tested_at=datetime.datetime.now(datetime.UTC), steps=[failed]).as_json()
    assert "retried automatically" not in report["diagnosis"]["remedy"]


def test_unusable_settings_fail_at_the_first_step() -> None:
    report = run(DeliveryError(diagnoses.SECRET_UNREADABLE))
    assert failing(report) == ("secret_unreadable", "secret_access_key")
    assert report.steps[0].outcome is Outcome.FAILED
    assert len(report.steps) == len(STEPS)


def make_connection_like(connection: Connection, **changes: Any) -> Connection:
    import dataclasses

    return dataclasses.replace(connection, **changes)


class TestCauses:
    """Real failures, with the code and the field of their diagnosis."""

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"secret_access_key": Secret("wrong")}, ("wrong_secret", "secret_access_key")),
            ({"endpoint_url": "http://no-such-host.invalid"}, ("host_not_found", "endpoint_url")),
            ({"endpoint_url": "http://169.254.169.254"}, ("endpoint_forbidden", "endpoint_url")),
            ({"endpoint_url": "http://0xA9FEA9FE"}, ("endpoint_forbidden", "endpoint_url")),
            ({"endpoint_url": "http://[::ffff:169.254.169.254]"}, ("endpoint_forbidden", "endpoint_url")),
            ({"allow_private": False}, ("endpoint_forbidden", "endpoint_url")),
            ({"ca_bundle": "no PEM"}, ("ca_bundle_invalid", "ca_bundle")),
            ({"bucket_name": "no/name"}, ("settings_invalid", "endpoint_url")),
        ],
    )
    def test_what_is_wrong_in_the_form(
        self, connection: Connection, changes: dict[str, Any], expected: tuple[str, str]
    ) -> None:
        assert failing(run(make_connection_like(connection, **changes))) == expected

    def test_a_closed_port(self, connection: Connection) -> None:
        closed = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{servers.free_port()}")
        report = run(closed)
        assert failing(report) == ("connection_refused", "endpoint_url")
        assert step(report, "Connection").outcome is Outcome.FAILED

    def test_a_port_that_never_answers(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("delivery_s3.connection_test.steps.CONNECT_TIMEOUT", 0.4)
        with servers.full_backlog() as port:
            deaf = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            assert failing(run(deaf)) == ("connection_timeout", "endpoint_url")

    def test_a_server_that_stays_silent(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("delivery_s3.connection_test.runner.READ_TIMEOUT", 0.4)
        monkeypatch.setattr("delivery_s3.connection_test.steps.CONNECT_TIMEOUT", 0.4)
        with servers.silent() as port:
            mute = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            assert failing(run(mute)) == ("read_timeout", "endpoint_url")

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "not_s3"),
            (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "throttled"),
            (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "server_error"),
            (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "throttled"),
            (b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n", "quota_exceeded"),
            (b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n", "too_large"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>", "not_s3"),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\n<html></html>", "not_s3"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", "redirected"),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "connection_lost"),
            (b"\x00\x01garbage", "connection_lost"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", "not_s3"),
            (b"", "connection_lost"),
        ],
        ids=str,
    )
    def test_what_answers_is_no_s3_or_fails(self, connection: Connection, answer: bytes, expected: str) -> None:
        with servers.answering(answer) as (port, _):
            odd = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            assert failing(run(odd))[0] == expected

    def test_an_s3_error_that_names_the_bucket_s_region_offers_to_set_it(self, connection: Connection) -> None:
        body = b"<Error><Code>PermanentRedirect</Code><Message>Use the right endpoint.</Message></Error>"
        head = b"HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\nContent-Type: application/xml\r\n"
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with servers.answering(answer) as (port, requests):
            elsewhere = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            report = run(elsewhere)
        assert failing(report) == ("wrong_region", "region")
        fix = step(report, "Write").fix
        assert fix is not None
        assert (fix.field, fix.value) == ("region", "eu-west-1")
        assert [line.split()[0] for line in requests] == [b"PUT"], "redirects are not followed"

    def test_a_store_that_refuses_the_condition_is_written_to_without(
        self, connection: Connection, bucket: Bucket
    ) -> None:
        with servers.refusing_conditions(bucket.server) as endpoint:
            report = run(make_connection_like(connection, endpoint_url=endpoint))
        assert report.passed
        assert report.capabilities["condition"] == "refused"
        assert step(report, "Condition").outcome is Outcome.ADVICE

    def test_a_store_that_takes_no_sha256_header(self, connection: Connection, bucket: Bucket) -> None:
        with servers.in_front_of(bucket.server, lambda method, path: Fault.REFUSE_CHECKSUM) as endpoint:
            report = run(make_connection_like(connection, endpoint_url=endpoint))
        assert report.passed
        assert report.capabilities["sha256"] == "refused"
        assert "condition" in report.capabilities

    def test_a_wrong_clock(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        shifted = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
        monkeypatch.setattr(fast_put, "_amz_date", lambda: shifted.strftime("%Y%m%dT%H%M%SZ"))
        assert failing(run(connection))[0] in {"clock_skew", "access_denied"}

    def test_steps_that_a_proxy_performs_are_skipped(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with servers.answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as (port, seen):
            monkeypatch.setenv("http_proxy", f"http://user:proxy-password@127.0.0.1:{port}")
            report = run(make_connection_like(connection, endpoint_url="http://s3.example.test"))
        assert failing(report)[0] == "server_error"
        for title in ("Name resolution", "Connection"):
            assert step(report, title).outcome is Outcome.SKIPPED
            assert "HTTP_PROXY" in step(report, title).text
        assert seen[0].startswith(b"PUT http://s3.example.test/")
        assert "proxy-password" not in str(report.as_json())


class TestTls:
    def test_a_self_signed_certificate_is_shown_and_can_be_trusted(self, tmp_path: Path) -> None:
        certificate, key = servers.make_certificate(tmp_path)
        (tmp_path / "store" / "bucket").mkdir(parents=True)
        with servers.rclone(tmp_path / "store", certificate=certificate, key=key) as server:
            connection = make_connection(server, "bucket")
            report = run(connection)
            assert failing(report) == ("certificate_self_signed", "ca_bundle")
            tls = step(report, "TLS")
            assert "CN=127.0.0.1" in tls.detail
            assert "SHA-256" in tls.detail
            assert tls.fix is not None
            assert tls.fix.field == "ca_bundle"
            assert tls.fix.value.strip() == certificate.read_text().strip()
            trusting = run(make_connection_like(connection, ca_bundle=tls.fix.value))
        assert trusting.passed
        assert step(trusting, "TLS").text.startswith("TLSv1.3; certificate of CN=127.0.0.1")

    def test_an_unknown_issuer_s_certificate_can_be_trusted_though_the_root_is_not_shown(self, tmp_path: Path) -> None:
        chain, key = servers.make_chain(tmp_path)
        (tmp_path / "store" / "bucket").mkdir(parents=True)
        with servers.rclone(tmp_path / "store", certificate=chain, key=key) as server:
            connection = make_connection(server, "bucket")
            report = run(connection)
            assert failing(report) == ("certificate_unknown_issuer", "ca_bundle")
            tls = step(report, "TLS")
            assert tls.detail.count("SHA-256") == 2
            assert tls.fix is not None
            assert "Intermediate" in tls.fix.label
            assert run(make_connection_like(connection, ca_bundle=tls.fix.value)).passed

    @pytest.mark.parametrize(
        ("made", "code"),
        [
            ({"valid_from_days": -40, "valid_for_days": 30}, "certificate_expired"),
            ({"valid_from_days": 5}, "certificate_not_yet_valid"),
            ({"host": "s3.example.org"}, "certificate_wrong_host"),
        ],
    )
    def test_trust_is_not_offered_if_it_does_not_help(self, tmp_path: Path, made: dict[str, Any], code: str) -> None:
        certificate, key = servers.make_certificate(tmp_path, **made)
        with servers.rclone(tmp_path, certificate=certificate, key=key) as server:
            report = run(make_connection(server, "any-bucket", ca_bundle=certificate.read_text()))
        assert failing(report) == (code, "endpoint_url")
        assert step(report, "TLS").fix is None

    def test_https_to_an_http_port_offers_http(self, bucket: Bucket, connection: Connection) -> None:
        secure = make_connection_like(connection, endpoint_url=connection.endpoint_url.replace("http:", "https:"))
        report = run(secure)
        assert failing(report) == ("http_expected", "endpoint_url")
        fix = step(report, "TLS").fix
        assert fix is not None
        assert fix.value == connection.endpoint_url

    def test_http_to_an_https_port_offers_https(self, tmp_path: Path) -> None:
        certificate, key = servers.make_certificate(tmp_path)
        with servers.rclone(tmp_path, certificate=certificate, key=key) as server:
            plain = server.endpoint.replace("https:", "http:")
            report = run(make_connection(server, "any-bucket", endpoint_url=plain))
        assert failing(report) == ("https_expected", "endpoint_url")
        fix = step(report, "Write").fix
        assert fix is not None
        assert fix.value == server.endpoint


class TestBounds:
    def test_no_test_lasts_longer_than_its_deadline_whatever_the_network_does(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert runner.DEADLINE == 20
        monkeypatch.setattr(runner, "DEADLINE", 1)
        with servers.trickling() as port:
            slow = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            started = time.monotonic()
            report = run(slow)
            assert time.monotonic() - started < 6
        assert failing(report) == ("test_too_slow", "endpoint_url")
        assert len(report.steps) == len(STEPS)

    def test_a_cancelled_test_stops_at_its_next_step(self, connection: Connection, bucket: Bucket) -> None:
        before = set(threading.enumerate())
        steps = ConnectionTest(connection, prefix="").steps()
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        end = time.monotonic() + 5
        while set(threading.enumerate()) - before:
            assert time.monotonic() < end
            time.sleep(0.02)

    def test_each_step_is_yielded_when_it_ends(self, connection: Connection) -> None:
        with servers.silent() as port:
            mute = make_connection_like(connection, endpoint_url=f"http://127.0.0.1:{port}")
            started = time.monotonic()
            steps = ConnectionTest(mute, prefix="").steps()
            assert [next(steps).title for _ in range(3)] == ["Settings", "Name resolution", "Connection"]
            assert time.monotonic() - started < 6
            steps.close()  # type: ignore[attr-defined]


@pytest.mark.django_db
class TestSaved:
    def test_a_test_of_unsaved_values_saves_nothing(self, interface: S3Interface) -> None:
        interface.region = "eu-west-9"
        list(services.start_test(interface).steps())
        interface.refresh_from_db()
        assert (interface.tested_at, interface.region == "eu-west-9") == (None, False)

    def test_a_saved_test_records_the_capabilities_and_ends_a_pause(self, interface: S3Interface) -> None:
        S3Interface.objects.update(failures=3, diagnosis="access_denied")
        report = services.test_and_record(interface)
        interface.refresh_from_db()
        assert interface.test_passed
        assert interface.tested_at == report.tested_at
        assert interface.test_report["object_key"] == report.object_key
        assert interface.capabilities == report.capabilities
        assert (interface.failures, interface.diagnosis) == (0, "")

    def test_deliveries_use_recorded_capabilities_and_tests_do_not(self, interface: S3Interface) -> None:
        interface.capabilities = {"condition": "refused"}
        assert not interface.connection().conditional_writes
        assert interface.connection(fresh=True).conditional_writes

    def test_only_a_test_s_own_file_can_be_removed(self, interface: S3Interface, bucket: Bucket) -> None:
        report = services.test_and_record(interface)
        with pytest.raises(ValueError, match="not the key of a connection test"):
            services.remove_test_file(interface, "sales/2026/report.pdf")
        services.remove_test_file(interface, report.object_key)
        assert bucket.keys() == []


def test_versioning_and_object_lock_are_checked(moto: S3Server, make_bucket: Callable[..., Bucket]) -> None:
    bucket = make_bucket(moto, ObjectLockEnabledForBucket=True)
    report = run(make_connection(moto, bucket.name, object_lock_mode="GOVERNANCE", retention_days=900))
    assert report.passed
    assert step(report, "Versioning").text.startswith("As recommended")
    assert step(report, "Object Lock").text.startswith("As recommended")
    assert report.retain_until is not None
    assert (report.retain_until - report.tested_at).days <= 1
    assert report.capabilities["condition"] == "enforced"


@pytest.mark.ceph
class TestCeph:
    @pytest.fixture
    def writer(self, bucket: Bucket) -> Connection:
        values = servers.ceph_values()
        return make_connection(
            bucket.server, bucket.name, access_key_id=values["W_AK"], secret_access_key=Secret(values["W_SK"])
        )

    @staticmethod
    def allow(bucket: Bucket, *statements: dict[str, Any]) -> None:
        import json

        user = {"AWS": [servers.ceph_values()["W_ARN"]]}
        places = [f"arn:aws:s3:::{bucket.name}", f"arn:aws:s3:::{bucket.name}/*"]
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Principal": user, "Resource": places} | each for each in statements],
        }
        bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))

    def test_put_object_alone_is_enough_to_pass(self, bucket: Bucket, writer: Connection) -> None:
        self.allow(
            bucket,
            {"Effect": "Allow", "Action": ["s3:PutObject"]},
            {"Effect": "Deny", "Action": ["s3:GetObject*", "s3:DeleteObject*", "s3:List*"]},
        )
        report = run(writer)
        assert report.passed
        for title in ("Read back", "List", "Versioning", "Object Lock"):
            assert step(report, title).text == "Not granted, not needed for archiving.", title
        assert step(report, "Condition").outcome is Outcome.PASSED
        assert report.capabilities["condition"] == "enforced"

    def test_no_permission_to_write(self, bucket: Bucket, writer: Connection) -> None:
        assert failing(run(writer)) == ("access_denied", "bucket_name")

    def test_a_policy_that_denies_the_write(self, bucket: Bucket, writer: Connection) -> None:
        self.allow(
            bucket,
            {"Effect": "Allow", "Action": ["s3:*"]},
            {"Effect": "Deny", "Action": ["s3:PutObject"]},
        )
        assert failing(run(writer))[0] in {"access_denied", "explicit_deny"}

    def test_an_unknown_key(self, connection: Connection) -> None:
        unknown = make_connection_like(connection, access_key_id="NOSUCHKEY00000000001")
        assert failing(run(unknown)) == ("invalid_access_key", "access_key_id")

    def test_an_exceeded_quota(self, bucket: Bucket, writer: Connection) -> None:
        import subprocess

        self.allow(bucket, {"Effect": "Allow", "Action": ["s3:*"]})
        conf = servers.ceph_values()["CEPH_CONF"]

        def admin(*arguments: str) -> None:
            command = ["radosgw-admin", "-c", conf, "-n", "client.rgw", *arguments, f"--bucket={bucket.name}"]
            subprocess.run(command, check=True, capture_output=True)

        admin("quota", "set", "--quota-scope=bucket", "--max-objects=0")
        admin("quota", "enable", "--quota-scope=bucket")
        end = time.monotonic() + 20
        code = ""
        while code != "quota_exceeded" and time.monotonic() < end:  # the gateway caches the bucket for a while
            report = run(writer)
            code = report.diagnosis.code if report.diagnosis else ""
            time.sleep(0.2)
        assert code == "quota_exceeded"

    def test_a_missing_encryption_key(self, connection: Connection) -> None:
        keyed = make_connection_like(connection, server_side_encryption="aws:kms", kms_key_id="no-such-key")
        assert failing(run(keyed)) == ("kms_key_unknown", "kms_key_id")

    def test_a_lock_on_a_bucket_without_object_lock(self, connection: Connection) -> None:
        locked = make_connection_like(connection, object_lock_mode="GOVERNANCE", retention_days=3)
        assert failing(run(locked)) == ("object_lock_unsupported", "object_lock_mode")

    def test_an_unknown_storage_class(self, connection: Connection) -> None:
        classed = make_connection_like(connection, storage_class="NO-SUCH-CLASS")
        assert failing(run(classed)) == ("storage_class_unsupported", "storage_class")

    def test_a_wrong_clock_is_measured(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        shifted = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
        monkeypatch.setattr(fast_put, "_amz_date", lambda: shifted.strftime("%Y%m%dT%H%M%SZ"))
        report = run(connection)
        assert failing(report) == ("clock_skew", "")


class TestUnexpected:
    def test_a_bug_ends_its_step_immediately(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise IndexError("list index out of range")

        monkeypatch.setattr("delivery_s3.endpoint_guard.resolve", broken)
        started = time.monotonic()
        report = run(connection)
        assert time.monotonic() - started < 5
        assert failing(report) == ("internal", "")
        assert step(report, "Name resolution").detail == "IndexError"
        assert "list index out of range" in caplog.text, "the log has the details"

    def test_an_error_in_an_optional_step_does_not_fail_the_test(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise IndexError

        monkeypatch.setattr("delivery_s3.storage.S3Destination.stream", broken)
        assert run(connection).passed

    @pytest.mark.parametrize("kind", ["version 9", "a date that isn't one"])
    def test_a_malformed_certificate_is_diagnosed(self, kind: str, tmp_path: Path) -> None:
        certificate, key = servers.make_certificate(tmp_path)
        servers.spoil_certificate(certificate, key, version_9=kind == "version 9")
        with servers.tls_front(certificate, key) as port:
            endpoint = f"https://127.0.0.1:{port}"
            report = run(Connection("KEY", Secret("SECRET"), "us-east-1", "bucket", endpoint_url=endpoint))
        assert report.diagnosis is not None
        assert report.diagnosis.title == "SSL certificate error: malformed"


def test_an_endpoint_without_bucket_hosts_suggests_a_provider(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
        if host != "minio.example.com":
            raise DeliveryError(diagnoses.HOST_NOT_FOUND, f"{host}: Name or service not known")
        return ["192.0.2.1"]

    monkeypatch.setattr("delivery_s3.endpoint_guard.resolve", resolve)
    changes = {"endpoint_url": "https://minio.example.com:9000", "addressing_style": "virtual"}
    report = run(make_connection_like(connection, **changes))
    assert failing(report) == ("bucket_host_not_found", "provider")
    fix = step(report, "Name resolution").fix
    assert fix is not None
    assert (fix.field, fix.value) == ("addressing_style", "path")
    report = run(make_connection_like(connection, **{**changes, "endpoint_url": "https://minoi.example.com"}))
    assert failing(report) == ("host_not_found", "endpoint_url")
