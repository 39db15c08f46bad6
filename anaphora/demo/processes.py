"""Starts and stops the processes of the demo."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType


class Processes:
    """A context manager that stops all started processes on exit.

    Each process writes its output to a log file in `logs`. The processes run in their own sessions, so that only the
    demo receives Ctrl-C.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> "Processes":
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in self._running:
            process.terminate()
        for _, process in self._running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a program with the environment of the demo and `environment`."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [str(part) for part in command],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((name, process))

    def check(self) -> None:
        """Raise RuntimeError if a process has exited."""
        for name, process in self._running:
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                last = log.read_text(errors="replace").strip().splitlines()[-5:]
                raise RuntimeError(
                    f"The {name} exited with status {process.returncode}. The end of {log}:\n  " + "\n  ".join(last)
                )

    def wait_for_port(self, port: int, seconds: float = 30) -> None:
        """Wait until a local port accepts connections. Raises RuntimeError after `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"No process listens on port {port} after {seconds:.0f} s. See the logs in {self.logs}.")


def free_port(preferred: int) -> int:
    """Return the preferred local port if it is free, otherwise another free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("This machine has no free port.")


def find_program(name: str) -> str:
    """Return the path of a program, preferably from the environment of this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed. Run `make demo` to install it.")
    return found
