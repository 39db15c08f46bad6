"""Runs every command of docs/reading.md unchanged: other programs read the archive without Anaphora."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from anaphora.deliveries import engine, verifier
from anaphora.deliveries.models import Delivery
from anaphora.reports.models import Report
from tests.support import archives, recipes
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.servers import S3Server

pytestmark = pytest.mark.django_db

RECIPES = recipes.read("reading.md")


@pytest.fixture
def run(s3: S3Server, moto: S3Server, make_bucket: Callable[..., Bucket], tmp_path: Path) -> Callable[[str], str]:
    """Archive five days of two dashboards, one of them twice a day; return a function that runs recipes."""
    bucket = make_bucket(moto if s3.kind == "rclone" else s3)
    interface = make_interface(bucket.server, bucket.name)
    make_policy(interface)
    for number in range(10):
        rendered_at = datetime(2026, 2, 27, 6, tzinfo=UTC) + timedelta(hours=12 * number)
        make_report(rendered_at=rendered_at)
        if number % 2 == 0:
            make_report(dashboard="stock", rendered_at=rendered_at)
    assert engine.deliver_due(interface.pk).complete
    for row in Delivery.objects.select_related("report"):
        Delivery.objects.filter(pk=row.pk).update(delivered_at=row.report.rendered_at)
    archives.write(interface, date(2026, 3, 9))
    archives.public_key(tmp_path)
    (tmp_path / "verify_archive.py").write_bytes(verifier.content())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "ENDPOINT": bucket.server.endpoint,
        "BUCKET": bucket.name,
        "AWS_ACCESS_KEY_ID": bucket.server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": bucket.server.secret_access_key,
        "AWS_DEFAULT_REGION": bucket.server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    return lambda name: recipes.run(RECIPES[name], tmp_path, environment)


def of(dashboard: str, *moments: str) -> list[bytes]:
    """Return the contents of the reports rendered at these times."""
    found = Report.objects.filter(dashboard__slug=dashboard).order_by("rendered_at")
    wanted = [datetime.fromisoformat(moment) for moment in moments]
    return [each.local_path.read_bytes() for each in found if not wanted or each.rendered_at in wanted]


def test_what_it_looked_like_then(run: Callable[[str], str], tmp_path: Path) -> None:
    run("aws-as-of")
    assert [(tmp_path / "report.pdf").read_bytes()] == of("sales", "2026-03-01T06:00:00Z")


def test_the_stored_file_is_the_ingested_one(run: Callable[[str], str], tmp_path: Path) -> None:
    assert "report.pdf: OK" in run("aws-verify")
    assert [(tmp_path / "report.pdf").read_bytes()] == of("sales", "2026-03-01T06:00:00Z")


def test_listing_a_month(run: Callable[[str], str], tmp_path: Path) -> None:
    run("rclone")
    found = [path.read_bytes() for path in sorted((tmp_path / "march").rglob("*.pdf"))]
    assert found == of("sales")[4:]


def test_listing_everything(run: Callable[[str], str], tmp_path: Path) -> None:
    run("s5cmd")
    assert [path.read_bytes() for path in sorted((tmp_path / "sales").rglob("*.pdf"))] == of("sales")


def test_a_day_without_a_listing(run: Callable[[str], str], tmp_path: Path) -> None:
    run("manifest")
    found = [path.read_bytes() for path in sorted((tmp_path / "day").iterdir())]
    assert found == of("sales", "2026-03-02T06:00:00Z", "2026-03-02T18:00:00Z")


def test_figures_over_everything(run: Callable[[str], str]) -> None:
    run("manifests")
    lines = run("duckdb").splitlines()
    wanted = []
    for dashboard in ("sales", "stock"):
        for month in (2, 3):
            sizes = [
                report.size for report in Report.objects.filter(dashboard__slug=dashboard, rendered_at__month=month)
            ]
            wanted.append(f"{dashboard} 2026-0{month} {len(sizes)} {sum(sizes)}")
    assert lines == wanted


def test_all_of_it_is_there(run: Callable[[str], str]) -> None:
    assert "PROVEN: every report" in run("verify")
    assert "Signature Verified Successfully" in run("sha256sum")


def test_no_recipe_is_left_out() -> None:
    used = {"aws-as-of", "aws-verify", "rclone", "s5cmd", "manifest", "verify", "sha256sum", "manifests", "duckdb"}
    assert set(RECIPES) == used
