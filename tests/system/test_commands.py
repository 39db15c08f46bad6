"""Common behaviour of all commands: no terminal escape sequences, and one sentence for a database problem."""

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.utils import timezone

from anaphora import commands
from anaphora.deliveries import engine
from anaphora.deliveries.models import ArchivePolicy, Delivery
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT

OURS = sorted(name for name, app in get_commands().items() if app.startswith(("anaphora", "delivery_s3")))
HOSTILE = "a\x1b[2Jb\x9b1mc\nd\u202ee\x07"


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_our_base_class(name: str) -> None:
    assert isinstance(load_command_class(get_commands()[name], name), commands.Command)


@pytest.mark.django_db
def test_no_command_prints_terminal_escape_sequences(interface: S3Interface, bucket: Bucket, tmp_path: Path) -> None:
    make_policy(interface)
    gone = make_report()
    make_report()
    engine.deliver_due(interface.pk)
    bucket.client.put_object(Bucket=bucket.name, Key="sales/2026/\x1b]0;title\x07.pdf", Body=b"")
    Report.objects.update(filename=HOSTILE)
    Dashboard.objects.update(title=HOSTILE)
    ArchivePolicy.objects.update(name=HOSTILE)
    S3Interface.objects.update(name=HOSTILE)
    Delivery.objects.filter(report=gone).update(object_key=f"sales/{HOSTILE}")
    named = tmp_path / HOSTILE
    named.write_bytes(b"%PDF-1.7 named")
    calls: list[list[str]] = [
        ["ingest", str(named), "--dashboard", "sales"],
        ["ingest", str(tmp_path / f"none{HOSTILE}"), "--dashboard", "sales"],
        ["ingest", str(named), "--dashboard", HOSTILE],
        ["as_of", "sales", "2027-01-01"],
        ["as_of", HOSTILE, "2027-01-01"],
        ["deliver_due"],
        ["deliver_due", "--interface", f"no{HOSTILE}"],
        ["verify_archive"],
        ["rebuild_index", HOSTILE],
        ["backfill", HOSTILE],
        ["backfill", f"no{HOSTILE}"],
        ["test_s3_interface", HOSTILE],
        ["create_api_token", HOSTILE, "--scope", "read"],
        ["rotate_fernet_keys"],
        ["housekeeping"],
        ["check_alerts"],
        ["health", "worker"],
        ["write_manifests", "--until", str(timezone.now().date())],
        ["public_key"],
        ["evidence", f"sales/{HOSTILE}", "--output", str(tmp_path / f"x{HOSTILE}.zip")],
        ["rotate_signing_key"],
    ]
    assert {call[0] for call in calls} == set(OURS)
    printed = {}
    for call in calls:
        for more in ([], ["--json"]):
            out, err = io.StringIO(), io.StringIO()
            with suppress(CommandError, SystemExit):
                call_command(*call, *more, stdout=out, stderr=err)
            text = out.getvalue() + err.getvalue()
            printed[" ".join([call[0], *more])] = text
            assert not [each for each in text if not each.isprintable() and each not in "\n\t"], (call, text)
    assert "a\\x1b[2Jb\\x9b1mc\\nd\\u202ee\\x07" in printed["verify_archive"]


AWAY = "postgresql://somebody:s3ntinel@127.0.0.1:1/anaphora"


EACH_IN_A_FORK = """
import json, os, runpy, sys
import django
django.setup()
for arguments in json.loads(sys.argv[1]):
    if (child := os.fork()) == 0:
        sys.argv = ["manage.py", *arguments]
        runpy.run_path("manage.py", run_name="__main__")
        os._exit(0)
    print(f"\\n--- {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", file=sys.stderr, flush=True)
"""
"""Runs commands as manage.py does. The program starts once for all of them, which takes most of the time."""


def failures(database: str, folder: Path, *commands: list[str]) -> list[str]:
    """Run these commands, which must all fail; return their standard error outputs."""
    environment = os.environ | {
        "DATABASE_URL": database,
        "DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "anaphora.settings",
        "DJANGO_SUPERUSER_PASSWORD": "s3ntinel",
        "SECRET_KEY": "a",
        "FERNET_KEYS": "a",
    }
    program = [sys.executable, "-c", EACH_IN_A_FORK, json.dumps(commands)]
    result = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "s3ntinel" not in result.stdout + result.stderr
    *said, rest = result.stderr.split("\n--- 1\n")
    assert (len(said), rest) == (len(commands), ""), result.stderr
    return said


ASKING = [
    ["deliver_due"],
    ["as_of", "sales", "2026-01-01"],
    ["create_api_token", "name", "--scope", "read"],
    ["createsuperuser", "--noinput", "--username=a", "--email=a@b.cd"],
]


def test_an_unreachable_database_is_explained_in_one_sentence(tmp_path: Path) -> None:
    for said in failures(AWAY, tmp_path, *ASKING, ["migrate"]):
        assert "Traceback" not in said
        assert "The database cannot be used: " in said
        assert "DATABASE_URL" in said


def test_a_database_without_tables_is_explained_in_one_sentence(tmp_path: Path) -> None:
    for said in failures(f"sqlite:///{tmp_path / 'empty.sqlite3'}", tmp_path, *ASKING):
        assert said == "The database is not migrated to this version. Run: python manage.py migrate\n"


@pytest.mark.parametrize("damage", ["no database", "cut"])
def test_a_corrupt_database_file_is_explained_in_one_sentence(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "corrupt.sqlite3"
    with closing(sqlite3.connect(file)) as database:
        database.executescript("CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(100000));")
    whole = file.read_bytes()
    file.write_bytes(b"not a database at all" * 1000 if damage == "no database" else whole[:100] + b"x" * 5000)
    for said in failures(f"sqlite:///{file}", tmp_path, *ASKING, ["migrate"]):
        assert said.startswith("The database file is damaged or not an SQLite database: ")
        assert "DATABASE_URL" in said
        assert said.count("\n") == 1


def test_the_traceback_is_shown_on_request(tmp_path: Path) -> None:
    (said,) = failures(AWAY, tmp_path, ["migrate", "--traceback"])
    assert "Traceback" in said
