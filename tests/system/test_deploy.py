"""The files in deploy/, checked as far as possible without installing them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.management import get_commands
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from tests.support.processes import ROOT, printed_by, worker_environment

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


@pytest.mark.systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Uses the paths of this checkout, because the verification requires existing programs."""
    for unit in UNITS:
        text = re.sub(r"^(User|EnvironmentFile)=.*\n", "", unit.read_text(), flags=re.MULTILINE)
        python = str(Path(sys.executable).parent)
        text = text.replace("/opt/anaphora/.venv/bin", python).replace("/opt/anaphora", str(ROOT))
        (tmp_path / unit.name).write_text(text.replace("/var/lib/anaphora", str(tmp_path)))
    result = subprocess.run(
        ["systemd-analyze", "verify", *[str(tmp_path / unit.name) for unit in UNITS]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_have_minimal_privileges(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-300:]
    assert "UMask=0077" in unit.read_text()


def test_behind_tls_the_deployment_check_has_no_warnings(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HTTPS": "true", "DATA_DIR": str(tmp_path / "data"), "FERNET_KEYS": "key"}
    environment |= {"SECRET_KEY": "x" * 20 + "0123456789abcdefghijklmnopqrstuvwxyz", "ENV_FILE": str(tmp_path / "none")}
    command = [sys.executable, "-W", "ignore", "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    printed_by(command, ROOT, environment)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.django_db
def test_guessing_passwords_leads_to_a_lockout(client: Client, settings: Any) -> None:
    User.objects.create_user("owner", password="the right password", is_staff=True)
    settings.AXES_FAILURE_LIMIT = 3
    for address in ("/admin/login/", "/login/"):
        wrong = {"username": "owner", "password": "wrong"}
        answers = [client.post(address, wrong, REMOTE_ADDR=f"10.0.0.{len(address)}") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        assert "Try again in 15 minutes" in answers[-1].content.decode()
        right = {"username": "owner", "password": "the right password"}
        assert client.post(address, right, REMOTE_ADDR=f"10.0.0.{len(address)}").status_code == 429
        assert client.post(address, right, REMOTE_ADDR="10.0.1.1").status_code == 302
        client.logout()


def test_compose_accepts_its_file() -> None:
    program = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert program
    command = [program, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_all_files_that_compose_uses_exist() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {"postgres", "redis", "web", "worker", "beat", "s3"} <= set(services)
    assert {unit.stem for unit in UNITS} == {"anaphora-web", "anaphora-worker", "anaphora-beat", "anaphora-alerts"}
    known = (ROOT / "docs" / "configuration.md").read_text()
    for name in services["web"]["environment"]:
        assert f"### `{name}`" in known
    for each in (DEPLOY / "Dockerfile").read_text().splitlines():
        for source in each.split()[1:-1] if each.startswith("COPY") else []:
            assert (ROOT / source).exists(), source


def health_command(role: str) -> list[str]:
    """Return the health check of a service in the compose file, which must match that of the systemd unit."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    kind, program, *arguments = services[role]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    unit = (DEPLOY / f"anaphora-{role}.service").read_text()
    assert f"ExecStartPost=/opt/anaphora/.venv/bin/python {' '.join(arguments)} --wait 60\n" in unit
    return [sys.executable, *arguments]


def healthy(role: str, *more: str) -> bool:
    command = [*health_command(role), *more]
    result = subprocess.run(command, cwd=ROOT, env=worker_environment(), capture_output=True, text=True, check=False)
    assert result.returncode in {0, 1}, result.stderr
    return result.returncode == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", ["worker", "beat"])
def test_the_health_check_tells_whether_a_process_runs(role: str, start_celery: Callable[..., Path]) -> None:
    assert not healthy(role)
    start_celery(role)
    assert healthy(role, "--wait", "60")


@pytest.mark.django_db(transaction=True)
def test_the_health_check_tells_whether_the_web_server_answers(live_server: LiveServer) -> None:
    assert not healthy("web", "--url", "http://127.0.0.1:1")
    assert healthy("web", "--url", live_server.url)


def test_by_default_the_web_server_is_checked_where_it_listens() -> None:
    assert "127.0.0.1:8000" in (DEPLOY / "anaphora-web.service").read_text()
    assert "0.0.0.0:8000" in (DEPLOY / "Dockerfile").read_text()


def test_the_timer_checks_alerts_by_a_command_that_exists() -> None:
    unit = (DEPLOY / "anaphora-alerts.service").read_text()
    assert "ExecStart=/opt/anaphora/.venv/bin/python manage.py check_alerts\n" in unit
    assert "check_alerts" in get_commands()


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_the_commands_are_celery_s(role: str) -> None:
    unit = (DEPLOY / f"anaphora-{role}.service").read_text()
    command = re.search(r"^ExecStart=\S+/celery (.*)$", unit, re.MULTILINE)
    assert command
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert ["celery", *command[1].split()] == services[role]["command"]
    program = shutil.which("celery", path=str(Path(sys.executable).parent))
    shown = subprocess.run(
        [str(program), "--app", "anaphora", role, "--help"],
        cwd=ROOT,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in re.findall(r"--[a-z-]+", command[1].partition(role)[2]):
        assert option in shown
