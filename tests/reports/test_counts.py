"""Numbers of reports are exact, whatever inserts reports, and nobody waits for them."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.reports import count_triggers, counts
from anaphora.reports.models import Dashboard, Report, ReportCount
from tests.support.factories import NOON, make_report

pytestmark = pytest.mark.django_db


def rows(dashboard: Dashboard, number: int, content: str = "0") -> list[Report]:
    """Reports that nothing has ingested: one per second, all with this content."""
    instants = (NOON + timedelta(seconds=second) for second in range(number))
    same: dict[str, Any] = {"content_type": "text/csv", "size": 1, "sha256": content * 64, "md5": content * 32}
    return [Report(dashboard=dashboard, rendered_at=instant, filename="a.csv", **same) for instant in instants]


def number(dashboard: Dashboard) -> int:
    return counts.report_counts([dashboard.pk])[dashboard.pk]


def test_each_report_counts_once_however_it_comes() -> None:
    sales, stock, empty = (Dashboard.objects.create(slug=slug) for slug in ("sales", "stock", "empty"))
    for _ in range(2):
        make_report(b"%PDF-1.7 a", dashboard="sales", rendered_at=NOON)
    make_report(dashboard="sales")
    Report.objects.bulk_create([*rows(stock, 300), *rows(sales, 1)])
    Report.objects.bulk_create(rows(stock, 2), ignore_conflicts=True)
    found = counts.report_counts([sales.pk, stock.pk, empty.pk])
    assert found == {sales.pk: 3, stock.pk: 300, empty.pk: 0}
    with CaptureQueriesContext(connection) as queries:
        counts.report_counts(found)
    assert len(queries) == 1
    Report.objects.filter(dashboard=stock).delete()
    assert number(stock) == 0


def test_what_is_rolled_back_does_not_count() -> None:
    sales = Dashboard.objects.create(slug="sales")
    with transaction.atomic():
        Report.objects.bulk_create(rows(sales, 5))
        assert number(sales) == 5
        transaction.set_rollback(True)
    assert number(sales) == 0


def test_the_api_tells_the_exact_number(client: Client) -> None:
    Report.objects.bulk_create(rows(Dashboard.objects.create(slug="sales"), 1000))
    Dashboard.objects.create(slug="stock", title="Stock")
    headers = {"Authorization": f"Bearer {tokens.create('reader', [Scope.READ])[1]}"}
    for more in (0, 1):
        if more:
            make_report(dashboard="sales", rendered_at=NOON + timedelta(days=1))
        latest = NOON + (timedelta(days=1) if more else timedelta(seconds=999))
        found = client.get("/api/v1/dashboards", headers=headers).json()
        assert [(each["slug"], each["title"], each["reports"]) for each in found] == [
            ("sales", "sales", 1000 + more),
            ("stock", "Stock", 0),
        ]
        assert datetime.fromisoformat(found[0]["latest"]) == latest
        assert found[1]["latest"] is None


def test_triggers_that_are_lost_come_back_and_what_came_meanwhile_is_counted() -> None:
    sales = Dashboard.objects.create(slug="sales")
    Report.objects.bulk_create(rows(sales, 3))
    on = " ON reports_report" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER reports_count_inserted{on}")
        cursor.execute(f"DROP TRIGGER reports_count_deleted{on}")
    make_report(dashboard="sales", rendered_at=NOON + timedelta(days=1))
    assert number(sales) == 3
    for _ in range(2):
        count_triggers.install(using=connection.alias)
        assert number(sales) == 4
    make_report(dashboard="sales", rendered_at=NOON + timedelta(days=2))
    assert number(sales) == 5


class InAnotherTransaction(threading.Thread):
    """Inserts reports and keeps its transaction open until it is told to commit."""

    def __init__(self, reports: list[Report]) -> None:
        super().__init__()
        self.reports = reports
        self.inserted, self.commit = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            with transaction.atomic():
                Report.objects.bulk_create(self.reports)
                self.inserted.set()
                self.commit.wait(20)
        finally:
            connection.close()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite lets one transaction write at a time")
@pytest.mark.django_db(transaction=True)
def test_transactions_that_insert_reports_of_a_dashboard_do_not_wait_for_each_other() -> None:
    sales = Dashboard.objects.create(slug="sales")
    Report.objects.bulk_create(rows(sales, 1))
    others = [InAnotherTransaction(rows(sales, 3, content)) for content in "123"]
    for other in others:
        other.start()
    try:
        assert all(other.inserted.wait(10) for other in others), "one waits for another"
        make_report(dashboard="sales", rendered_at=NOON + timedelta(days=1))
        assert number(sales) == 2
    finally:
        for other in others:
            other.commit.set()
            other.join()
    assert number(sales) == 11
    before = ReportCount.objects.count()
    Report.objects.bulk_create(rows(sales, 4, "4"))
    assert (number(sales), ReportCount.objects.count()) == (15, before)
