"""Processes that tests start: Celery workers, programs, and modules in a network namespace."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from django.db import connection as database

ROOT = Path(__file__).parent.parent.parent
"""The project's folder."""


def have_namespaces() -> bool:
    """Return whether network namespaces can be created on this machine."""
    command = ["unshare", "--net", "--mount", "--map-root-user", "ip", "link", "set", "lo", "up"]
    return (
        bool(shutil.which("unshare") and shutil.which("ip"))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def in_namespace(module: str, *arguments: str) -> str:
    """Run a module of the tests in new network and mount namespaces; return its output."""
    command = ["unshare", "--net", "--mount", "--map-root-user", sys.executable, "-m", module, *arguments]
    return printed_by(command, ROOT, os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"})


def printed_by(command: list[str], folder: Path, environment: dict[str, str], *, seconds: float = 120) -> str:
    """Run a command in a folder and check that it succeeds; return its output."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def worker_environment() -> dict[str, str]:
    """Return the environment for a process that uses this test's database, broker and local store."""
    config = database.settings_dict
    if database.vendor == "sqlite":
        address = f"sqlite:///{config['NAME']}"
    else:
        address = (
            f"postgresql://{config['USER']}:{config['PASSWORD']}@{config['HOST']}:{config['PORT']}/{config['NAME']}"
        )
    return os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": address}


def new_worker() -> list[str]:
    """Return the arguments of Celery for a worker with a unique name.

    After a worker was killed, RabbitMQ does not allow another one with the same name until it notices.
    """
    return ["worker", "--concurrency", "2", "--hostname", f"{uuid.uuid4().hex}@%h"]


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition is true; fail after this many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)
