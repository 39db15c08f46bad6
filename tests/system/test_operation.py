"""Install, back up, lose everything, restore and upgrade, with the unchanged commands of docs/operation.md."""

import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from tests.support import recipes
from tests.support.buckets import Bucket
from tests.support.processes import ROOT, printed_by
from tests.support.servers import S3Server

REPORTS = 100_000
OPERATION = recipes.read("operation.md")

FILL = """
import hashlib, json, sys
from datetime import timedelta
from django.utils import timezone
from anaphora.deliveries.models import ArchivePolicy
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface

number, values = int(sys.argv[1]), json.loads(sys.argv[2])
interface = S3Interface.objects.create(name="production", provider="other", **values)
sales = Dashboard.objects.create(slug="sales")
ArchivePolicy.objects.create(name="sales", interface=interface).dashboards.add(sales)
history = Dashboard.objects.create(slug="history")
reports = []
for n in range(number):
    content = b"%%PDF-1.7 report %d" % n
    report = Report(
        dashboard=history, rendered_at=timezone.now() - timedelta(minutes=n), filename="history.pdf", preview="none",
        content_type="application/pdf", size=len(content), sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
    )
    report.file.name = report.local_name
    report.local_path.parent.mkdir(parents=True, exist_ok=True)
    report.local_path.write_bytes(content)
    reports.append(report)
Report.objects.bulk_create(reports, batch_size=500)
"""

COMPARE = """
import hashlib
from anaphora.deliveries.models import Delivery
from anaphora.reports.models import Report

for report in Report.objects.select_related("dashboard").iterator():
    content = report.local_path.read_bytes() if report.file else None
    assert content is None or hashlib.sha256(content).hexdigest() == report.sha256, report.pk
delivered = Delivery.objects.filter(state="delivered")
print(Report.objects.count(), Report.objects.exclude(file="").count(), delivered.count())
"""

NEXT_VERSION = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reports", "0001_initial")]
    operations = [
        migrations.AddField("report", "of_the_next_version", models.CharField(default="there", max_length=10)),
    ]
"""


@dataclass
class Machine:
    """An installation in a folder, and the variables that the page uses."""

    variables: dict[str, str]

    def run(self, *names: str, **more: str) -> str:
        """Run commands of the page by name; return the output of the last one."""
        printed = ""
        for name in names:
            language, code = OPERATION[name]
            assert language == "sh"
            printed = self._printed(["bash", "-euo", "pipefail", "-c", code], more)
        return printed

    def manage(self, *arguments: str) -> str:
        return self._printed([self._python, f"{self.variables['APP']}/manage.py", *arguments])

    def execute(self, code: str, *arguments: str) -> str:
        """Run code in the installed version."""
        started = f"import django; django.setup()\n{code}"
        return self._printed([self._python, "-c", started, *arguments])

    def ingest(self, *contents: bytes) -> None:
        """Ingest and deliver reports of the dashboard `sales`."""
        folder = Path(self.variables["DATA_DIR"]).with_name("rendered")
        folder.mkdir(exist_ok=True)
        files = []
        for content in contents:
            files.append(folder / f"{content.decode()}.txt")
            files[-1].write_bytes(content)
        self.manage("ingest", "--dashboard", "sales", *map(str, files))
        self.manage("deliver_due")

    def lose(self) -> None:
        """Delete everything except the backup."""
        for name in ("APP", "DATA_DIR"):
            shutil.rmtree(self.variables[name])
        Path(self.variables["ENV_FILE"]).unlink()

    @property
    def _python(self) -> str:
        return f"{self.variables['APP']}/.venv/bin/python"

    def _printed(self, command: list[str], more: dict[str, str] | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if name in KEPT}
        environment |= {"DJANGO_SETTINGS_MODULE": "anaphora.settings", "PYTHONPATH": self.variables["APP"]}
        folder = Path(self.variables["DATA_DIR"]).parent
        return printed_by(command, folder, environment | self.variables | (more or {}), seconds=600)


KEPT = {"PATH", "HOME", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT", "SSL_CERT_FILE"}
"""Environment variables of a shell on the machine, in addition to those of the page."""


@pytest.fixture
def databases() -> Iterator[Callable[[], str]]:
    """Return a function that creates an empty database, SQLite or PostgreSQL as in the tests, and returns its URL."""
    if connection.vendor == "sqlite":
        yield lambda: ""
        return
    config = connection.settings_dict
    server = f"postgresql://{config['USER']}:{config['PASSWORD']}@{config['HOST']}:{config['PORT']}"
    name = f"operation_{os.getpid()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:

        def drop() -> None:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

        def make() -> str:
            drop()
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return f"{server}/{name}"

        yield make
        drop()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of the code with two releases: the present one, and one with an additional migration."""
    folder = tmp_path / "repository"
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.cd"]
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run([*git, "tag", "v1.0"], check=True)
    (folder / "anaphora/reports/migrations/0002_next_version.py").write_text(NEXT_VERSION)
    models = folder / "anaphora/reports/models.py"
    added = '\nReport.add_to_class("of_the_next_version", models.CharField(default="there", max_length=10))\n'
    models.write_text(models.read_text() + added)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "The next release"], check=True)
    subprocess.run([*git, "tag", "v1.1"], check=True)
    return folder


@pytest.fixture
def machine(tmp_path: Path, repository: Path, databases: Callable[[], str]) -> Machine:
    url = databases()
    variables = {
        "APP": str(tmp_path / "app"),
        "ENV_FILE": str(tmp_path / "anaphora.env"),
        "DATA_DIR": str(tmp_path / "data"),
        "OWNER": getpass.getuser(),
        "BACKUP": str(tmp_path / "backup"),
        "REPOSITORY": str(repository),
        "VERSION": "v1.0",
    } | ({"DATABASE_URL": url} if url else {})
    settings = {"SECRET_KEY": "x" * 50, "FERNET_KEYS": "y" * 50, "ALLOWED_HOSTS": "*"}
    settings |= {name: variables[name] for name in ("DATA_DIR", "DATABASE_URL") if name in variables}
    Path(variables["ENV_FILE"]).write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    return Machine(variables)


@pytest.mark.heavy
@pytest.mark.django_db
def test_a_machine_is_installed_lost_restored_and_upgraded(
    machine: Machine,
    databases: Callable[[], str],
    s3: S3Server,
    moto: S3Server,
    make_bucket: Callable[..., Bucket],
    tmp_path: Path,
) -> None:
    kind = connection.vendor
    machine.run("folders", "install", "migrate")
    bucket = make_bucket(moto if s3.kind == "rclone" else s3)  # a folder keeps no metadata to rebuild from
    server = bucket.server
    values = {"bucket_name": bucket.name, "endpoint_url": server.endpoint, "ca_bundle": server.ca_bundle}
    values |= {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key}
    machine.execute(FILL, str(REPORTS), json.dumps(values | {"region": server.region}))
    machine.ingest(*(b"before %d" % n for n in range(20)))
    machine.run(f"backup-{kind}")
    machine.ingest(*(b"after %d" % n for n in range(10)))

    machine.lose()
    databases()
    machine.run("restore-settings", "restore-code", f"restore-{kind}", "restore-files", "restore-check")
    assert machine.execute(COMPARE).split() == [str(REPORTS + 20), str(REPORTS + 20), "20"]
    machine.run("restore-index", INTERFACE="production")
    assert "30 same" in machine.run("restore-verify")
    assert machine.execute(COMPARE).split() == [str(REPORTS + 30), str(REPORTS + 20), "30"]

    machine.variables |= {"BACKUP": str(tmp_path / "before the upgrade"), "VERSION": "v1.1"}
    machine.run(f"backup-{kind}", "upgrade")
    machine.ingest(b"later")
    assert "31 same" in machine.run("restore-verify")
    assert machine.execute(COMPARE).split() == [str(REPORTS + 31), str(REPORTS + 21), "31"]
    asked = "from anaphora.reports.models import Report; print(set(Report.objects.values_list('of_the_next_version')))"
    assert machine.execute(asked).strip() == "{('there',)}"
