import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE")}
    defaults = {"SECRET_KEY": "x", "FERNET_KEYS": "x", "DATA_DIR": str(tmp_path / "data"), "ENV_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=base | {name: value for name, value in (defaults | environment).items() if value},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_defaults_are_enough_to_start(tmp_path: Path) -> None:
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data" / "broker" / "messages").is_dir()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("FERNET_KEYS", ""),
        ("DEBUG", "perhaps"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("LOG_LEVEL", "LOUD"),
        ("DELIVERY_CONCURRENCY", "0"),
        ("DELIVERY_LEASE_SECONDS", "1.5"),
        ("DELIVERY_SWEEP_SECONDS", "soon"),
        ("DATABASE_URL", "mysql://user:hunter2@host/name"),
        ("DATABASE_URL", "postgresql://user:hunter2@host:port/name"),
        ("CELERY_BROKER_URL", "ftp://user:hunter2@host"),
        ("DATA_DIR", "/dev/null/data"),
        ("DOCS_URL", "javascript:alert(1)"),
        ("OIDC_GROUPS", "admins"),
        ("AUDIT_RETENTION", "for ever"),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    result = start(tmp_path, **{name: value})
    assert result.returncode != 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"anaphora: setting {name}: ")
    assert "hunter2" not in result.stderr


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    result = start(tmp_path, SECRET_KEY="", SECRET_KEY_FILE=str(secret))
    assert result.returncode == 0, result.stderr


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    result = start(tmp_path, SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "none"))
    assert result.stderr.startswith("anaphora: setting SECRET_KEY: the file named by SECRET_KEY_FILE cannot be read")


def test_values_come_from_the_env_file_too(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("SECRET_KEY='x'\nFERNET_KEYS='y'\nTIME_ZONE=Nowhere\n")
    result = start(tmp_path, SECRET_KEY="", FERNET_KEYS="", ENV_FILE=str(tmp_path / "env"))
    assert "setting TIME_ZONE: 'Nowhere' is not a time zone" in result.stderr


def test_every_setting_has_its_heading_in_the_documentation() -> None:
    import re

    source = (ROOT / "anaphora" / "settings.py").read_text()
    names = set(re.findall(r'_read\("([A-Z_]+)"', source))
    documented = set(re.findall(r"^### `([A-Z_]+)`", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    assert len(names) > 10
    assert documented == names | {"ENV_FILE"}


CONNECT = "from django.db import connection; connection.ensure_connection()"


@pytest.mark.parametrize(
    "entry",
    [
        ["manage.py", "migrate", "--verbosity", "0"],
        ["-c", f"import anaphora.wsgi; {CONNECT}"],
        ["-c", f"from anaphora.celery import app; app.loader.import_default_modules(); {CONNECT}"],
    ],
)
def test_no_other_user_can_read_what_the_program_creates(tmp_path: Path, entry: list[str]) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    database = tmp_path / "elsewhere" / "archive.sqlite3"
    environment = os.environ | {
        "SECRET_KEY": "x",
        "FERNET_KEYS": "x",
        "DATA_DIR": str(tmp_path / "data"),
        "ENV_FILE": os.devnull,
        "DATABASE_URL": f"sqlite:///{database}",
        "DJANGO_SETTINGS_MODULE": "anaphora.settings",
    }
    subprocess.run([sys.executable, *entry], cwd=ROOT, env=environment, check=True, umask=0o022)
    files = [path for path in tmp_path.rglob("*") if path != database.parent]
    assert database in files
    assert [path for path in files if path.stat().st_mode & 0o077] == []
