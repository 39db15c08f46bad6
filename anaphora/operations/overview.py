"""Builds the overview: each part only for users who may see it. No query slows down as deliveries accumulate."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import OuterRef, Subquery, Sum
from django.urls import reverse
from django.utils import timezone

from anaphora.deliveries import heartbeat
from anaphora.deliveries.models import Delivery, Heartbeat, Interface, Role, State, diagnosis_of
from anaphora.deliveries.templatetags.deliveries import concerned_with_processes
from anaphora.operations import chart, first_steps, situation
from anaphora.operations.models import Alert, AlertChannel, DailyTotal
from anaphora.operations.situation import Problem, Situation

MOST_LATE = 10
"""Late dashboards listed in their section. All of them are also listed under "Needs attention"."""
MOST_PROBLEMS = 30

Viewer = User | AnonymousUser


@dataclass(frozen=True)
class InterfaceRow:
    """One interface: its condition and its totals."""

    interface: Interface
    mark: str
    status: str
    since: datetime | None
    last_success: datetime | None
    waiting: int
    oldest: datetime | None
    failed: int
    reports: int
    bytes: int


@dataclass(frozen=True)
class ProcessRow:
    """One kind of process: when one was last seen, and where."""

    name: str
    runs: bool
    text: str


def build(user: Viewer) -> dict[str, Any]:
    """Return the context of the overview's template."""
    now = timezone.now()
    found = situation.gather(now)
    problems = attention(user, found)
    visible = [each for each in found.interfaces if _may_view(user, each)]
    sees_deliveries = user.has_perm("deliveries.view_delivery")
    dashboards = found.dashboards if user.has_perm("reports.view_dashboard") else []
    return {
        "attention": problems[:MOST_PROBLEMS],
        "attention_number": len(problems),
        "interfaces": _interface_rows(visible, found) if visible else [],
        "sees_deliveries": sees_deliveries,
        "sees_problems": sees_deliveries and visible == found.interfaces,
        "chart": chart.last_days(now) if sees_deliveries else None,
        "processes": _process_rows(found) if concerned_with_processes(user) else [],
        "expected": len(dashboards),
        "late": [each for each in dashboards if each.late][:MOST_LATE],
        "late_number": sum(each.late for each in dashboards),
        "steps": first_steps.steps(user, found),
        "now": now,
    }


def attention(user: Viewer, found: Situation) -> list[Problem]:
    """Return the problems that the user may see."""
    channels = [
        Problem(
            f"channel:{each.pk}",
            f"Alert channel {each} fails",
            f"{each.error} Its alerts will be sent as soon as it works.",
            reverse("admin:operations_alertchannel_change", args=[each.pk]),
            "Open alert channel",
            "operations.view_alertchannel",
        )
        for each in AlertChannel.objects.filter(enabled=True).exclude(error="")
    ]
    return [each for each in [*situation.problems(found), *channels] if user.has_perm(each.permission)]


def _may_view(user: Viewer, interface: Interface) -> bool:
    app, name = interface._meta.app_label, interface._meta.model_name
    return user.has_perm(f"{app}.view_{name}") or user.has_perm(f"{app}.change_{name}")


def _interface_rows(interfaces: list[Interface], found: Situation) -> list[InterfaceRow]:
    latest = Delivery.objects.filter(interface=OuterRef("pk"), state=State.DELIVERED).order_by("-delivered_at")
    succeeded = dict(
        Interface.objects.order_by().annotate(at=Subquery(latest.values("delivered_at")[:1])).values_list("pk", "at")
    )
    stored = {
        pk: (reports, size)
        for pk, reports, size in DailyTotal.objects.values_list("interface").annotate(Sum("reports"), Sum("bytes"))
    }
    since = dict(Alert.objects.filter(ended_at__isnull=True).values_list("key", "began_at"))
    rows = []
    for each in interfaces:
        mark, status = _status(each)
        reports, size = stored.get(each.pk, (0, 0))
        rows.append(
            InterfaceRow(
                interface=each,
                mark=mark,
                status=status,
                since=since.get(f"interface:{each.pk}") if mark == "failed" else None,
                last_success=succeeded.get(each.pk),
                waiting=found.counts[each.pk][State.PENDING],
                oldest=found.oldest.get(each.pk),
                failed=found.counts[each.pk][State.FAILED],
                reports=reports,
                bytes=size,
            )
        )
    return rows


def _status(interface: Interface) -> tuple[str, str]:
    """Return the CSS class suffix of the mark, and the text, for an interface's condition."""
    if not interface.enabled:
        return "never", "disabled"
    if diagnosis := diagnosis_of(interface):
        until = interface.paused_until
        then = f", next attempt at {timezone.localtime(until):%H:%M:%S}" if until and until > timezone.now() else ""
        return "failed", f"paused: {diagnosis.title}{then}"
    if interface.test_passed is False:
        return "failed", f"test failed: {(interface.test_report.get('diagnosis') or {}).get('title', 'see its page')}"
    if interface.tested_at is None:
        return "never", "never tested"
    return "delivered", "working"


def _process_rows(found: Situation) -> list[ProcessRow]:
    missing = {each.role: each for each in found.missing}
    hosts: dict[str, list[str]] = {}
    recent = found.now - heartbeat.SILENT
    for role, host in Heartbeat.objects.filter(seen_at__gte=recent).order_by("host").values_list("role", "host"):
        hosts.setdefault(role, []).append(host)
    web = f"On {', '.join(hosts[Role.WEB])}" if Role.WEB in hosts else "It has answered this page."
    rows = [ProcessRow(Role.WEB.label, runs=True, text=web)]
    for role in heartbeat.NEEDED:
        if role in missing:
            rows.append(ProcessRow(role.label, runs=False, text=f"{missing[role]}."))
        else:
            rows.append(ProcessRow(role.label, runs=True, text=f"On {', '.join(hosts.get(role.value, []))}"))
    return rows


def navigation_counts(user: Viewer) -> dict[str, int]:
    """Return the numbers of problems beside the links of the header, as far as the user may see them.

    Runs at most two queries. More than 1,000 failed deliveries count as 1,000.
    """
    counts = {"deliveries": 0, "interfaces": 0}
    interfaces = list(Interface.objects.select_subclasses())
    visible = [each for each in interfaces if each.enabled and _may_view(user, each)]
    counts["interfaces"] = sum(_status(each)[0] == "failed" for each in visible)
    if user.has_perm("deliveries.view_delivery"):
        failed = Delivery.objects.filter(interface__in=[each.pk for each in interfaces], state=State.FAILED)
        counts["deliveries"] = failed.order_by()[:1000].count()
    return counts
