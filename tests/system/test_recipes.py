"""Runs every command of docs/recipes.md unchanged."""

import http.server
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from PIL import Image
from pytest_django.live_server_helper import LiveServer

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.reports import inbox
from anaphora.reports.models import Report
from tests.support import recipes
from tests.support.browsing import CHROMIUM
from tests.support.samples import MAKERS

pytestmark = pytest.mark.django_db(transaction=True)

RECIPES = recipes.read("recipes.md")
PDF, PNG = MAKERS["pdf"][1](1), MAKERS["png"][1](1)


class Renderers(http.server.BaseHTTPRequestHandler):
    """Simulates the reporting of Grafana and Kibana, with the paths and error responses of the real programs."""

    asked = 0

    def do_GET(self) -> None:
        kibana = self.path.startswith("/api/reporting/jobs/download/")
        if kibana:
            type(self).asked += 1
            if type(self).asked < 3:
                self.answer(503, b"", {"Retry-After": "1"})
            elif self.headers.get("Authorization", "").startswith("Basic "):
                self.answer(200, PDF)
        elif self.headers.get("Authorization") != "Bearer grafana":
            self.answer(401, b"")
        elif self.path.startswith("/render/d/cIBgcSjkk/sales?"):
            self.answer(200, PNG)
        elif self.path.startswith("/api/reports/render/pdfs?dashboards="):
            self.answer(200, PDF)
        else:
            self.answer(404, b"")

    def do_POST(self) -> None:
        wanted = self.path.startswith("/api/reporting/generate/printablePdfV2") and self.headers.get("kbn-xsrf")
        self.answer(200 if wanted else 400, json.dumps({"path": "/api/reporting/jobs/download/k1"}).encode())

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def renderers() -> Iterator[str]:
    Renderers.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Renderers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def run(tmp_path: Path, live_server: LiveServer, renderers: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a recipe in a new folder."""
    cache.clear()
    (tmp_path / "sales.pdf").write_bytes(PDF)
    (tmp_path / "page.html").write_text("<h1>Sales</h1>")
    (tmp_path / "inbox").mkdir()
    monkeypatch.setattr(settings, "INBOX_DIR", tmp_path / "inbox")
    monkeypatch.setattr(settings, "INBOX_SETTLE_SECONDS", 0)
    environment = os.environ | {
        "ANAPHORA": live_server.url,
        "TOKEN": tokens.create("recipes", [Scope.INGEST])[1],
        "INBOX": str(tmp_path / "inbox"),
        "GRAFANA": renderers,
        "GRAFANA_TOKEN": "grafana",
        "KIBANA": renderers,
        "KIBANA_USER": "elastic:secret",
        "REPORT_URL": f"{renderers}/api/reporting/generate/printablePdfV2?jobParams=x",
        "PAGE": f"file://{tmp_path}/page.html",
        "HOME": str(tmp_path),
    }

    def run_recipe(name: str) -> Report:
        recipes.run(RECIPES[name], tmp_path, environment)
        inbox.scan()
        return Report.objects.get()

    return run_recipe


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("curl", "application/pdf"),
        ("python", "application/pdf"),
        ("inbox", "application/pdf"),
        ("grafana-image", "image/png"),
        ("grafana-pdf", "application/pdf"),
        ("kibana", "application/pdf"),
        ("cron", "text/csv"),
    ],
)
def test_each_recipe_ingests_its_report(run: Any, name: str, content_type: str) -> None:
    if not shutil.which("curl"):
        pytest.fail("the recipes need curl")
    report = run(name)
    assert report.content_type == content_type
    if content_type != "text/csv":
        assert report.local_path.read_bytes() in {PDF, PNG}


@pytest.mark.browser
def test_a_page_is_photographed(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chromium").symlink_to(str(CHROMIUM))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    report = run("browser")
    with Image.open(io.BytesIO(report.local_path.read_bytes())) as image:
        assert image.size == (1600, 1200)


def test_no_recipe_is_left_out() -> None:
    tried = {"curl", "python", "inbox", "grafana-image", "grafana-pdf", "kibana", "cron", "browser"}
    assert set(RECIPES) == tried
