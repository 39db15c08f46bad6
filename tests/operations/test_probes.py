"""/healthz/live, /healthz/ready and /metrics: access and content."""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from anaphora.celery import app
from anaphora.deliveries import engine, heartbeat
from anaphora.deliveries.models import Delivery, Heartbeat, Role, State
from anaphora.operations import metrics, totals
from anaphora.operations.models import DailyTotal, UploadDuration
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_kept_answers() -> None:
    cache.clear()


@pytest.fixture
def all_run() -> None:
    for role in Role:
        heartbeat.note(role)


def samples(answer: bytes) -> dict[str, float]:
    """Return each sample by its name and label values."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(answer.decode())
        for sample in family.samples
    }


class TestLive:
    def test_a_process_that_responds_is_live(self, client: Client, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            assert client.get("/healthz/live").json() == {"live": True}

    def test_any_host_name_over_plain_http_gets_the_answer(self, client: Client, settings: Any) -> None:
        settings.SECURE_SSL_REDIRECT = True
        for path in ("/healthz/live", "/healthz/ready", "/metrics"):
            assert client.get(path, HTTP_HOST="10.1.2.3:8000").status_code in {200, 401, 503}

    def test_only_get_and_head_are_allowed(self, client: Client) -> None:
        assert client.head("/healthz/live").status_code == 200
        assert client.post("/healthz/live").status_code == 405


class TestReady:
    def test_missing_processes_make_it_unready_and_are_named(self, client: Client) -> None:
        answer = client.get("/healthz/ready")
        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert [name for name, check in checks.items() if not check["ok"]] == ["worker", "beat"]
        assert checks["worker"]["problem"] == "No worker has been seen yet."

    def test_with_all_processes_it_is_ready(self, client: Client, all_run: None) -> None:
        answer = client.get("/healthz/ready")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert set(answer.json()["checks"]) == {"database", "broker", "data folder", "worker", "beat"}

    def test_an_unreachable_broker_is_named_without_its_password(
        self, client: Client, all_run: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = "redis://:hunter2@127.0.0.1:1/0"
        monkeypatch.setattr(app, "connection_for_write", lambda **options: app.connection(away, **options))
        answer = client.get("/healthz/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"]["broker"] == {
            "ok": False,
            "problem": "The message broker (CELERY_BROKER_URL) does not answer.",
        }
        assert "hunter2" not in answer.text

    def test_a_missing_or_full_data_folder_is_named(
        self, client: Client, all_run: None, settings: Any, tmp_path: Path
    ) -> None:
        settings.DATA_DIR = tmp_path / "none"
        assert "DATA_DIR" in client.get("/healthz/ready").json()["checks"]["data folder"]["problem"]
        cache.clear()
        settings.DATA_DIR, settings.MIN_FREE_MB = tmp_path, 10**9
        assert "MIN_FREE_MB is free" in client.get("/healthz/ready").json()["checks"]["data folder"]["problem"]

    def test_frequent_requests_share_one_check(
        self, client: Client, all_run: None, django_assert_max_num_queries: Any
    ) -> None:
        client.get("/healthz/ready")
        with django_assert_max_num_queries(2):  # the last check for alerts, and whether there is a channel
            client.get("/healthz/ready")


class TestHealthCommand:
    def test_a_role_that_was_seen_on_this_machine_runs(self, all_run: None) -> None:
        call_command("health", "worker")
        call_command("health", "beat")

    def test_one_that_runs_elsewhere_does_not_count(self) -> None:
        Heartbeat.objects.create(role=Role.WORKER, host="elsewhere", seen_at=timezone.now())
        with pytest.raises(CommandError, match="worker does not run"):
            call_command("health", "worker")

    def test_one_without_recent_heartbeats_does_not_run(self, all_run: None) -> None:
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
        with pytest.raises(CommandError):
            call_command("health", "beat")

    def test_a_web_server_that_does_not_respond_does_not_run(self) -> None:
        with pytest.raises(CommandError, match="web does not run"):
            call_command("health", "web", "--url", "http://127.0.0.1:1")


class TestWhoMayReadMetrics:
    def test_by_default_nobody_may_read_them(self, client: Client) -> None:
        answer = client.get("/metrics")
        assert answer.status_code == 401
        assert "METRICS_TOKEN" in answer.text

    def test_the_token_grants_access(self, client: Client, settings: Any) -> None:
        settings.METRICS_TOKEN = "the token"
        assert client.get("/metrics", headers={"Authorization": "Bearer the token"}).status_code == 200
        assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401

    def test_an_empty_token_grants_no_access(self, client: Client) -> None:
        assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401

    def test_an_allowed_network_grants_access(self, client: Client, settings: Any) -> None:
        settings.METRICS_NETWORKS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
        for address, status in {"10.1.2.3": 200, "fd00::7": 200, "192.0.2.1": 401, "": 401}.items():
            assert client.get("/metrics", REMOTE_ADDR=address).status_code == status

    def test_a_request_through_a_proxy_needs_the_token(self, client: Client, settings: Any) -> None:
        settings.METRICS_NETWORKS = [ip_network("127.0.0.0/8")]
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401


class TestMetrics:
    def test_contain_archived_waiting_and_failed_deliveries(self, interface: S3Interface) -> None:
        make_policy(interface)
        reports = [make_report() for _ in range(3)]
        assert engine.deliver_due(interface.pk).complete
        make_report()
        Delivery.objects.filter(report=make_report()).update(state=State.FAILED)
        found = samples(metrics.text())
        name = interface.name
        assert found[f"anaphora_deliveries/{name}/delivered"] == 3
        assert found[f"anaphora_deliveries/{name}/pending"] == 1
        assert found[f"anaphora_deliveries/{name}/failed"] == 1
        assert found[f"anaphora_archived_reports_total/{name}"] == 3
        assert found[f"anaphora_archived_bytes_total/{name}"] == sum(each.size for each in reports)
        assert found[f"anaphora_upload_duration_seconds_count/{name}"] == 3
        assert found[f"anaphora_upload_duration_seconds_bucket/{name}/+Inf"] == 3
        assert 0 < found[f"anaphora_upload_duration_seconds_sum/{name}"] < 60
        assert 0 <= found[f"anaphora_oldest_waiting_seconds/{name}"] < 60
        assert found["anaphora_disk_free_bytes"] > 0

    def test_count_failures_by_diagnosis(self, interface: S3Interface) -> None:
        make_policy(interface)
        S3Interface.objects.update(bucket_name="there-is-none")
        make_report()
        engine.deliver_due(interface.pk)
        engine.deliver_due(interface.pk, ignore_pause=True)
        found = samples(metrics.text())
        assert found[f"anaphora_upload_failures_total/bucket_not_found/{interface.name}"] == 2
        assert found[f"anaphora_interface_failing/{interface.name}"] == 1

    def test_contain_the_last_passed_test_and_the_heartbeats(self, interface: S3Interface, all_run: None) -> None:
        before = timezone.now().timestamp()
        assert "anaphora_interface_test_passed/" not in "".join(samples(metrics.text()))
        assert interface.test() is True
        S3Interface.objects.update(bucket_name="there-is-none")
        assert S3Interface.objects.get().test() is False
        found = samples(metrics.text())
        assert found[f"anaphora_interface_test_passed/{interface.name}"] == 0
        assert found[f"anaphora_interface_last_successful_test_timestamp_seconds/{interface.name}"] >= before - 1
        assert 0 <= found["anaphora_heartbeat_age_seconds/worker"] < 60

    def test_run_the_same_number_of_queries_for_many_rows(
        self, interface: S3Interface, django_assert_num_queries: Any
    ) -> None:
        make_policy(interface)
        for number in range(3):
            S3Interface.objects.create(name=f"another {number}", bucket_name="b")
        for _ in range(20):
            make_report()
        with django_assert_num_queries(9):
            metrics.text()

    @pytest.mark.promtool
    def test_promtool_accepts_them(self, interface: S3Interface, all_run: None) -> None:
        make_policy(interface)
        make_report()
        assert engine.deliver_due(interface.pk).complete
        S3Interface.objects.update(bucket_name="there-is-none")
        make_report()
        engine.deliver_due(interface.pk)
        promtool(["check", "metrics"], metrics.text())


class TestTotals:
    def test_a_recount_equals_the_added_totals(self, interface: S3Interface) -> None:
        make_policy(interface)
        for _ in range(3):
            make_report()
        assert engine.deliver_due(interface.pk).complete
        added = DailyTotal.objects.values("interface", "day", "reports", "bytes", "failed").get()
        DailyTotal.objects.update(reports=1, bytes=1)
        DailyTotal.objects.create(interface=interface, day="2020-01-01", reports=7, bytes=7, failed=7)
        totals.recount()
        assert DailyTotal.objects.values("interface", "day", "reports", "bytes", "failed").get(reports=3) == added
        assert DailyTotal.objects.values("reports", "bytes", "failed").get(day="2020-01-01") == {
            "reports": 0,
            "bytes": 0,
            "failed": 7,
        }

    def test_a_recount_is_done_once_an_hour(self) -> None:
        assert totals.recount_if_due()
        assert not totals.recount_if_due()

    def test_an_error_in_counting_does_not_affect_deliveries(
        self, interface: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise ValueError

        monkeypatch.setattr(totals, "add", fail)
        make_policy(interface)
        make_report()
        assert engine.deliver_due(interface.pk).complete

    def test_each_duration_is_in_the_bucket_that_bounds_it(self, interface: S3Interface) -> None:
        durations = [0.01, 0.05, 0.2, 7.0, 4000.0]
        totals._add_durations(interface.pk, durations)
        totals._add_durations(interface.pk, [0.2])
        rows = dict(UploadDuration.objects.filter(uploads__gt=0).values_list("bound", "uploads"))
        assert rows == {0.05: 2, 0.25: 2, 10.0: 1, 1e9: 1}
        assert sum(UploadDuration.objects.values_list("seconds", flat=True)) == pytest.approx(sum(durations) + 0.2)


def promtool(arguments: list[str], given: bytes = b"") -> str:
    program = shutil.which("promtool")
    assert program, "Debian's package prometheus has it"
    result = subprocess.run([program, *arguments], input=given, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout.decode() + result.stderr.decode()
    return result.stdout.decode()


@pytest.mark.promtool
def test_promtool_accepts_the_alert_rules() -> None:
    assert "rules found" in promtool(["check", "rules", str(ROOT / "deploy" / "prometheus-alerts.yaml")])


def known_names(text: str) -> set[str]:
    return set(re.findall(r"anaphora_[a-z_]+", text))


@pytest.mark.parametrize("file", ["prometheus-alerts.yaml", "grafana-dashboard.json"])
def test_rules_and_dashboard_use_existing_metrics(
    file: str, interface: S3Interface, all_run: None, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    make_policy(interface)
    make_report()
    interface.test()
    assert engine.deliver_due(interface.pk).complete
    S3Interface.objects.update(bucket_name="there-is-none")
    make_report()
    engine.deliver_due(interface.pk)
    exist = known_names(metrics.text().decode()) | {"anaphora_dashboard_late"}
    asked = known_names((ROOT / "deploy" / file).read_text())
    assert asked
    assert asked <= exist, asked - exist


def test_every_metric_is_documented() -> None:
    source = (ROOT / "anaphora" / "operations" / "metrics.py").read_text()
    names = set(re.findall(r'"(anaphora_[a-z_]+)"', source))
    documented = known_names((ROOT / "docs" / "operations.md").read_text())
    assert names
    assert {name for name in names if name not in documented and f"{name}_total" not in documented} == set()
