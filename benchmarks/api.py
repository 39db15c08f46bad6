"""How fast the API ingests reports, compared with a plain Django view: `python -m benchmarks.api`.

200 KB each, on PostgreSQL and Redis, sent to gunicorn as deploy/ starts it (2 processes with 8 threads each) through 8
persistent connections from the same machine. The plain view (`plain_django`) is a first version with Django: a form
that saves the file, synced to disk, and one row. The API also checks a token, computes SHA-256 and MD5, detects the
content type, and writes the report, its delivery and the audit trail. No worker runs. Both servers alternate for
several rounds; the ratio is the median of the rounds. Exits 1 if the bar is missed.
"""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import engine, results
from benchmarks.installation import ROOT, installation
from tests.support import servers

REPORTS, CONNECTIONS, ROUNDS = 300, 8, 5
_BOUNDARY = "boundary-of-the-benchmark"
_FORM = (
    "".join(
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n"
        for name, value in (('"dashboard"', "api"), ('"rendered_at"', "2026-03-01T06:00:00Z"))
    )
    + f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="report.pdf"\r\n\r\n%PDF-1.7'
)


def main() -> int:
    """Measure, print; return the exit status."""
    rates: dict[str, list[float]] = {"API": [], "plain view": []}
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder)), ExitStack() as stack:
        from anaphora.api import tokens
        from anaphora.api.models import Scope

        os.environ["API_RATE"] = ""
        engine.take_in(1)
        token = tokens.create("benchmark", [Scope.INGEST])[1]
        subprocess.run([sys.executable, "-m", "benchmarks.plain_django"], cwd=ROOT, check=True)
        applications = {"API": "anaphora.wsgi", "plain view": "benchmarks.plain_django"}
        ports = {name: stack.enter_context(_server(application)) for name, application in applications.items()}
        for turn in range(ROUNDS + 1):  # the first one warms up
            for name, port in ports.items():
                rate = _rate(port, token)
                if turn:
                    rates[name].append(rate)
    for name, found in rates.items():
        print(f"{name:10} {statistics.median(found):7.0f} reports/s, {min(found):.0f} to {max(found):.0f}")
    ratio = results.median_ratio(rates, "API", "plain view")
    measured = {name: round(statistics.median(found)) for name, found in rates.items()}
    return results.finish("api", results.Bar("API / plain view", ratio, at_least=0.5, aim=0.7), **measured)


@contextmanager
def _server(application: str) -> Iterator[int]:
    port = servers.free_port()
    command = ["gunicorn", application, "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8"]
    with servers.running([sys.executable, "-m", *command, "--no-control-socket", "--log-level", "error"], port):
        yield port


def _rate(port: int, token: str) -> float:
    """Return how many reports per second come in."""
    bodies = [_body() for _ in range(REPORTS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        started = time.monotonic()
        list(pool.map(lambda number: _post(port, token, bodies[number::CONNECTIONS]), range(CONNECTIONS)))
        return REPORTS / (time.monotonic() - started)


def _body() -> bytes:
    return _FORM.encode() + os.urandom(engine.SIZE - 8) + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _post(port: int, token: str, bodies: list[bytes]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    for body in bodies:
        connection.request("POST", "/api/v1/reports", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 201:
            raise SystemExit(f"The server answered {answer.status}: {content[:500]!r}")
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
