"""What every page of the administrator says when a process that delivers doesn't run."""

from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser, User

from anaphora.deliveries import heartbeat

register = template.Library()

CONCERNED = ("deliveries.view_delivery", "reports.view_report", "reports.add_report", "delivery_s3.view_s3interface")


@register.inclusion_tag("admin/missing_processes.html")
def missing_processes(user: User | AnonymousUser) -> dict[str, Any]:
    """Show which processes are missing, to those whose work waits for them."""
    concerned = user.is_staff and any(user.has_perm(name) for name in CONCERNED)
    return {"missing": heartbeat.missing() if concerned else []}
