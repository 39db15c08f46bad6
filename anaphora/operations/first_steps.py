"""The first steps on a new installation: a checklist on the overview that disappears when all steps are done."""

from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse
from django.utils import timezone

from anaphora.deliveries.models import ArchivePolicy, Delivery, State
from anaphora.operations.models import Installation
from anaphora.operations.situation import Situation
from anaphora.reports.models import Report

KNOWN = 10
"""With this many archived reports, the step of opening the timeline counts as done."""


@dataclass(frozen=True)
class Step:
    """One step: its title, explanation and page, and whether it is done."""

    title: str
    text: str
    button: str
    path: str
    done: bool
    next: bool = False


def steps(user: User | AnonymousUser, found: Situation) -> list[Step]:
    """Return the steps. The list is empty if all are done, or if the user lacks the permissions for them."""
    if not user.has_perm("deliveries.add_archivepolicy"):
        return []
    if Installation.objects.filter(first_steps_done_at__isnull=False).exists():
        return []
    archived = Delivery.objects.filter(state=State.DELIVERED).order_by()[:KNOWN].count()
    if archived >= KNOWN:
        finish()
        return []
    interface = found.interfaces[0] if found.interfaces else None
    tested = any(each.test_passed for each in found.interfaces)
    reported = Report.objects.exists()
    page = interface.admin_url if interface else ""
    listed = [
        (
            "Add an interface",
            "Enter the bucket for the reports, and a key that may write to it.",
            "Add interface",
            reverse("admin:deliveries_interface_add"),
            interface is not None,
        ),
        (
            "Test it",
            "A small file is written to the bucket. If that fails, the page says what to do.",
            "Test interface",
            f"{page}#connection-test" if page else reverse("admin:deliveries_interface_add"),
            tested,
        ),
        (
            "Add an archive policy",
            "It defines which dashboards' reports are archived to the interface, and when.",
            "Add policy",
            reverse("admin:deliveries_archivepolicy_add") + (f"?interface={interface.pk}" if interface else ""),
            ArchivePolicy.objects.filter(enabled=True).exists(),
        ),
        (
            "Upload a first report",
            "Upload any PDF, image or CSV file. Renderers use the API, the inbox or the command later.",
            "Upload report",
            reverse("admin:reports_report_upload"),
            reported,
        ),
        (
            "See it in the timeline",
            _last_text(reported=reported, archived=bool(archived)),
            "Open timeline",
            reverse("admin:first_report"),
            False,
        ),
    ]
    current = next(number for number, row in enumerate(listed) if not row[-1])
    return [Step(*row, next=number == current) for number, row in enumerate(listed)]


def _last_text(*, reported: bool, archived: bool) -> str:
    if archived:
        return "The report is archived. The timeline shows it with its receipt."
    if reported:
        return "The report is waiting for a worker. The timeline shows it now, and its receipt once it is archived."
    return "The timeline shows what each dashboard looked like at any time."


def finish() -> None:
    """Record that the steps are done, so that the checklist is not shown again."""
    Installation.get()
    Installation.objects.filter(pk=1, first_steps_done_at__isnull=True).update(first_steps_done_at=timezone.now())


def first_report_path() -> str:
    """Return the path of the first report in the timeline, or of the timeline's start page if there is none."""
    report = Report.objects.select_related("dashboard").order_by("-ingested_at").first()
    return reverse("timeline-as-of", args=[report.dashboard.slug]) if report else reverse("timeline")
