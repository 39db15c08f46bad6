"""Reports per second with PostgreSQL and Redis, including receipts: `python -m benchmarks.engine [near|far]`.

Delivers reports of 200 KB to a minimal endpoint, with 0 ms (near) and 25 ms (far) of latency. The engine is compared
with the task that a Django developer would otherwise write (`stock`), and with s5cmd, rclone and aws-cli, which upload
the same files but record nothing. They run in turn, several times. A ratio is the median of the ratios of all rounds,
so that a machine whose speed changes does not distort it. Exits 1 if a bar is missed. BENCH_REPORTS is the number of
reports; default: 1,500.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from benchmarks import results
from benchmarks.installation import Workers, installation, wait_until_delivered
from benchmarks.sink import Sink, sink

SIZE, ROUNDS = 200_000, 3
REPORTS = int(os.environ.get("BENCH_REPORTS", "1500"))
PARTS = {"stock": 3}
"""Contestants that get only a part of the reports, such as a third, because they take so long."""
PEERS = Path(sys.executable).parent


def main(which: list[str]) -> int:
    """Measure one latency or both; return the exit status."""
    statuses = []
    with tempfile.TemporaryDirectory() as name, installation(folder := Path(name)):
        take_in(REPORTS)
        if "near" in which or not which:
            statuses.append(_near(folder))
        if "far" in which or not which:
            statuses.append(_far(folder))
    return max(statuses)


def _near(folder: Path) -> int:
    print(f"\n{REPORTS} reports of {SIZE // 1000} KB, no latency, 2 worker processes each:")
    with ExitStack() as stack:
        endpoint = stack.enter_context(sink())
        point_to(endpoint)
        ours = stack.enter_context(Workers("anaphora", 2, folder))
        stock = stack.enter_context(_stock_workers(2, folder, endpoint))
        files = folder / "data" / "reports"
        rates = _take_turns(
            {
                "ours": deliver,
                "stock": _stock(stock),
                "s5cmd": peer(endpoint, f"s5cmd --endpoint-url {endpoint.endpoint} cp {files}/ s3://b/"),
                "rclone": peer(
                    endpoint,
                    "rclone copy --transfers=16 --no-check-dest --s3-no-check-bucket --s3-no-head --retries=1 "
                    f"--s3-provider=Other --s3-env-auth --s3-endpoint={endpoint.endpoint} {files} :s3:b",
                ),
                "aws-cli": peer(
                    endpoint,
                    f"aws s3 cp --recursive --only-show-errors --endpoint-url {endpoint.endpoint} {files} s3://b/",
                ),
            },
        )
        endpoint.requests()
        deliver(REPORTS)
        seen = endpoint.requests()
    _table(rates, {"ours": ours, "stock": stock})
    asked = sum(seen[kind] for kind in ("put", "head", "get", "post")) / REPORTS
    return results.finish(
        "near",
        results.Bar("ours / stock", results.median_ratio(rates, "ours", "stock"), at_least=5, aim=8),
        results.Bar("ours / s5cmd", results.median_ratio(rates, "ours", "s5cmd"), at_least=0.9, aim=1.1),
        results.Bar("requests per report", asked, at_most=1),
        **_measured(rates, {"ours": ours, "stock": stock}),
    )


def _far(folder: Path) -> int:
    print(f"\n{REPORTS} reports, 25 ms of latency, 32 uploads at once: 2 processes of ours, 32 of stock:")
    with ExitStack() as stack:
        endpoint = stack.enter_context(sink(25))
        point_to(endpoint)
        ours = stack.enter_context(Workers("anaphora", 2, folder, DELIVERY_CONCURRENCY="16"))
        stock = stack.enter_context(_stock_workers(32, folder, endpoint))
        files = folder / "data" / "reports"
        s5cmd = f"s5cmd --numworkers 32 --endpoint-url {endpoint.endpoint} cp {files}/ s3://b/"
        rates = _take_turns({"ours": deliver, "stock": _stock(stock), "s5cmd": peer(endpoint, s5cmd)})
        time.sleep(1)
    _table(rates, {"ours": ours, "stock": stock})
    return results.finish(
        "far",
        results.Bar("ours / stock", results.median_ratio(rates, "ours", "stock"), at_least=3.5),
        results.Bar("ours / s5cmd", results.median_ratio(rates, "ours", "s5cmd"), at_least=1, aim=1.2),
        results.Bar("memory, ours / stock", ours.peak_mb / stock.peak_mb, at_most=1 / 3),
        **_measured(rates, {"ours": ours, "stock": stock}),
    )


def _take_turns(contestants: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Run each once to warm up, then ROUNDS times in turn; return the reports per second of each round."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 1):
        for name, run in contestants.items():
            number = REPORTS // PARTS.get(name, 1)
            rate = number / run(number)
            if turn:
                rates[name].append(rate)
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return rates


def deliver(reports: int) -> float:
    """Let the workers deliver all reports; return the seconds."""
    from anaphora.deliveries import tasks
    from delivery_s3.models import S3Interface

    _make_due()
    started = time.monotonic()
    tasks.request_delivery(S3Interface.objects.get().pk)
    wait_until_delivered(reports)
    return time.monotonic() - started


def _stock(workers: Workers) -> Callable[[int], float]:
    """Return a run of the stock task. The time starts when its worker starts to consume a full queue."""
    from anaphora.deliveries.models import Delivery
    from benchmarks import stock

    def run(reports: int) -> float:
        _make_due()
        with workers.held():
            for delivery in Delivery.objects.values_list("pk", flat=True)[:reports]:
                stock.save.delay(delivery)
        started = time.monotonic()
        wait_until_delivered(reports)
        return time.monotonic() - started

    return run


def _stock_workers(processes: int, folder: Path, endpoint: Sink) -> Workers:
    from benchmarks import stock

    return Workers("benchmarks.stock", processes, folder, queue=stock.QUEUE, BENCH_ENDPOINT=endpoint.endpoint)


def peer(endpoint: Sink, command: str) -> Callable[[int], float]:
    """Return a run of a command-line tool, including its start, because users wait for that too."""
    program, *arguments = command.split()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG": os.devnull,
    }

    def run(reports: int) -> float:
        endpoint.requests()
        started = time.monotonic()
        done = subprocess.run(
            [PEERS / program, *arguments],
            env=environment,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            raise SystemExit(f"{program} ended with status {done.returncode}: {done.stderr[-500:]}")
        stored = endpoint.requests()["put"]
        if stored != reports:
            raise SystemExit(f"{program} stored {stored} of {reports}")
        return seconds

    return run


def take_in(reports: int) -> None:
    """Ingest this many reports, and create an interface and a policy for them."""
    from anaphora.deliveries.models import ArchivePolicy
    from anaphora.reports.ingest import ingest
    from delivery_s3.models import S3Interface

    interface = S3Interface.objects.create(
        name="benchmark", provider="other", access_key_id="KEY", secret_access_key="SECRET", bucket_name="bucket"
    )
    ArchivePolicy.objects.create(name="all", interface=interface)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(reports):
        ingest(
            source=BytesIO(b"%PDF-1.7" + os.urandom(SIZE - 8)),
            filename=f"report-{number}.pdf",
            dashboard="sales",
            rendered_at=start + timedelta(hours=number),
        )


def point_to(endpoint: Sink) -> None:
    """Set the endpoint of the interface."""
    from delivery_s3.models import S3Interface

    S3Interface.objects.update(endpoint_url=endpoint.endpoint)


def _make_due() -> None:
    from django.db import connection

    from anaphora.deliveries.models import Delivery, State
    from delivery_s3.models import S3Interface

    Delivery.objects.update(state=State.PENDING, attempts=0, object_key="", size=None, delivered_at=None)
    S3Interface.objects.update(wakeup_sent_at=None)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE deliveries_delivery")


def _table(rates: dict[str, list[float]], workers: dict[str, Workers]) -> None:
    print(f"{'':10} {'reports/s':>10} {'lowest':>8} {'highest':>8} {'memory':>10}")
    for name, found in rates.items():
        memory = f"{workers[name].peak_mb:7.0f} MB" if name in workers else ""
        print(f"{name:10} {statistics.median(found):10.0f} {min(found):8.0f} {max(found):8.0f} {memory:>10}")


def _measured(rates: dict[str, list[float]], workers: dict[str, Workers]) -> dict[str, object]:
    return {
        "reports_per_second": {name: round(statistics.median(found)) for name, found in rates.items()},
        "memory_mb": {name: round(found.peak_mb) for name, found in workers.items()},
        "memory_mb_of_each_process": {name: found.processes_mb for name, found in workers.items()},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
