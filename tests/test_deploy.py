"""What is in deploy/, checked as far as that goes without installing it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


@pytest.mark.systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """On the paths of this checkout, as the verification asks for programs that exist."""
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


def test_compose_accepts_its_file() -> None:
    program = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert program
    command = [program, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_is_everything_that_it_takes() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {"postgres", "redis", "web", "worker", "beat", "s3"} <= set(services)
    assert {unit.stem for unit in UNITS} == {"anaphora-web", "anaphora-worker", "anaphora-beat"}
    known = (ROOT / "docs" / "configuration.md").read_text()
    for name in services["web"]["environment"]:
        assert f"### `{name}`" in known
    for each in (DEPLOY / "Dockerfile").read_text().splitlines():
        for source in each.split()[1:-1] if each.startswith("COPY") else []:
            assert (ROOT / source).exists(), source


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
