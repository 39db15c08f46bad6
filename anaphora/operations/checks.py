"""System checks of operation. `manage.py check --database default` and `manage.py migrate` run them."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError


def oidc_groups_exist(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn about each group in OIDC_GROUPS that does not exist."""
    if not databases or not settings.OIDC_GROUPS:
        return []
    try:
        missing = missing_groups(set(settings.OIDC_GROUPS.values()))
    except DatabaseError:
        return []  # not migrated yet
    return [
        CheckWarning(
            f"The setting OIDC_GROUPS names the group {name!r}, which does not exist.",
            hint="Nobody gets this group when they sign in. Correct the setting, or create the group in the admin.",
            id="operations.W001",
        )
        for name in sorted(missing)
    ]


def missing_groups(names: set[str]) -> set[str]:
    """Return those of the names that no group has."""
    return names - set(Group.objects.filter(name__in=names).values_list("name", flat=True))
