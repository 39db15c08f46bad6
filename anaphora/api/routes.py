"""The HTTP API: ingest reports and look them up. A route checks its input, calls one function and returns the result.

Every error is returned as problem details (RFC 9457) that name the invalid field.
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
from django.db.models import Q
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

from anaphora.activity import AN_HOUR, Action, record
from anaphora.api import tokens
from anaphora.api.docs import DescriptionPage
from anaphora.api.models import ApiToken, Scope
from anaphora.deliveries import evidence, file_response, files
from anaphora.deliveries.models import deliveries_of, with_interfaces
from anaphora.reports import counts, upload_handler
from anaphora.reports.ingest import IngestError, Reason, ingest
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.timestamps import compact_instant, parse_compact_instant
from anaphora.timeline import queries


class Problem(Schema):
    """An error as problem details (RFC 9457)."""

    type: str = Field("about:blank")
    title: str
    status: int
    detail: str
    field: str = Field("", description="The invalid field, if any.")


class DeliveryOut(Schema):
    """A delivery of a report."""

    destination: str
    state: str = Field(description="pending, sending, delivered, failed or cancelled.")
    detail: str = Field(description="The object key if the report is delivered, otherwise the problem.")


class ReportOut(Schema):
    """One report. Times are in UTC, the size is in bytes, the digest is hexadecimal."""

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
    """The report that was current at an instant, and when the next one was rendered (null if it is the latest)."""

    when: datetime
    report: ReportOut
    next_rendered_at: datetime | None


class ReportsOut(Schema):
    """Reports, the latest first. Pass `cursor` to get the next page; it is null on the last page."""

    reports: list[ReportOut]
    cursor: str | None


class DashboardOut(Schema):
    """A dashboard."""

    slug: str
    title: str
    reports: int = Field(description="The number of reports.")
    latest: datetime | None


class ReportIn(Schema):
    """The form fields sent with the file."""

    dashboard: str = Field(
        description="The dashboard's slug: letters, digits, hyphens, underscores. A new slug creates a dashboard.",
        json_schema_extra={"pattern": "^[-a-zA-Z0-9_]{1,100}$"},
    )
    rendered_at: datetime = Field(description="When the report was rendered, in ISO 8601 with time zone.")


class ReportQuery(Schema):
    """Filters. `from` and `to` are ISO 8601; the default time zone is TIME_ZONE. A date means the whole day."""

    dashboard: str = ""
    from_: str = Field("", alias="from")
    to: str = ""
    cursor: str = ""


class Bearer(HttpBearer):
    """Requires a token with the scope. For ingest, checks size and free disk space before the body is read."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        """Return the row of the token, or None for status 401."""
        found = tokens.check(token)
        if found and self._scope not in found.scopes:
            raise HttpError(403, f"This token does not have the scope {self._scope.value}.")
        if found and self._scope is Scope.INGEST:
            if "Content-Length" not in request.headers:
                raise HttpError(411, "Send the header Content-Length. Chunked transfer encoding is not supported.")
            upload_handler.check_request_size(int(request.headers.get("Content-Length") or 0))
            upload_handler.allow_upload(request)
        return found


logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"

PAGE_SIZE = 100
"""Maximum number of reports in one response."""

_STATUS = {
    Reason.INVALID: 422,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED: 415,
    Reason.NO_SPACE: 507,
    Reason.STORE: 503,
}

THROTTLES = [AuthRateThrottle(settings.API_RATE)] if settings.API_RATE else []


class _Api(NinjaAPI):
    """Documents errors as problem details. Adds ETags, so that clients can send conditional requests."""

    def create_response(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = super().create_response(request, *args, **kwargs)
        if request.method != "GET" or answer.status_code != 200:
            return answer
        patch_cache_control(answer, private=True, no_cache=True)
        set_response_etag(answer)
        conditional = get_conditional_response(request, etag=answer["ETag"], response=answer)
        return cast("HttpResponse", conditional)

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        schema = super().get_openapi_schema(*args, **kwargs)
        for path in schema["paths"].values():
            for operation in path.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400 and "content" in response:
                        response["content"] = {PROBLEM: response["content"].pop("application/json")}
        return schema


api = _Api(
    title="Anaphora archive",
    version="1",
    description="Ingest rendered reports and look them up. Create bearer tokens in the admin.",
    urls_namespace="api-v1",
    docs=DescriptionPage(),
    throttle=[*THROTTLES],
)
router = Router(tags=["reports"])

_PROBLEMS = dict.fromkeys((400, 401, 403, 429), Problem)
_INGEST_PROBLEMS = _PROBLEMS | dict.fromkeys((411, 413, 415, 422, 503, 507), Problem)


@router.post("", auth=Bearer(Scope.INGEST), response={200: ReportOut, 201: ReportOut, **_INGEST_PROBLEMS})
def ingest_report(request: HttpRequest, form: Form[ReportIn], file: File[UploadedFile]) -> Status[dict[str, Any]]:
    """Ingest a report. Returns 201 if it is new, 200 if the same report (dashboard, instant, content) exists."""
    if sum(len(each) for _, each in request.FILES.lists()) > 1:
        raise IngestError("file", "The request contains several files. Send a request for each of them.")
    source = cast("BinaryIO", file)
    ingested = ingest(source=source, filename=file.name or "", dashboard=form.dashboard, rendered_at=form.rendered_at)
    return Status(201 if ingested.created else 200, _report_out(ingested.report))


@router.get("/{report_id}", auth=Bearer(Scope.READ), response={200: ReportOut, 404: Problem, 422: Problem, **_PROBLEMS})
def get_report(request: HttpRequest, report_id: UUID) -> dict[str, Any]:
    """Return a report with its deliveries."""
    report = Report.objects.select_related("dashboard").filter(pk=report_id).first()
    if report is None:
        raise HttpError(404, f"There is no report {report_id}.")
    record(Action.API_READ, report, once=AN_HOUR)
    return _report_out(report)


@router.get("/{report_id}/content", auth=Bearer(Scope.READ), response={404: Problem, 422: Problem, **_PROBLEMS})
def get_content(request: HttpRequest, report_id: UUID) -> HttpResponseBase:
    """Return the file, from the local copy or from a store. The ETag is its SHA-256."""
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
    """List reports, the latest first, 100 per page."""
    reports = (
        Report.objects.select_related("dashboard").prefetch_related(with_interfaces()).order_by("-rendered_at", "-id")
    )
    dashboard = _dashboard(query.dashboard) if query.dashboard else None
    if dashboard:
        reports = reports.filter(dashboard=dashboard)
    if query.from_:
        reports = reports.filter(rendered_at__gte=_parse_instant("from", query.from_, is_start=True))
    if query.to:
        reports = reports.filter(rendered_at__lte=_parse_instant("to", query.to))
    if query.cursor:
        instant, key = _read_cursor(query.cursor)
        reports = reports.filter(Q(rendered_at__lt=instant) | Q(rendered_at=instant, id__lt=key))
    record(Action.API_READ, *([dashboard] if dashboard else []), once=AN_HOUR, name="reports")
    found = list(reports[: PAGE_SIZE + 1])
    more = found[PAGE_SIZE - 1] if len(found) > PAGE_SIZE else None
    return {
        "reports": [_report_out(report) for report in found[:PAGE_SIZE]],
        "cursor": f"{compact_instant(more.rendered_at)}_{more.pk}" if more else None,
    }


dashboards = Router(tags=["dashboards"], auth=Bearer(Scope.READ))


@dashboards.get("", response={200: list[DashboardOut], **_PROBLEMS})
def list_dashboards(request: HttpRequest) -> list[dict[str, Any]]:
    """List all dashboards."""
    record(Action.API_READ, once=AN_HOUR, name="dashboards")
    rows = counts.dashboards_with_latest()
    numbers = counts.report_counts([pk for pk, *_ in rows])
    return [
        {"slug": slug, "title": title or slug, "reports": numbers[pk], "latest": latest}
        for pk, slug, title, latest in rows
    ]


@dashboards.get("/{slug}/as-of/{when}", response={200: AsOfOut, 404: Problem, 422: Problem, **_PROBLEMS})
def get_as_of(request: HttpRequest, slug: str, when: str, content_type: str = "") -> dict[str, Any]:
    """Return the report that was current at `when`, in ISO 8601. The default time zone is TIME_ZONE.

    A date means the end of that day. `content_type`, for example `text/csv`, selects the reports of one format.
    """
    found = queries.as_of(_dashboard(slug), _parse_instant("when", when), content_type.replace("\0", ""))
    if found.report is None:
        raise HttpError(404, f"There is no report of {slug} at or before {found.instant.isoformat()}.")
    record(Action.API_READ, found.report, once=AN_HOUR)
    return {
        "when": found.instant,
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


def _parse_instant(field: str, text: str, *, is_start: bool = False) -> datetime:
    try:
        return queries.parse_instant(text, ZoneInfo(settings.TIME_ZONE), is_start=is_start)
    except queries.InvalidInstant as error:
        raise IngestError(field, str(error)) from error


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    instant, _, key = cursor.partition("_")
    try:
        return parse_compact_instant(instant), UUID(key)
    except ValueError as error:
        raise IngestError("cursor", "This is not a valid cursor. Use the cursor of an earlier response.") from error


def _report_out(report: Report) -> dict[str, Any]:
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
            for each in deliveries_of(report)
        ],
    }


# Errors as problem details.


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
    return _problem(422, f"{field}: {first['msg']}.{_hint(request, field)}", field)


def _hint(request: HttpRequest, field: str) -> str:
    """Return what to do about frequent mistakes in a request that sends a report."""
    if request.method != "POST":
        return ""
    if request.content_type != "multipart/form-data":
        return " Send the report as multipart/form-data."
    if field == "file" and "file" in request.POST:
        return " It was sent as text. Send it as a file; with curl, write an @ before its path: -F file=@report.pdf."
    if field == "rendered_at":
        return " Use ISO 8601 with a time zone, for example 2026-03-01T06:00:00Z."
    return ""


@api.exception_handler(AuthenticationError)
def _on_authentication_error(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    where = f"{reverse('admin:index')}api/apitoken/"
    detail = f"Send a valid token: Authorization: Bearer anaphora_…. Create tokens in the admin at {where}."
    return _problem(401, detail, "Authorization", **{"WWW-Authenticate": "Bearer"})


@api.exception_handler(Throttled)
def _on_throttled(request: HttpRequest, error: Throttled) -> HttpResponse:
    wait = str(int(error.wait or 1))
    return _problem(
        429, f"Too many requests with this token (API_RATE). Try again in {wait} s.", **{"Retry-After": wait}
    )


@api.exception_handler(HttpError)
def _on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _problem(error.status_code, str(error))


@api.exception_handler(Http404)
def _on_not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _problem(404, "There is no resource at this URL.")


@api.exception_handler(Exception)
def _on_unexpected_error(request: HttpRequest, error: Exception) -> HttpResponse:
    raise error  # handled by Django without secrets; with DEBUG, Ninja would return the plain traceback


@api.exception_handler(DatabaseError)
@api.exception_handler(OSError)
def _on_database_or_disk_error(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("The API cannot answer %s: %s", request.path, error)
    detail = "The database or the disk of the archive is not available. Send the request again later."
    return _problem(503, detail, **{"Retry-After": "30"})


def not_found(request: HttpRequest) -> HttpResponse:
    """Return 404 as problem details for unknown URLs below /api/."""
    schema = reverse("api-v1:openapi-view")
    return _problem(404, f"There is no such URL in the API. See {schema} for all URLs.")


def method_not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    """Return 405 as problem details. `allowed` contains the allowed methods."""
    return _problem(405, f"{request.method} is not allowed. Allowed methods: {allowed}.", Allow=allowed)


def _on_broken_body(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    return _problem(
        400, "The body is not valid multipart/form-data: it is truncated, malformed or the form is too large."
    )


for _error in (MultiPartParserError, UnreadablePostError, RequestDataTooBig, TooManyFilesSent):
    api.add_exception_handler(_error, _on_broken_body)
