"""Starts the processes of the demo, and stops every one of them again, whatever happens."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType


class Processes:
    """The processes that the demo started; leaving the context stops them all.

    Each writes its output to a file of its own in `logs`. They run in sessions of their own, so that Ctrl-C
    reaches the demo alone, and each is told once.
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
        """Start a program, with `environment` added to the demo's own."""
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
        """Raise RuntimeError if one has ended by itself."""
        for name, process in self._running:
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                last = log.read_text(errors="replace").strip().splitlines()[-5:]
                raise RuntimeError(
                    f"The {name} has ended with status {process.returncode}. The end of {log}:\n  " + "\n  ".join(last)
                )

    def wait_for_port(self, port: int, seconds: float = 30) -> None:
        """Wait until something accepts connections on a port of this machine. Raises RuntimeError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"Nothing answers on port {port} after {seconds:.0f} s; see {self.logs}.")


def free_port(wanted: int) -> int:
    """Return the wanted port of this machine if it is free, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("This machine has no free port.")


def tool(name: str) -> str:
    """Return the path of a program that was installed beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; `make demo` installs it.")
    return found
