"""Builds and runs `sink.c`: an S3 endpoint that costs next to nothing, on loopback."""

import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import free_port, wait_for_port


@dataclass(frozen=True)
class Sink:
    """A running sink."""

    endpoint: str

    def requests(self) -> dict[str, int]:
        """Return what it has seen since the last call, by kind: put, head, expect, conns, bytes, …"""
        with urllib.request.urlopen(f"{self.endpoint}/__stats/reset") as answer:
            found: dict[str, int] = json.load(answer)
        return found


@contextmanager
def sink(delay_ms: int = 0) -> Iterator[Sink]:
    """Run a sink that takes `delay_ms` to answer. Needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("The benchmark's endpoint is written in C; install a C compiler (cc) first.")
    with tempfile.TemporaryDirectory() as folder:
        program, port = Path(folder) / "sink", free_port()
        subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name("sink.c")], check=True)
        process = subprocess.Popen([program, str(port), str(delay_ms)])
        try:
            wait_for_port(port, process)
            yield Sink(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait()
