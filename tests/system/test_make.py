"""`make` sets up the environment: what is installed, by what, and from which package index."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
case "$*" in
  *"-m venv"*)
    mkdir -p .venv/bin && cp "$0" .venv/bin/python
    [ -z "$VENV_FAILS" ] || exit 1
    cp "$TOOLS/pip" .venv/bin/pip ;;
  *) echo "python $*" >>"$LOG" ;;
esac
"""
PIP = """#!/bin/sh
case "$*" in
  "config get global.index-url") [ -n "$INDEX_IN_PIP_CONF" ] && echo "$INDEX_IN_PIP_CONF" ;;
  "install "*" uv") cp "$TOOLS/uv" .venv/bin/uv ;;
  *) echo "pip $*" >>"$LOG" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $* from ${UV_DEFAULT_INDEX-its own index}" >>"$LOG"
[ -z "$UV_FAILS" ]
"""


class Checkout:
    """The Makefile and the requirements in a folder, with programs that only record their arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._log = folder, folder / "log"
        for file in (ROOT / "Makefile", *ROOT.glob("requirements*")):
            shutil.copy(file, folder)
        tools, path = folder / "tools", folder / "path"
        for each, names in {tools: ("pip", "uv"), path: ("python3", "uv")}.items():
            each.mkdir()
            for name in names:
                (each / name).write_text({"python3": PYTHON, "pip": PIP, "uv": UV}[name])
                (each / name).chmod(0o755)
        for name in ("make", "sh", "mkdir", "cp", "touch"):  # and no uv of this machine
            (path / name).symlink_to(shutil.which(name) or name)
        self._environment = {"PATH": str(path), "LOG": str(self._log), "TOOLS": str(tools)}

    def make(self, target: str, **environment: str) -> bool:
        command = ["make", "--silent", target]
        return not subprocess.run(
            command, cwd=self.folder, env=self._environment | environment, capture_output=True, timeout=30, check=False
        ).returncode

    def installed(self) -> list[str]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [line for line in lines if "--requirement" in line]

    def without_uv(self) -> None:
        (self.folder / "path/uv").unlink()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_demo_does_not_install_test_tools(checkout: Checkout) -> None:
    assert checkout.make("demo")
    [line] = checkout.installed()
    assert "--requirement requirements-demo.lock" in line
    assert checkout.make("demo")
    assert len(checkout.installed()) == 1
    assert checkout.make("test")
    assert "--requirement requirements-dev.lock" in checkout.installed()[1]
    assert checkout.make("demo")
    assert len(checkout.installed()) == 2


@pytest.mark.parametrize(
    ("environment", "index"),
    [
        ({}, "its own index"),
        ({"INDEX_IN_PIP_CONF": "https://mirror.test/simple"}, "https://mirror.test/simple"),
        ({"PIP_INDEX_URL": "https://mirror.test/simple"}, "https://mirror.test/simple"),
        ({"PIP_INDEX_URL": "https://a.test/", "UV_DEFAULT_INDEX": "https://b.test/"}, "https://b.test/"),
        ({"PIP_INDEX_URL": "https://a.test/", "UV_INDEX_URL": "https://b.test/"}, "https://b.test/"),
    ],
)
def test_uv_is_given_the_index_of_pip(checkout: Checkout, environment: dict[str, str], index: str) -> None:
    assert checkout.make("demo", **environment)
    [line] = checkout.installed()
    assert line.startswith("uv pip install")
    assert line.endswith(f"from {index}")


def test_pip_installs_where_uv_cannot(checkout: Checkout) -> None:
    assert checkout.make("demo", UV_FAILS="yes")
    assert [line.split()[0] for line in checkout.installed()] == ["uv", "pip"]


def test_uv_is_installed_where_there_is_none(checkout: Checkout) -> None:
    checkout.without_uv()
    assert checkout.make("demo")
    assert [line.split()[0] for line in checkout.installed()] == ["uv"]


def test_an_incomplete_environment_is_created_again(checkout: Checkout) -> None:
    checkout.without_uv()
    assert not checkout.make("demo", VENV_FAILS="yes")
    assert (checkout.folder / ".venv/bin/python").exists()
    assert checkout.make("demo")
    assert len(checkout.installed()) == 1


@pytest.mark.parametrize("name", ["requirements", "requirements-demo", "requirements-dev"])
def test_the_lock_holds_what_the_requirements_name_with_hashes(name: str) -> None:
    locked = {}
    for package in re.split(r"\n(?=\S)", (ROOT / f"{name}.lock").read_text().strip()):
        pinned, *hashes = package.split()
        assert any(each.startswith("--hash=sha256:") for each in hashes), pinned
        wanted, _, version = pinned.partition("==")
        locked[wanted] = version
    pins = re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)$", (ROOT / f"{name}.txt").read_text(), re.MULTILINE)
    assert pins
    for wanted, version in pins:
        assert locked[wanted.lower()] == version
