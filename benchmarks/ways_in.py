"""How fast files are ingested, and the whole way from a folder to receipts: `python -m benchmarks.ways_in`.

200 KB each, on PostgreSQL and Redis, to an endpoint with 25 ms of latency: the rate of the command `ingest` and of the
inbox, each compared with the rate at which workers then deliver the same reports; and `ingest` with workers running,
compared with `s5cmd cp` of the same folder. All alternate for several rounds; a ratio is the median of the rounds. The
API has a measurement of its own, `api`. Exits 1 if a bar is missed.
"""

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import engine, results
from benchmarks.installation import Workers, installation, wait_until_delivered
from benchmarks.sink import sink

FILES, ROUNDS = 1000, 3


def main() -> int:
    """Measure, print; return the exit status."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"INBOX_DIR": str(folder / "inbox"), "INBOX_SETTLE_SECONDS": "1"}
        stack.enter_context(installation(folder))
        endpoint = stack.enter_context(sink(25))
        engine.take_in(FILES)
        engine.point_to(endpoint)
        workers = stack.enter_context(Workers("anaphora", 2, folder, DELIVERY_CONCURRENCY="16"))
        engine.deliver(FILES)  # warm-up
        for number in range(ROUNDS):
            command, inbox = folder / f"command-{number}", folder / "inbox" / f"dashboard-{number}"
            together = folder / f"together-{number}"
            peer = f"s5cmd --numworkers 32 --endpoint-url {endpoint.endpoint} cp {together}/ s3://b/"
            found = {
                **_ingest_then_deliver("command", workers, command, lambda: _command(command)),  # noqa: B023  # called here
                **_ingest_then_deliver("inbox", workers, inbox, _scan),
                "folder to receipts": _together(together),
                "s5cmd cp": FILES / engine.peer(endpoint, peer)(FILES),
            }
            for name, rate in found.items():
                rates.setdefault(name, []).append(rate)
    for name, each in rates.items():
        print(f"{name:28} {statistics.median(each):7.0f} reports/s, {min(each):.0f} to {max(each):.0f}")
    return results.finish(
        "ways_in",
        results.Bar(
            "ingest / delivery",
            results.median_ratio(rates, "command", "delivery after command"),
            at_least=0.5,
            aim=1,
        ),
        results.Bar(
            "inbox / delivery", results.median_ratio(rates, "inbox", "delivery after inbox"), at_least=0.5, aim=1
        ),
        results.Bar(
            "folder to receipts / s5cmd cp",
            results.median_ratio(rates, "folder to receipts", "s5cmd cp"),
            at_least=0.25,
        ),
        **{name: round(statistics.median(each)) for name, each in rates.items()},
    )


def _ingest_then_deliver(name: str, workers: Workers, folder: Path, ingest: Callable[[], None]) -> dict[str, float]:
    """Return the rate of ingesting new files, and that of delivering them afterwards. Python's start is not counted."""
    from anaphora.deliveries.models import Delivery

    before = Delivery.objects.count()
    _create_files(folder)
    time.sleep(1.5)  # until the inbox considers them complete
    with workers.held():
        started = time.monotonic()
        ingest()
        ingested = time.monotonic() - started
    started = time.monotonic()
    wait_until_delivered(before + FILES)
    return {name: FILES / ingested, f"delivery after {name}": FILES / (time.monotonic() - started)}


def _command(folder: Path) -> None:
    from django.core.management import call_command

    call_command("ingest", *map(str, folder.iterdir()), "--dashboard", "command", stdout=io.StringIO())


def _scan() -> None:
    from anaphora.reports import inbox

    ingested = inbox.scan().ingested
    assert ingested == FILES, ingested


def _together(folder: Path) -> float:
    """Return the rate from a folder to the last receipt, with workers running."""
    from anaphora.deliveries.models import Delivery

    before = Delivery.objects.count()
    _create_files(folder)
    started = time.monotonic()
    _command(folder)
    wait_until_delivered(before + FILES)
    return FILES / (time.monotonic() - started)


def _create_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(FILES):
        file = folder / f"2026-03-01T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z.pdf"
        file.write_bytes(b"%PDF-1.7" + os.urandom(engine.SIZE - 8))
    os.sync()  # otherwise the sync of the first report writes these files too


if __name__ == "__main__":
    sys.exit(main())
