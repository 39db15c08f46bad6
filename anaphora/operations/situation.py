"""The state of the installation, read by a fixed number of queries, and the problems that need attention.

The overview shows these problems, and alerts report them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from anaphora.admin_site import count_noun
from anaphora.deliveries import heartbeat, manifests, policies, queue, schedules
from anaphora.deliveries.destinations import ProtectionGrade
from anaphora.deliveries.heartbeat import Missing
from anaphora.deliveries.models import ArchivePolicy, Interface, State, diagnosis_of
from anaphora.operations import health, lateness
from anaphora.operations.models import Verification
from anaphora.reports import inbox, inbox_refused


@dataclass(frozen=True)
class Problem:
    """Something that needs attention. `path` is the page on which to act, `permission` the one needed to see it."""

    key: str
    title: str
    text: str
    path: str
    action: str
    permission: str
    diagnosis: str = ""
    """The title of the diagnosis, for the link to the documentation; empty if there is none."""
    when_it_begins: Callable[[], None] | None = field(default=None, compare=False)
    """Called once, when the problem is first noticed."""


@dataclass(frozen=True)
class Situation:
    """The state of everything at one moment."""

    now: datetime
    interfaces: list[Interface]
    counts: dict[int, Counter[State]]
    oldest: dict[int, datetime]
    missing: list[Missing]
    policies: list[ArchivePolicy]
    dashboards: list[lateness.State]
    verifications: dict[int, Verification]
    manifests_overdue: dict[int, date | None]
    """The interfaces whose next manifest is overdue, with the day of the last one; None if none was written."""
    free_bytes: int
    refused_files: int
    """Files that the inbox refused."""
    misplaced_files: int
    """Files in no folder of the inbox."""

    @property
    def late(self) -> list[lateness.State]:
        """The dashboards that are late."""
        return [each for each in self.dashboards if each.late]


def gather(now: datetime) -> Situation:
    """Read the situation. Runs nine queries, regardless of the number of rows."""
    interfaces = list(Interface.objects.select_subclasses().order_by("name"))
    keys = [each.pk for each in interfaces]
    return Situation(
        now=now,
        interfaces=interfaces,
        counts=queue.count_by_state(keys, recent=False),
        oldest=queue.oldest_pending(keys),
        missing=heartbeat.missing(),
        policies=list(ArchivePolicy.objects.filter(enabled=True, schedule__isnull=False).select_related("schedule")),
        dashboards=lateness.states(now),
        verifications={each.interface_id: each for each in Verification.objects.all()},
        manifests_overdue=manifests.overdue(now),
        free_bytes=health.free_bytes(),
        refused_files=inbox_refused.count(),
        misplaced_files=inbox.count_misplaced(),
    )


def problems(found: Situation) -> list[Problem]:
    """Return the problems, the most urgent first."""
    return [problem for source in _SOURCES for problem in source(found)]


def _processes(found: Situation) -> Iterator[Problem]:
    for each in found.missing:
        text = f"{each.diagnosis.meaning} {each.diagnosis.remedy}"
        yield Problem(
            f"process:{each.role.value}",
            f"{each}",
            text,
            reverse("admin:index"),
            "",
            "deliveries.view_delivery",
            each.diagnosis.title,
        )


def _interfaces(found: Situation) -> Iterator[Problem]:
    for each in found.interfaces:
        if not each.enabled:
            continue
        diagnosis = diagnosis_of(each)
        tested = (each.test_report.get("diagnosis") or {}) if each.test_passed is False else {}
        known = diagnosis.title if diagnosis else tested.get("title", "")
        if diagnosis:
            title, text = diagnosis.title, f"{diagnosis.meaning} {diagnosis.remedy}"
        elif each.test_passed is False:
            title = f"the connection test failed: {tested.get('title', 'see its page')}"
            text = f"{tested.get('meaning', '')} {tested.get('remedy', '')}".strip()
        else:
            continue
        yield Problem(
            f"interface:{each.pk}",
            f"Interface {each}: {title}",
            text,
            each.admin_url,
            "Open interface",
            _view(each),
            known,
        )


def _failed(found: Situation) -> Iterator[Problem]:
    for each in found.interfaces:
        if number := found.counts[each.pk][State.FAILED]:
            path = f"{reverse('admin:deliveries_delivery_changelist')}?interface__id__exact={each.pk}"
            yield Problem(
                f"failed:{each.pk}",
                f"{count_noun(number, 'delivery', 'deliveries')} to {each} failed",
                "They are not retried automatically. Open them, correct the cause, then retry them.",
                f"{path}&state__exact=failed",
                "Open deliveries",
                "deliveries.view_delivery",
            )


def _waiting(found: Situation) -> Iterator[Problem]:
    limit = timedelta(minutes=settings.ALERT_WAITING_MINUTES)
    for each in found.interfaces:
        oldest = found.oldest.get(each.pk)
        if each.enabled and oldest and found.now - oldest > limit:
            path = f"{reverse('admin:deliveries_delivery_changelist')}?interface__id__exact={each.pk}"
            yield Problem(
                f"waiting:{each.pk}",
                f"Reports have waited for {each} for more than {settings.ALERT_WAITING_MINUTES} minutes",
                f"The oldest has waited since {_when(oldest)}. Check the interface, and whether enough workers run.",
                f"{path}&state__exact=pending",
                "Open deliveries",
                "deliveries.view_delivery",
            )


def _policies(found: Situation) -> Iterator[Problem]:
    for each in found.policies:
        assert each.schedule is not None
        due = schedules.next_run(each.schedule, each.ran_at)
        if due and due + policies.MISSED < found.now:
            yield Problem(
                f"policy:{each.pk}",
                f"Policy {each} missed its scheduled run",
                f"It was due at {_when(due)}. Check that beat and a worker run. The run is made up for automatically.",
                reverse("admin:deliveries_archivepolicy_change", args=[each.pk]),
                "Open policy",
                "deliveries.view_archivepolicy",
            )


def _dashboards(found: Situation) -> Iterator[Problem]:
    for each in found.late:
        came = f"The latest report was rendered at {_when(each.latest)}." if each.latest else "No report has come yet."
        due = _when(each.due) if each.due else ""
        yield Problem(
            f"dashboard:{each.dashboard.pk}",
            f"Dashboard {each.dashboard} is late",
            f"A report was expected at {due}. {came} Check the program that renders it.",
            reverse("admin:reports_dashboard_change", args=[each.dashboard.pk]),
            "Open dashboard",
            "reports.view_dashboard",
            when_it_begins=partial(lateness.record, each),
        )


def _inbox(found: Situation) -> Iterator[Problem]:
    if found.refused_files:
        yield Problem(
            "inbox:refused",
            f"The inbox refused {count_noun(found.refused_files, 'file', 'files')}",
            "They are not archived. The list shows the reason for each. Correct it and try again, or remove the file.",
            reverse("admin:reports_report_refused"),
            "Open refused files",
            "reports.add_report",
        )
    if found.misplaced_files:
        yield Problem(
            "inbox:misplaced",
            f"{count_noun(found.misplaced_files, 'file is', 'files are')} in the inbox, but in no dashboard's folder",
            "Such files are not ingested. In INBOX_DIR, move each to the folder with the slug of its dashboard, and "
            "check the program that writes them.",
            reverse("admin:index"),
            "",
            "reports.add_report",
        )


def _disk(found: Situation) -> Iterator[Problem]:
    if found.free_bytes < settings.ALERT_DISK_MB * 10**6:
        yield Problem(
            "disk",
            "The local disk is nearly full",
            f"Less than {settings.ALERT_DISK_MB} MB are free under DATA_DIR. Free disk space, or keep local copies of "
            "reports for fewer days.",
            reverse("admin:reports_dashboard_changelist"),
            "Open dashboards",
            "reports.view_dashboard",
        )


def _verifications(found: Situation) -> Iterator[Problem]:
    for each in found.interfaces:
        last = found.verifications.get(each.pk)
        if last and last.different:
            yield Problem(
                f"verification:{each.pk}",
                f"The verification of {each} found {count_noun(last.different, 'difference', 'differences')}",
                f"Found by verify_archive at {_when(last.verified_at)}. Run it again for the list.",
                each.admin_url,
                "Open interface",
                _view(each),
            )


def _proof(found: Situation) -> Iterator[Problem]:
    for each in found.interfaces:
        if each.pk in found.manifests_overdue:
            last = found.manifests_overdue[each.pk]
            yield Problem(
                f"manifests:{each.pk}",
                f"Daily manifests of {each} are overdue",
                f"{f'The last one is of {last:%d %b %Y}' if last else 'None was written yet'}. Run "
                "manage.py write_manifests: it prints the problem.",
                each.admin_url,
                "Open interface",
                _view(each),
            )
        if each.enabled and each.retention and each.protection.get("grade") in _UNLOCKED:
            yield Problem(
                f"protection:{each.pk}",
                f"Objects of {each} are not locked as configured",
                f"The immutability check found: {each.protection['text']} {each.protection['advice']}",
                each.admin_url,
                "Open interface",
                _view(each),
            )


_UNLOCKED = {ProtectionGrade.VERSIONED, ProtectionGrade.UNPROTECTED}


_SOURCES: tuple[Callable[[Situation], Iterator[Problem]], ...] = (
    _processes,
    _verifications,
    _proof,
    _interfaces,
    _failed,
    _waiting,
    _policies,
    _dashboards,
    _inbox,
    _disk,
)


def _view(interface: Interface) -> str:
    return f"{interface._meta.app_label}.view_{interface._meta.model_name}"


def _when(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%d %b %Y %H:%M %Z}"
