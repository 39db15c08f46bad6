"""The metrics for Prometheus: read from the database at each scrape, in a fixed number of queries.

No metric is counted in a process's memory, so any process on any machine can be scraped, and a restart loses nothing.
Durations and failures are kept in small tables (`totals`) for the same reason: prometheus-client's multiprocess mode
would need a folder shared by all machines.
"""

import shutil
from collections.abc import Iterator

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from anaphora.deliveries import queue
from anaphora.deliveries.models import Heartbeat, Interface, Role, State
from anaphora.operations import lateness, totals
from anaphora.operations.models import DailyTotal, FailureTotal, UploadDuration


def text() -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Database())
    return generate_latest(registry)


class _Database(Collector):
    """Reads all metrics from the database at each scrape."""

    def describe(self) -> list[Metric]:
        return []  # otherwise registration would call collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families in the order of docs/operations.md."""
        interfaces = {each.pk: each for each in Interface.objects.all()}
        names = {pk: each.name for pk, each in interfaces.items()}
        yield from _deliveries(names)
        yield from _uploads(names)
        yield from _interfaces(list(interfaces.values()))
        yield _heartbeats()
        yield from _late()
        yield from _disk()


def _deliveries(names: dict[int, str]) -> Iterator[Metric]:
    stored = {
        pk: (reports, size)
        for pk, reports, size in DailyTotal.objects.values_list("interface").annotate(Sum("reports"), Sum("bytes"))
    }
    counts, oldest = queue.count_by_state(list(names), recent=False), queue.oldest_pending(list(names))
    now = timezone.now()
    states = GaugeMetricFamily(
        "anaphora_deliveries", "Deliveries that are not done, by state.", labels=["interface", "state"]
    )
    age = GaugeMetricFamily(
        "anaphora_oldest_waiting_seconds",
        "How long the oldest undelivered report has been waiting.",
        labels=["interface"],
    )
    reports = CounterMetricFamily("anaphora_archived_reports", "Reports archived.", labels=["interface"])
    sizes = CounterMetricFamily("anaphora_archived_bytes", "Bytes archived.", labels=["interface"])
    for pk, name in names.items():
        for state in (State.PENDING, State.FAILED):
            states.add_metric([name, state.value], counts[pk][state])
        number, size = stored.get(pk, (0, 0))
        states.add_metric([name, State.DELIVERED.value], number)
        age.add_metric([name], max(0.0, (now - oldest[pk]).total_seconds()) if pk in oldest else 0)
        reports.add_metric([name], number)
        sizes.add_metric([name], size)
    yield from (states, age, reports, sizes)


def _uploads(names: dict[int, str]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "anaphora_upload_duration_seconds", "Duration of successful uploads.", labels=["interface"]
    )
    rows: dict[int, list[UploadDuration]] = {}
    for row in UploadDuration.objects.order_by("interface", "bound"):
        rows.setdefault(row.interface_id, []).append(row)
    for pk, of_interface in rows.items():
        buckets, sum_so_far = [], 0
        for row in of_interface:
            sum_so_far += row.uploads
            buckets.append(("+Inf" if row.bound == totals.BOUNDS[-1] else str(row.bound), float(sum_so_far)))
        durations.add_metric([names[pk]], buckets, sum_value=sum(row.seconds for row in of_interface))
    failures = CounterMetricFamily(
        "anaphora_upload_failures", "Failed uploads; each attempt counts.", labels=["interface", "diagnosis"]
    )
    for failure in FailureTotal.objects.order_by("interface", "diagnosis"):
        failures.add_metric([names[failure.interface_id], failure.diagnosis], failure.failures)
    yield from (durations, failures)


def _interfaces(interfaces: list[Interface]) -> Iterator[Metric]:
    enabled = GaugeMetricFamily("anaphora_interface_enabled", "1 if the interface is enabled.", labels=["interface"])
    failing = GaugeMetricFamily(
        "anaphora_interface_failing", "1 if the last upload failed for the interface's own sake.", labels=["interface"]
    )
    test = GaugeMetricFamily(
        "anaphora_interface_test_passed", "1 if the last connection test passed, 0 if not.", labels=["interface"]
    )
    last = GaugeMetricFamily(
        "anaphora_interface_last_successful_test_timestamp_seconds",
        "When a connection test last passed, in seconds since 1970.",
        labels=["interface"],
    )
    for each in interfaces:
        enabled.add_metric([each.name], each.enabled)
        failing.add_metric([each.name], bool(each.diagnosis))
        if each.tested_at:
            test.add_metric([each.name], bool(each.test_passed))
        if each.passed_at:
            last.add_metric([each.name], each.passed_at.timestamp())
    yield from (enabled, failing, test, last)


def _heartbeats() -> Metric:
    ages = GaugeMetricFamily(
        "anaphora_heartbeat_age_seconds",
        "Seconds since a process of this role was last seen on any machine. Absent if never seen.",
        labels=["role"],
    )
    now = timezone.now()
    last = dict(Heartbeat.objects.order_by("seen_at").values_list("role", "seen_at"))
    for role in Role:
        if role in last:
            ages.add_metric([role.value], max(0.0, (now - last[role]).total_seconds()))
    return ages


def _late() -> Iterator[Metric]:
    late = GaugeMetricFamily(
        "anaphora_dashboard_late", "1 if the expected report of a dashboard has not come.", labels=["dashboard"]
    )
    for each in lateness.states(timezone.now()):
        late.add_metric([each.dashboard.slug], each.late)
    yield late


def _disk() -> Iterator[Metric]:
    usage = shutil.disk_usage(settings.DATA_DIR)
    yield GaugeMetricFamily("anaphora_disk_free_bytes", "Space free on the disk of DATA_DIR.", value=usage.free)
    yield GaugeMetricFamily("anaphora_disk_size_bytes", "Size of the disk of DATA_DIR.", value=usage.total)
