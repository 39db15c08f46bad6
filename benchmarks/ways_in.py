"""How fast files come in, and the whole way from a folder to receipts: `python -m benchmarks.ways_in`.

200 KB each, on PostgreSQL and Redis, to an endpoint with 25 ms of latency: the rate of the command `ingest` and of the
inbox, each as a ratio to the rate of delivery in the same run; and `ingest` with delivery beside `s5cmd cp` of the same
folder. The API has a measurement of its own, `api`. Exits 1 if a bar is missed.
"""

import io
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import engine, results
from benchmarks.installation import Workers, installation, wait_until_delivered
from benchmarks.sink import sink

FILES = 1000


def main() -> int:
    """Measure, print; return the exit status."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"INBOX_DIR": str(folder / "inbox"), "INBOX_SETTLE_SECONDS": "1"}
        stack.enter_context(installation(folder))
        endpoint = stack.enter_context(sink(25))
        engine.take_in(FILES)
        engine.point_to(endpoint)
        stack.enter_context(Workers("anaphora", 2, folder, DELIVERY_CONCURRENCY="16"))
        engine.deliver(FILES)  # to warm up
        delivery = FILES / engine.deliver(FILES)
        command, receipts = _command(_files(folder / "command"))
        peer = f"s5cmd --numworkers 32 --endpoint-url {endpoint.endpoint} cp {folder / 'command'}/ s3://b/"
        s5cmd = FILES / engine.peer(endpoint, peer)(FILES)
        inbox = _inbox(folder / "inbox" / "sales")
    rates = {"delivery": delivery, "command": command, "inbox": inbox, "folder to receipts": receipts}
    for name, rate in (rates | {"s5cmd cp": s5cmd}).items():
        print(f"{name:20} {rate:7.0f} reports/s")
    return results.finish(
        "ways_in",
        results.Bar("ingest / delivery", command / delivery, at_least=0.5, aim=1),
        results.Bar("inbox / delivery", inbox / delivery, at_least=0.5, aim=1),
        results.Bar("folder to receipts / s5cmd cp", receipts / s5cmd, at_least=0.25),
        **{name: round(rate) for name, rate in (rates | {"s5cmd cp": s5cmd}).items()},
    )


def _files(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    made = []
    for number in range(FILES):
        file = folder / f"2026-03-01T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z.pdf"
        file.write_bytes(b"%PDF-1.7" + os.urandom(engine.SIZE - 8))
        made.append(file)
    return made


def _command(files: list[Path]) -> tuple[float, float]:
    """Return the rate of `ingest`, and that until the last receipt. The start of Python is not counted."""
    from django.core.management import call_command

    from anaphora.deliveries.models import Delivery

    before = Delivery.objects.count()
    started = time.monotonic()
    call_command("ingest", *map(str, files), "--dashboard", "command", stdout=io.StringIO())
    ingested = time.monotonic() - started
    wait_until_delivered(before + FILES)
    return FILES / ingested, FILES / (time.monotonic() - started)


def _inbox(folder: Path) -> float:
    from anaphora.reports import inbox

    _files(folder)
    time.sleep(1.5)  # until they count as complete
    started = time.monotonic()
    ingested = inbox.scan().ingested
    assert ingested == FILES, ingested
    return FILES / (time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
