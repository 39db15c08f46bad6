"""The API: reports come in, and are looked up. A door: it checks, calls one function and shows the answer.

Every error is a problem in words (RFC 9457) that names the field at fault.
"""

import logging
from datetime import datetime
from http import HTTPStatus
from typing import Any, BinaryIO, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.db import DatabaseError
from django.db.models import Count, Max, Q, prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_cache_control, set_response_etag
from ninja import File, Form, NinjaAPI, Query, Router, Schema, Status
from ninja.errors import AuthenticationError, HttpError, Throttled, ValidationError
from ninja.files import UploadedFile
from ninja.security import HttpBearer
from ninja.throttling import AuthRateThrottle
from pydantic import Field

from anaphora.api import tokens
from anaphora.api.docs import DescriptionPage
from anaphora.api.models import ApiToken, Scope
from anaphora.deliveries import evidence, file_response, files
from anaphora.deliveries.models import with_interfaces
from anaphora.reports import upload_handler
from anaphora.reports.ingest import IngestError, Reason, ingest
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.timestamps import read_stamp, stamp
from anaphora.timeline import queries


class Problem(Schema):
    """What went wrong, in words, after RFC 9457."""

    type: str = Field("about:blank")
    title: str
    status: int
    detail: str
    field: str = Field("", description="The input at fault, where there is one.")


class DeliveryOut(Schema):
    """Where a report went, or is going."""

    destination: str
    state: str = Field(description="pending, sending, delivered, failed or cancelled.")
    detail: str = Field(description="The object's key once it is stored, otherwise what is in the way.")


class ReportOut(Schema):
    """One report. Times are in UTC, the size is in bytes, the digest in hexadecimal."""

    id: UUID
    dashboard: str
    rendered_at: datetime
    filename: str
    content_type: str
    size: int
    sha256: str
    ingested_at: datetime
    deliveries: list[DeliveryOut]


class AsOfOut(Schema):
    """The report that was current at an instant, and when the next one was rendered (null: it still is the latest)."""

    when: datetime
    report: ReportOut
    next_rendered_at: datetime | None


class ReportsOut(Schema):
    """Reports, the latest first; `cursor` asks for those that follow, null for none."""

    reports: list[ReportOut]
    cursor: str | None


class DashboardOut(Schema):
    """A dashboard."""

    slug: str
    title: str
    reports: int
    latest: datetime | None


class ReportIn(Schema):
    """What comes with the file."""

    dashboard: str = Field(
        description="The dashboard's slug: letters, digits, hyphens, underscores. One not seen before is created.",
        json_schema_extra={"pattern": "^[-a-zA-Z0-9_]{1,100}$"},
    )
    rendered_at: datetime = Field(description="When it was rendered: ISO 8601 with a time zone.")


class ReportQuery(Schema):
    """What to list: `from` and `to` are ISO 8601, in TIME_ZONE where they name none; dates are whole days."""

    dashboard: str = ""
    from_: str = Field("", alias="from")
    to: str = ""
    cursor: str = ""


class Bearer(HttpBearer):
    """Lets in whoever bears a token with the scope. Size and space are looked at before a body is read."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        """Return the token's row; Ninja answers 401 for none."""
        found = tokens.check(token)
        if found and self._scope not in found.scopes:
            raise HttpError(403, f"This token lacks the scope {self._scope.value}.")
        if found and self._scope is Scope.INGEST:
            if "Content-Length" not in request.headers:
                raise HttpError(
                    411, "Say how long the body is (Content-Length); it can't come in chunks of unknown number."
                )
            upload_handler.check_coming(int(request.headers.get("Content-Length") or 0))
            upload_handler.allow(request)
        return found


logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"

PAGE = 100
"""Reports in one answer."""

_STATUS = {
    Reason.INVALID: 422,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED: 415,
    Reason.NO_SPACE: 507,
    Reason.STORE: 503,
}

THROTTLES = [AuthRateThrottle(settings.API_RATE)] if settings.API_RATE else []


class _Api(NinjaAPI):
    """Describes errors as what they are: problems. Answers can be kept, and asked for again by their ETag."""

    def create_response(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = super().create_response(request, *args, **kwargs)
        if request.method != "GET" or answer.status_code != 200:
            return answer
        patch_cache_control(answer, private=True, no_cache=True)
        set_response_etag(answer)
        kept = get_conditional_response(request, etag=answer["ETag"], response=answer)
        return cast("HttpResponse", kept)

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        described = super().get_openapi_schema(*args, **kwargs)
        for path in described["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400 and "content" in response:
                        response["content"] = {PROBLEM: response["content"].pop("application/json")}
        return described


api = _Api(
    title="Anaphora archive",
    version="1",
    description="Hand rendered reports in, and look them up. Bearer tokens are made in the admin.",
    urls_namespace="api-v1",
    docs=DescriptionPage(),
    throttle=[*THROTTLES],
)
router = Router(tags=["reports"])

_PROBLEMS = dict.fromkeys((400, 401, 403, 429), Problem)
_INGEST_PROBLEMS = _PROBLEMS | dict.fromkeys((411, 413, 415, 422, 503, 507), Problem)


@router.post("", auth=Bearer(Scope.INGEST), response={200: ReportOut, 201: ReportOut, **_INGEST_PROBLEMS})
def take_in(request: HttpRequest, form: Form[ReportIn], file: File[UploadedFile]) -> Status[dict[str, Any]]:
    """Take a report in: 201 if it is new, 200 if the same report (dashboard, instant, content) came before."""
    source = cast("BinaryIO", file)
    taken = ingest(source=source, filename=file.name or "", dashboard=form.dashboard, rendered_at=form.rendered_at)
    return Status(201 if taken.created else 200, _report_out(taken.report))


@router.get("/{report_id}", auth=Bearer(Scope.READ), response={200: ReportOut, 404: Problem, 422: Problem, **_PROBLEMS})
def get_report(request: HttpRequest, report_id: UUID) -> dict[str, Any]:
    """Return a report and where it went."""
    report = Report.objects.select_related("dashboard").filter(pk=report_id).first()
    if report is None:
        raise HttpError(404, f"There is no report {report_id}.")
    return _report_out(report)


@router.get("/{report_id}/content", auth=Bearer(Scope.READ), response={404: Problem, 422: Problem, **_PROBLEMS})
def get_content(request: HttpRequest, report_id: UUID) -> HttpResponseBase:
    """Return the file, from here or from where it is stored. Its ETag is its SHA-256."""
    report = Report.objects.select_related("dashboard").filter(pk=report_id).first()
    if report is None:
        raise HttpError(404, f"There is no report {report_id}.")
    try:
        return file_response.response(report, request)
    except files.Unavailable as error:
        raise HttpError(404, str(error)) from error


@router.get("/{report_id}/evidence", auth=Bearer(Scope.READ), response={404: Problem, 422: Problem, **_PROBLEMS})
def get_evidence(request: HttpRequest, report_id: UUID) -> HttpResponseBase:
    """Return the evidence for a report, a ZIP file: 404 as long as no manifest lists it."""
    report = Report.objects.select_related("dashboard").filter(pk=report_id).first()
    if report is None:
        raise HttpError(404, f"There is no report {report_id}.")
    try:
        return file_response.evidence_response(report)
    except evidence.NoEvidence as problem:
        raise HttpError(404, str(problem)) from problem


@router.get("", auth=Bearer(Scope.READ), response={200: ReportsOut, 404: Problem, 422: Problem, **_PROBLEMS})
def list_reports(request: HttpRequest, query: Query[ReportQuery]) -> dict[str, Any]:
    """List reports, the latest first, a hundred at a time."""
    reports = (
        Report.objects.select_related("dashboard").prefetch_related(with_interfaces()).order_by("-rendered_at", "-id")
    )
    if query.dashboard:
        reports = reports.filter(dashboard=_dashboard(query.dashboard))
    if query.from_:
        reports = reports.filter(rendered_at__gte=_moment("from", query.from_, begins=True))
    if query.to:
        reports = reports.filter(rendered_at__lte=_moment("to", query.to))
    if query.cursor:
        moment, key = _read_cursor(query.cursor)
        reports = reports.filter(Q(rendered_at__lt=moment) | Q(rendered_at=moment, id__lt=key))
    found = list(reports[: PAGE + 1])
    more = found[PAGE - 1] if len(found) > PAGE else None
    return {
        "reports": [_report_out(report) for report in found[:PAGE]],
        "cursor": f"{stamp(more.rendered_at)}_{more.pk}" if more else None,
    }


dashboards = Router(tags=["dashboards"], auth=Bearer(Scope.READ))


@dashboards.get("", response={200: list[DashboardOut], **_PROBLEMS})
def list_dashboards(request: HttpRequest) -> list[dict[str, Any]]:
    """List the dashboards."""
    rows = Dashboard.objects.annotate(number=Count("reports"), last=Max("reports__rendered_at")).order_by("slug")
    return [{"slug": row.slug, "title": str(row), "reports": row.number, "latest": row.last} for row in rows]


@dashboards.get("/{slug}/as-of/{when}", response={200: AsOfOut, 404: Problem, 422: Problem, **_PROBLEMS})
def get_as_of(request: HttpRequest, slug: str, when: str, content_type: str = "") -> dict[str, Any]:
    """Return the report that was current at `when`: ISO 8601, TIME_ZONE where it names none; a date is its end.

    With `content_type`, such as `text/csv`, the one of that format.
    """
    found = queries.as_of(_dashboard(slug), _moment("when", when), content_type.replace("\0", ""))
    if found.report is None:
        raise HttpError(404, f"There is no report of {slug} at or before {found.when.isoformat()}.")
    return {
        "when": found.when,
        "report": _report_out(found.report),
        "next_rendered_at": found.next.rendered_at if found.next else None,
    }


api.add_router("/reports", router)
api.add_router("/dashboards", dashboards)


def _dashboard(slug: str) -> Dashboard:
    found = Dashboard.objects.filter(slug=slug).first() if "\0" not in slug else None
    if found is None:
        raise HttpError(404, f"There is no dashboard {slug!r}.")
    return found


def _moment(field: str, text: str, *, begins: bool = False) -> datetime:
    try:
        return queries.moment(text, ZoneInfo(settings.TIME_ZONE), begins=begins)
    except queries.BadMoment as error:
        raise IngestError(field, str(error)) from error


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    moment, _, key = cursor.partition("_")
    try:
        return read_stamp(moment), UUID(key)
    except ValueError as error:
        raise IngestError("cursor", "This is not a cursor of an earlier answer.") from error


def _report_out(report: Report) -> dict[str, Any]:
    prefetch_related_objects([report], with_interfaces())  # asks for nothing where the list has done so
    return {
        "id": report.pk,
        "dashboard": report.dashboard.slug,
        "rendered_at": report.rendered_at,
        "filename": report.filename,
        "content_type": report.content_type,
        "size": report.size,
        "sha256": report.sha256,
        "ingested_at": report.ingested_at,
        "deliveries": [
            {"destination": each.interface.name, "state": each.state, "detail": each.summary}
            for each in report.deliveries.all()
        ],
    }


# Errors, as problems in words.


def _problem(status: int, detail: str, field: str = "", **headers: str) -> HttpResponse:
    problem = Problem(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail, field=field)
    return HttpResponse(problem.model_dump_json(), status=status, content_type=PROBLEM, headers=headers)


@api.exception_handler(IngestError)
def _on_ingest_error(request: HttpRequest, error: IngestError) -> HttpResponse:
    return _problem(_STATUS[error.reason], str(error), error.field)


@api.exception_handler(ValidationError)
def _on_validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0]
    field = str(first["loc"][-1])
    return _problem(422, f"{field}: {first['msg']}.", field)


@api.exception_handler(AuthenticationError)
def _on_authentication_error(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    where = f"{reverse('admin:index')}api/apitoken/"
    detail = f"Send a valid token: Authorization: Bearer anaphora_…; tokens are made in the admin, {where}."
    return _problem(401, detail, "Authorization", **{"WWW-Authenticate": "Bearer"})


@api.exception_handler(Throttled)
def _on_throttled(request: HttpRequest, error: Throttled) -> HttpResponse:
    wait = str(int(error.wait or 1))
    return _problem(
        429, f"Too many requests with this token (API_RATE); try again in {wait} s.", **{"Retry-After": wait}
    )


@api.exception_handler(HttpError)
def _on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _problem(error.status_code, str(error))


@api.exception_handler(Http404)
def _on_not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _problem(404, "There is nothing of this name.")


@api.exception_handler(Exception)
def _on_defect(request: HttpRequest, error: Exception) -> HttpResponse:
    raise error  # to Django, whose report has no secrets; with DEBUG, Ninja would answer with the bare traceback


@api.exception_handler(DatabaseError)
@api.exception_handler(OSError)
def _on_own_trouble(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("The API cannot answer %s: %s", request.path, error)
    detail = "The archive's database or disk does not answer at present; send the request again later."
    return _problem(503, detail, **{"Retry-After": "30"})


def not_found(request: HttpRequest) -> HttpResponse:
    """Answer addresses below the API's that lead nowhere, in the API's way."""
    described = reverse("api-v1:openapi-view")
    return _problem(404, f"The API has no such address; {described} describes those that it has.")


def method_not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    """Answer a method that an address of the API doesn't have; `allowed` names those that it has."""
    return _problem(405, f"{request.method} is not possible here, only {allowed}.", Allow=allowed)


def _on_broken_body(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    return _problem(400, "The body can't be read as multipart/form-data: it is cut short, malformed or too big a form.")


for _error in (MultiPartParserError, UnreadablePostError, RequestDataTooBig, TooManyFilesSent):
    api.add_exception_handler(_error, _on_broken_body)
