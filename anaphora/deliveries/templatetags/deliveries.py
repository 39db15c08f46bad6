"""Template tags of deliveries: missing processes, permission to view interfaces, links to the documentation."""

from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser, User
from django.utils.safestring import SafeString

from anaphora.deliveries import documentation, heartbeat
from anaphora.deliveries.models import kinds, may

register = template.Library()


@register.filter
def may_view_interfaces(user: User | AnonymousUser) -> bool:
    """Return whether a user may view, or change, interfaces of any kind."""
    return any(may(user, action, kind) for kind in kinds() for action in ("view", "change"))


@register.simple_tag
def documentation_link(title: str) -> SafeString:
    """Return a link to the documentation of a diagnosis; empty if there is no documentation site."""
    return documentation.link(title)


@register.inclusion_tag("admin/missing_processes.html")
def missing_processes(user: User | AnonymousUser) -> dict[str, Any]:
    """Show which processes are missing to users whose work waits for them."""
    return {"missing": heartbeat.missing() if concerned_with_processes(user) else []}


def concerned_with_processes(user: User | AnonymousUser) -> bool:
    """Return whether a user's work waits for workers or beat."""
    return user.is_staff and (any(user.has_perm(name) for name in _CONCERNED) or may_view_interfaces(user))


_CONCERNED = ("deliveries.view_delivery", "reports.view_report", "reports.add_report")
