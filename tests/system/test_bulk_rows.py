import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from anaphora.bulk_rows import NewRows, batched, insert_rows, update_rows
from anaphora.deliveries.models import Delivery, State
from anaphora.operations.audit_models import AuditEntry
from anaphora.reports.models import Dashboard, Report
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.servers import S3Server

pytestmark = pytest.mark.django_db

INSTANT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
ODD = 'it\'s "odd" \\ %s ä 猫 \n'


@pytest.fixture
def deliveries(s3: S3Server) -> list[Delivery]:
    make_policy(make_interface(s3, "bucket"))
    for _ in range(3):
        make_report()
    return list(Delivery.objects.order_by("pk"))


def test_each_row_gets_its_own_values_by_one_statement(deliveries: list[Delivery]) -> None:
    first, second, third = deliveries
    changes: list[dict[str, Any]] = [
        {"id": first.pk, "due_at": INSTANT, "attempts": 3, "lease": None, "detail": ODD, "size": 2**40},
        {"id": second.pk, "due_at": INSTANT, "attempts": 4, "lease": None, "detail": "", "size": None},
        {"id": -1, "due_at": INSTANT, "attempts": 5, "lease": None, "detail": "", "size": None},
    ]
    with CaptureQueriesContext(connection) as queries:
        update_rows(Delivery, changes)
    assert len(queries) == 1
    fields = ("due_at", "attempts", "lease", "detail", "size")
    assert list(Delivery.objects.order_by("pk").values_list(*fields)) == [
        (INSTANT, 3, None, ODD, 2**40),
        (INSTANT, 4, None, "", None),
        (third.due_at, 0, None, "", None),
    ]


@pytest.mark.parametrize("number", [2, 4, 5, 20])
def test_rows_are_inserted_and_those_that_are_there_are_left_alone(number: int) -> None:
    dashboard, known = Dashboard.objects.create(slug="stock"), make_report()
    same: dict[str, Any] = {"content_type": "text/csv", "size": 1, "sha256": "0" * 64, "md5": "0" * 32}
    same |= {"file": "", "ingested_at": INSTANT, "pages": 0, "preview": "none", "dashboard": dashboard.pk}
    new = [{"id": uuid.uuid4(), "rendered_at": INSTANT.replace(day=1 + day), "filename": ODD} for day in range(number)]
    rows = [*new, {"id": uuid.uuid4(), "rendered_at": INSTANT.replace(day=1), "filename": "the same report"}]
    rows.append({"id": known.pk, "rendered_at": INSTANT, "filename": "another"})
    with CaptureQueriesContext(connection) as queries:
        assert insert_rows(Report, rows, **same) == {row["id"] for row in new}
        assert insert_rows(Report, rows, **same) == set()
    assert len(queries) == 2
    found = Report.objects.filter(dashboard=dashboard).order_by("rendered_at")
    assert [(row.pk, row.rendered_at, row.filename) for row in found] == [
        (row["id"], row["rendered_at"], ODD) for row in new
    ]
    assert Report.objects.get(pk=known.pk).filename == known.filename


@pytest.mark.parametrize("number", [2, 20])
def test_json_values_are_stored_as_given(number: int) -> None:
    details: list[Any] = [
        {"file": ODD, "size": each, "none": None, "true": True, "list": ["a"]} for each in range(number)
    ]
    same: dict[str, Any] = {"at": INSTANT, "actor": "a", "actor_kind": "user", "action": "viewed"}
    same |= dict.fromkeys(("actor_id", "address", "via", "object_type", "object_id", "object"), "")
    insert_rows(AuditEntry, [{"details": each} for each in details], **same)
    assert list(AuditEntry.objects.order_by("pk").values_list("details", flat=True)) == details


@pytest.mark.parametrize("number", [1, 3])
def test_omitted_fields_get_their_default(deliveries: list[Delivery], number: int) -> None:
    omitted = [each.attname for each in Delivery._meta.concrete_fields if each.attname not in {"id", "due_at"}]
    before = list(Delivery.objects.order_by("report").values_list(*omitted))
    Delivery.objects.all()._raw_delete("default")
    rows: list[dict[str, Any]] = [{"report": row.report_id, "interface": row.interface_id} for row in deliveries]
    for part in batched(rows, number):
        insert_rows(Delivery, part)
    assert list(Delivery.objects.order_by("report").values_list(*omitted)) == before


def test_new_rows_are_told_by_the_field_that_is_asked_for(deliveries: list[Delivery]) -> None:
    gone = {row.report_id for row in deliveries[1:]}
    Delivery.objects.filter(report__in=gone)._raw_delete("default")
    rows: list[dict[str, Any]] = [{"report": row.report_id, "due_at": INSTANT, "size": None} for row in deliveries]
    same: dict[str, Any] = {"interface": deliveries[0].interface_id, "state": State.PENDING, "attempts": 0}
    same |= {"priority": 0, "diagnosis": "", "detail": ODD}
    same |= dict.fromkeys(("object_key", "version_id", "etag", "sha256", "integrity"), "")
    assert insert_rows(Delivery, rows, returning="report", **same) == gone
    assert set(Delivery.objects.filter(due_at=INSTANT, detail=ODD).values_list("report_id", flat=True)) == gone


@pytest.mark.parametrize("number", [1, 9])
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite knows no lengths")
def test_what_is_too_long_for_its_column_is_refused_and_not_cut(number: int) -> None:
    rows = [{"slug": "d" * 101 + str(each)} for each in range(number)]
    with pytest.raises(DataError), transaction.atomic():
        insert_rows(Dashboard, rows, title="")
    rows = [{"slug": "a\0b" + str(each)} for each in range(number)]
    with pytest.raises((DataError, ValueError)), transaction.atomic():
        insert_rows(Dashboard, rows, title="")
    assert not Dashboard.objects.exists()


@pytest.mark.parametrize("number", [1, 9])
def test_words_that_a_database_could_take_for_its_own_are_kept(number: int) -> None:
    titles = ["NULL", "null", "{}", "{a,b}", '"', "\\", "'; --", " x ", ""][:number]
    rows = [{"slug": f"d-{each}", "title": title} for each, title in enumerate(titles)]
    insert_rows(Dashboard, rows)
    assert list(Dashboard.objects.order_by("slug").values_list("title", flat=True)) == titles


def test_new_rows_have_the_values_that_they_would_have_otherwise(deliveries: list[Delivery]) -> None:
    names = [each.name for each in Delivery._meta.concrete_fields if each.name != "id"]
    values = ["plain", ODD, "\t", "\\N", "\\.", "a\r\nb", "\\t", ""]
    reports = [make_report() for _ in range(2 * len(values))]
    Delivery.objects.all()._raw_delete("default")
    rows: list[dict[str, Any]] = [
        {"report": report.pk, "version_id": each, "size": None if each else 7, "retain_until": INSTANT, "etag": "e"}
        for report, each in zip(reports, [*values, *values], strict=True)
    ]
    same: dict[str, Any] = {"interface": deliveries[0].interface_id, "due_at": INSTANT, "detail": ODD, "lease": None}
    for part, all_new in ((rows[: len(values)], False), (rows[len(values) :], True)):
        added = NewRows(Delivery, part, returning="report", all_new=all_new, **same).insert()
        assert added == {row["report"] for row in part}
    found = list(Delivery.objects.order_by("pk").values(*names))
    assert [row["version_id"] for row in found] == [*values, *values]
    for inserted, copied in zip(found[: len(values)], found[len(values) :], strict=True):
        assert inserted | {"report": None} == copied | {"report": None}


def test_new_rows_may_have_json_values() -> None:
    details: list[Any] = [{"file": ODD, "none": None, "list": ["a", each]} for each in range(9)]
    rows = [{"id": 100 + number, "details": each} for number, each in enumerate(details)]
    same: dict[str, Any] = {"at": INSTANT, "actor": "a", "actor_kind": "user", "action": "viewed"}
    assert NewRows(AuditEntry, rows, all_new=True, **same).insert() == {row["id"] for row in rows}
    assert list(AuditEntry.objects.order_by("pk").values_list("details", flat=True)) == details


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL refuses rows that exist; SQLite leaves them out"
)
def test_rows_that_were_to_be_new_and_are_not_are_refused() -> None:
    Dashboard.objects.create(slug="d-5")
    rows = [{"slug": f"d-{number}"} for number in range(10)]
    with pytest.raises(IntegrityError), transaction.atomic():
        NewRows(Dashboard, rows, returning="slug", all_new=True).insert()
    with pytest.raises((DataError, ValueError)), transaction.atomic():
        NewRows(Dashboard, [{"slug": "a\0b"}], returning="slug", all_new=True).insert()
    with pytest.raises(DataError), transaction.atomic():
        NewRows(Dashboard, [{"slug": "d" * 101}], returning="slug", all_new=True).insert()
    assert Dashboard.objects.count() == 1
    assert insert_rows(Dashboard, rows, returning="slug") == {row["slug"] for row in rows} - {"d-5"}


def test_any_number_of_rows_is_inserted() -> None:
    rows = [{"slug": f"d-{number}"} for number in range(20_000)]
    assert len(insert_rows(Dashboard, rows, returning="slug", title="")) == Dashboard.objects.count() == 20_000


def test_without_rows_nothing_is_asked() -> None:
    with CaptureQueriesContext(connection) as queries:
        update_rows(Delivery, [])
        assert insert_rows(Delivery, [], state=State.PENDING) == set()
    assert not queries.captured_queries
