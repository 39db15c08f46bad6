"""Every URL of the project, from its URL resolver, with the ids of existing rows as parameters."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import engine
from anaphora.deliveries.models import ArchivePolicy, Delivery
from anaphora.operations.models import AlertChannel
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import previews
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report


def one_of_each(interface: S3Interface, picture: bytes) -> dict[str, Any]:
    """Create one row of each model, with words that only users who may view reports may see."""
    make_policy(interface, name="policy")
    Dashboard.objects.create(slug="confidential-slug", title="confidential-title")
    report = make_report(picture, filename="confidential-file.png", dashboard="confidential-slug")
    engine.deliver_due(interface.pk)
    previews.make_preview(report)
    return {
        "report": report,
        "delivery": Delivery.objects.get(),
        "interface": interface,
        "policy": ArchivePolicy.objects.get(),
        "channel": AlertChannel.objects.create(
            name="channel", kind="apprise", url="json://127.0.0.1:1/the-secret-part"
        ),
        "apitoken": tokens.create("a token", [Scope.READ])[0],
    }


def patterns(resolver: URLResolver | None = None, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in (resolver or get_resolver()).url_patterns:
        if isinstance(each, URLResolver):
            yield from patterns(each, before + str(each.pattern))
        else:
            yield before + str(each.pattern), each


def addresses(everything: dict[str, Any]) -> list[str]:
    """Return every URL of the project, with existing parameters."""
    report: Report = everything["report"]
    rows = {
        "reports/report": report.pk,
        "reports/dashboard": report.dashboard_id,
        "api/apitoken": everything["apitoken"].pk,
        "operations/alertchannel": everything["channel"].pk,
        "deliveries/delivery": everything["delivery"].pk,
        "delivery_s3/s3interface": everything["interface"].pk,
        "deliveries/archivepolicy": everything["policy"].pk,
    }
    values = {
        r"^timeline/(?P<slug>[-\w]+)/(?P<instant>\d{8}T\d{6}Z)/$": "timeline/confidential-slug/20260302T000000Z/",
        "<uuid:pk>": report.pk,
        "<int:pk>": everything["delivery"].pk,
        "<slug:slug>": "confidential-slug",
        "<str:slug>": "confidential-slug",
        "<slug>": "confidential-slug",
        "<when>": "2026-03-02",
        "<report_id>": report.pk,
        "<uuid:report_id>": report.pk,
        "<int:number>": 1,
        "<str:ending>": "csv",
    }
    found = []
    for pattern, _ in patterns():
        path = pattern.replace("<path:object_id>", str(next((pk for part, pk in rows.items() if part in pattern), 1)))
        for name, value in values.items():
            path = path.replace(name, str(value))
        if "<" not in path and "(?P" not in path:
            found.append("/" + path.lstrip("^").replace("\\Z", "").rstrip("$"))
    return found
