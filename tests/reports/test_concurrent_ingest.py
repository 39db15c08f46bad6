"""Reports that threads of a web server ingest at the same time share a transaction."""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries.models import Delivery
from anaphora.operations.audit_models import AuditEntry
from anaphora.reports import ingest as module
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.signals import report_ingested
from delivery_s3.models import S3Interface
from tests.reports.test_ingest import local_files, take
from tests.support.factories import NOON, make_policy

pytestmark = pytest.mark.django_db(transaction=True)


def post(token: str, content: bytes) -> Any:
    file = io.BytesIO(content)
    file.name = "sales.pdf"
    form = {"dashboard": "sales", "rendered_at": NOON.isoformat(), "file": file}
    answer = Client(raise_request_exception=False).post(
        "/api/v1/reports", form, headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code


def at_the_same_time(monkeypatch: pytest.MonkeyPatch, do: Callable[..., Any], *arguments: tuple[Any, ...]) -> list[Any]:
    """Call a function in one thread for each of these, which then save together; return the results."""

    def run(each: tuple[Any, ...]) -> Any:
        try:
            return do(*each)
        finally:
            connection.close()

    monkeypatch.setattr(module._commits, "_max_wait", 30)
    module._commits.announce("test")
    with ThreadPoolExecutor(len(arguments)) as pool:
        results = [pool.submit(run, each) for each in arguments]
        end = time.monotonic() + 30
        while len(module._commits._parts) < len(arguments) and time.monotonic() < end:
            time.sleep(0.01)
        module._commits.withdraw("test")
        return [each.result() for each in results]


def watch_saves(monkeypatch: pytest.MonkeyPatch, *, fails_after_commit: bool = False) -> list[int]:
    """Return a list of how many reports each save has. The connection may fail once, after the first commit."""
    sizes = list[int]()

    def save(added: list[Any]) -> list[Any]:
        sizes.append(len(added))
        found = module._save(added)
        if fails_after_commit and len(sizes) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return found

    monkeypatch.setattr(module._commits, "_save", save)
    return sizes


def test_each_is_attributed_to_its_own_token(monkeypatch: pytest.MonkeyPatch, interface: S3Interface) -> None:
    make_policy(interface)
    Dashboard.objects.create(slug="sales")
    found = [tokens.create(f"renderer {number}", [Scope.INGEST])[1] for number in range(4)]
    sizes = watch_saves(monkeypatch)
    contents = [f"%PDF-1.7 {number}".encode() for number in range(4)]
    assert at_the_same_time(monkeypatch, post, *zip(found, contents, strict=True)) == [201] * 4
    assert sizes == [4]
    assert Delivery.objects.count() == Report.objects.count() == 4
    rows = AuditEntry.objects.filter(action="uploaded").values_list("object_id", "actor", "actor_kind", "via")
    actors = {str(report.pk): report.local_path.read_bytes()[-1:].decode() for report in Report.objects.all()}
    assert {(pk, actor.partition(" (")[0], kind, via) for pk, actor, kind, via in rows} == {
        (pk, f"renderer {number}", "token", "API") for pk, number in actors.items()
    }


def test_the_same_report_from_several_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = at_the_same_time(monkeypatch, take, *[(b"%PDF-1.7 same",)] * 3)
    assert sorted(each.created for each in found) == [False, False, True]
    assert {each.report for each in found} == {Report.objects.get()}
    assert set(local_files()) == {Report.objects.get().local_path}


def test_an_error_of_one_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(reports: list[Report], **kwargs: Any) -> None:
        if any(report.size == len(b"%PDF-1.7 refused") for report in reports):
            raise RuntimeError("a receiver has a bug")

    token = tokens.create("renderer", [Scope.INGEST])[1]
    Dashboard.objects.create(slug="sales")
    contents = [b"%PDF-1.7 a", b"%PDF-1.7 refused", b"%PDF-1.7 b"]
    report_ingested.connect(refuse)
    try:
        found = at_the_same_time(monkeypatch, post, *[(token, content) for content in contents])
    finally:
        report_ingested.disconnect(refuse)
    assert found == [201, 500, 201]
    assert set(local_files()) == {report.local_path for report in Report.objects.all()}
    assert {path.read_bytes() for path in local_files()} == {b"%PDF-1.7 a", b"%PDF-1.7 b"}


def test_a_lost_copy_is_replaced_even_if_a_connection_fails_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    old = take(b"%PDF-1.7 old").report
    old.local_path.unlink()
    Report.objects.update(file="")
    sizes = watch_saves(monkeypatch, fails_after_commit=True)
    found = at_the_same_time(monkeypatch, take, (b"%PDF-1.7 old",), (b"%PDF-1.7 new",))
    assert [each.created for each in found] == [False, True]
    assert sizes == [2, 1, 1]
    assert set(local_files()) == {report.local_path for report in Report.objects.exclude(file="")}
    assert {path.read_bytes() for path in local_files()} == {b"%PDF-1.7 old", b"%PDF-1.7 new"}


def test_a_report_whose_commit_succeeded_unnoticed_keeps_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_saves(monkeypatch, fails_after_commit=True)
    with pytest.raises(OperationalError):
        take(b"%PDF-1.7 x")
    assert Report.objects.get().local_path.read_bytes() == b"%PDF-1.7 x"
    again = take(b"%PDF-1.7 x")  # as a client does after an error
    assert (again.created, again.report) == (False, Report.objects.get())
    assert set(local_files()) == {again.report.local_path}


def test_a_token_is_checked_on_a_new_connection_if_the_old_one_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tokens.create("renderer", [Scope.INGEST])[1]
    if connection.vendor == "postgresql":
        connection.connection.close()  # as when the server was restarted
    else:  # which has no server
        cursors = iter([OperationalError("the connection is closed")])
        real = connection.cursor

        def cursor() -> Any:
            for error in cursors:
                raise error
            return real()

        monkeypatch.setattr(connection, "cursor", cursor)
    assert tokens.check(plain) is not None
