"""What pages say of deliveries: which processes are missing, where the interfaces and the documentation are."""

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
    """Link to what the documentation says of a diagnosis; show nothing where there is no documentation site."""
    return documentation.link(title)


@register.inclusion_tag("admin/missing_processes.html")
def missing_processes(user: User | AnonymousUser) -> dict[str, Any]:
    """Show which processes are missing, to those whose work waits for them."""
    return {"missing": heartbeat.missing() if concerned_with_processes(user) else []}


def concerned_with_processes(user: User | AnonymousUser) -> bool:
    """Return whether a user's work waits for workers or beat."""
    return user.is_staff and (any(user.has_perm(name) for name in _CONCERNED) or may_view_interfaces(user))


_CONCERNED = ("deliveries.view_delivery", "reports.view_report", "reports.add_report")
