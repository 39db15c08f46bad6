"""Builds and runs `sink.c`: a minimal S3 endpoint on loopback that needs almost no CPU time."""

import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import free_port, running


@dataclass(frozen=True)
class Sink:
    """A running sink."""

    endpoint: str

    def requests(self) -> dict[str, int]:
        """Return the counts since the last call, by kind: put, head, expect, conns, bytes, …"""
        with urllib.request.urlopen(f"{self.endpoint}/__stats/reset") as answer:
            found: dict[str, int] = json.load(answer)
        return found


@contextmanager
def sink(delay_ms: int = 0) -> Iterator[Sink]:
    """Run a sink that responds after `delay_ms`. Needs a C compiler."""
    with program("sink", str(delay_ms)) as endpoint:
        yield Sink(endpoint)


@contextmanager
def program(name: str, argument: str) -> Iterator[str]:
    """Compile and run a C program in the folder of this module; yield its URL."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("The benchmark's endpoint is written in C; install a C compiler (cc) first.")
    with tempfile.TemporaryDirectory() as folder:
        binary, port = Path(folder) / name, free_port()
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run([compiler, "-O2", "-pthread", "-o", binary, source], check=True)
        with running([str(binary), str(port), argument], port):
            yield f"http://127.0.0.1:{port}"
