"""Reports per second through PostgreSQL and Redis, receipts written: `python -m benchmarks.engine [REPORTS]`.

200 KB each, to an endpoint that costs next to nothing, at 0 and at 25 ms of latency. Ours is beside what a Django
developer would otherwise write (`stock`) and beside s5cmd, rclone and aws-cli, which upload the same files and record
nothing. All take turns, several times; a ratio is the median of those of each round, so that a machine whose
speed drifts does not bend it. Exits 1 if a bar is missed.
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

from benchmarks.installation import Workers, installation, wait_until_delivered
from benchmarks.sink import Sink, sink

SIZE, ROUNDS = 200_000, 5
PEERS = Path(sys.executable).parent


def main(reports: int) -> int:
    """Measure both latencies; return the exit status."""
    with tempfile.TemporaryDirectory() as name, installation(folder := Path(name)):
        _take_in(reports)
        near = _near(folder, reports)
        far = _far(folder, reports)
    return 0 if near and far else 1


def _near(folder: Path, reports: int) -> bool:
    print(f"\n{reports} reports of {SIZE // 1000} KB, no latency, 2 worker processes each:")
    with ExitStack() as stack:
        endpoint = stack.enter_context(sink())
        _point_to(endpoint)
        ours = stack.enter_context(Workers("anaphora", 2, folder))
        stock = stack.enter_context(_stock_workers(2, folder, endpoint))
        files = folder / "data" / "reports"
        rates = _take_turns(
            reports,
            {
                "ours": _ours,
                "stock": _stock(stock),
                "s5cmd": _peer(endpoint, f"s5cmd --endpoint-url {endpoint.endpoint} cp {files}/ s3://b/"),
                "rclone": _peer(
                    endpoint,
                    "rclone copy --transfers=16 --no-check-dest --s3-no-check-bucket --s3-no-head --retries=1 "
                    f"--s3-provider=Other --s3-env-auth --s3-endpoint={endpoint.endpoint} {files} :s3:b",
                ),
                "aws-cli": _peer(
                    endpoint,
                    f"aws s3 cp --recursive --only-show-errors --endpoint-url {endpoint.endpoint} {files} s3://b/",
                ),
            },
        )
        endpoint.requests()
        _ours(reports)
        seen = endpoint.requests()
    _table(rates, {"ours": ours, "stock": stock})
    asked = sum(seen[kind] for kind in ("put", "head", "get", "post")) / reports
    print(f"requests per report: {asked:.2f}")
    return all(
        [_bar("ours / stock", rates, "stock", 5, aim=8), _bar("ours / s5cmd", rates, "s5cmd", 0.6, aim=1), asked == 1]
    )


def _far(folder: Path, reports: int) -> bool:
    print(f"\n{reports} reports, 25 ms of latency, 32 uploads at once: 2 processes of ours, 32 of stock:")
    with ExitStack() as stack:
        endpoint = stack.enter_context(sink(25))
        _point_to(endpoint)
        ours = stack.enter_context(Workers("anaphora", 2, folder, DELIVERY_CONCURRENCY="16"))
        stock = stack.enter_context(_stock_workers(32, folder, endpoint))
        rates = _take_turns(reports, {"ours": _ours, "stock": _stock(stock)})
        time.sleep(1)
    _table(rates, {"ours": ours, "stock": stock})
    memory = ours.peak_mb / stock.peak_mb
    print(f"memory, ours / stock: {memory:.2f}; the bar is 0.33: {_kept(memory <= 1 / 3)}")
    return all([_bar("ours / stock", rates, "stock", 3.5), memory <= 1 / 3])


def _take_turns(reports: int, contestants: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Let all run once to warm up, then ROUNDS times in turn; return the reports per second of each round."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 1):
        for name, run in contestants.items():
            rate = reports / run(reports)
            if turn:
                rates[name].append(rate)
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return rates


def _ours(reports: int) -> float:
    from anaphora.deliveries import tasks
    from delivery_s3.models import S3Interface

    _make_due()
    started = time.monotonic()
    tasks.request_delivery(S3Interface.objects.get().pk)
    wait_until_delivered(reports)
    return time.monotonic() - started


def _stock(workers: Workers) -> Callable[[int], float]:
    """Return a run of the stock task, from when its worker is let loose on a queue that is full already."""
    from anaphora.deliveries.models import Delivery
    from benchmarks import stock

    def run(reports: int) -> float:
        _make_due()
        with workers.held():
            for delivery in Delivery.objects.values_list("pk", flat=True):
                stock.save.delay(delivery)
        started = time.monotonic()
        wait_until_delivered(reports)
        return time.monotonic() - started

    return run


def _stock_workers(processes: int, folder: Path, endpoint: Sink) -> Workers:
    from benchmarks import stock

    return Workers("benchmarks.stock", processes, folder, queue=stock.QUEUE, BENCH_ENDPOINT=endpoint.endpoint)


def _peer(endpoint: Sink, command: str) -> Callable[[int], float]:
    """Return a run of a command-line tool, its start included, as those who use it wait for that too."""
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


def _take_in(reports: int) -> None:
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
            source=BytesIO(os.urandom(SIZE)),
            filename=f"report-{number}.pdf",
            dashboard="sales",
            rendered_at=start + timedelta(hours=number),
        )


def _point_to(endpoint: Sink) -> None:
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


def _bar(label: str, rates: dict[str, list[float]], peer: str, bar: float, *, aim: float = 0) -> bool:
    ratio = statistics.median(mine / theirs for mine, theirs in zip(rates["ours"], rates[peer], strict=True))
    wanted = f"the bar is {bar}, the aim {aim}" if aim else f"the bar is {bar}"
    print(f"{label}, median of {ROUNDS} rounds: {ratio:.2f}; {wanted}: {_kept(ratio >= bar)}")
    return ratio >= bar


def _kept(kept: object) -> str:
    return "kept" if kept else "MISSED"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500))
