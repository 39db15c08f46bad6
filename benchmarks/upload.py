"""CPU time of one upload compared with `S3Storage.save()`: `python -m benchmarks.upload`.

Uploads 200 KB over http, with a signed body, to a minimal endpoint. Both run in this process, in turn, several times.
Prints the medians, their ratio, and the number of requests per report.
"""

import hashlib
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import django
from django.core.files.base import File

from benchmarks import results
from benchmarks.sink import Sink, sink

SIZE, UPLOADS, ROUNDS = 200_000, 200, 7


def main() -> int:
    """Measure, print a table, return the exit status."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    with tempfile.TemporaryDirectory() as folder, sink() as endpoint:
        file = Path(folder) / "report.pdf"
        file.write_bytes(os.urandom(SIZE))
        ours, stock = _ours(endpoint, file), _stock(endpoint, file)
        rounds = [(_milliseconds(ours), _milliseconds(stock)) for _ in range(ROUNDS + 1)][1:]
        endpoint.requests()
        for number in range(UPLOADS):
            ours(number)
        seen = endpoint.requests()
    # The ratio of each pair, so that a machine whose speed changes does not distort the result.
    ratio = statistics.median(mine / theirs for mine, theirs in rounds)
    print(f"{'put()':22} {statistics.median(mine for mine, _ in rounds):6.2f} ms of CPU per upload")
    print(
        f"{'stock S3Storage.save()':22} {statistics.median(theirs for _, theirs in rounds):6.2f} ms of CPU per upload"
    )
    asked = sum(seen[kind] for kind in ("put", "head", "get", "post")) / UPLOADS
    return results.finish(
        "upload",
        results.Bar("CPU, put() / stock save()", ratio, at_most=0.15),
        results.Bar("requests per report", asked, at_most=1),
    )


def _milliseconds(upload: Callable[[int], None]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for number in range(UPLOADS):
        upload(number)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds / UPLOADS * 1000


def _ours(endpoint: Sink, file: Path) -> Callable[[int], None]:
    from anaphora.deliveries.destinations import Upload
    from anaphora.secret import Secret
    from delivery_s3.connection import Connection
    from delivery_s3.storage import S3Destination

    content = file.read_bytes()
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    storage = S3Destination(Connection("KEY", Secret("SECRET"), "us-east-1", "bucket", endpoint.endpoint))

    def upload(number: int) -> None:
        with file.open("rb") as body:
            storage.put(
                Upload(f"report-{number}.pdf", SIZE, sha256, md5, "application/pdf", metadata={"dashboard": "sales"}),
                body,
            )

    return upload


def _stock(endpoint: Sink, file: Path) -> Callable[[int], None]:
    from storages.backends.s3 import S3Storage

    storage = S3Storage(
        access_key="KEY",
        secret_key="SECRET",
        bucket_name="bucket",
        endpoint_url=endpoint.endpoint,
        region_name="us-east-1",
        addressing_style="path",
        signature_version="s3v4",
    )

    def upload(number: int) -> None:
        with file.open("rb") as body:
            storage.save(f"report-{number}.pdf", File(body, name="report.pdf"))

    return upload


if __name__ == "__main__":
    sys.exit(main())
