"""The ready groups: Viewer, Uploader, Operator, Administrator and Auditor.

They are created after each `migrate`, not in a migration: permissions do not exist before the migrations of their app
have run, other kinds of interface may be installed later, and a test that flushes the database gets the groups again.
Each permission is given to a group once. Permissions and groups that an administrator removes or renames stay so.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed
from django.apps.registry import Apps
from django.db import router


@dataclass(frozen=True)
class Role:
    """A ready group. `permissions` are patterns of `app.codename`; `of_interfaces` are actions on interfaces of any
    kind.
    """

    name: str
    permissions: tuple[str, ...]
    of_interfaces: tuple[str, ...] = ()

    def includes(self, permission: str, *, of_interface: bool) -> bool:
        """Return whether the role has a permission, given as `app.codename`."""
        action = permission.partition(".")[2].partition("_")[0]
        return any(fnmatchcase(permission, pattern) for pattern in self.permissions) or (
            of_interface and action in self.of_interfaces
        )


ROLES = [
    Role("Viewer", ("reports.view_report", "reports.read_report")),
    Role("Uploader", ("reports.view_report", "reports.add_report")),
    Role(
        "Operator",
        (
            "reports.view_*",
            "deliveries.view_delivery",
            "deliveries.change_delivery",
            "deliveries.view_archivepolicy",
            "operations.view_expectation",
            "operations.view_alert",
            "operations.view_alertchannel",
        ),
        of_interfaces=("view", "test"),
    ),
    Role(
        "Administrator",
        (
            "reports.*",
            "deliveries.*",
            "operations.*",
            "api.*",
            "auth.*_user",
            "auth.*_group",
            "axes.view_*",
            "axes.delete_accessattempt",
            "django_celery_beat.*_periodictask",
        ),
        of_interfaces=("view", "add", "change", "delete", "test"),
    ),
    Role(
        "Auditor",
        (
            "reports.view_*",
            "reports.read_report",
            "deliveries.view_*",
            "operations.view_*",
            "api.view_*",
            "auth.view_user",
            "auth.view_group",
            "axes.view_*",
            "django_celery_beat.view_periodictask",
        ),
        of_interfaces=("view",),
    ),
]


def give_permissions(app_config: AppConfig, using: str, apps: Apps = installed, **kwargs: Any) -> None:
    """Give each role the permissions of an app that it has not been given yet. Receives `post_migrate` of every app.

    Django's own receiver, which creates the permissions of the app, was connected before and has run by then.
    """

    try:
        ready = apps.get_model("operations", "ReadyGroup")
    except LookupError:  # its migration has not run yet; the next migrate does it
        return
    if not router.allow_migrate_model(using, ready):
        return
    found = _permissions_of(app_config.label, using, apps)
    for role in ROLES:
        wanted = {name for name, (_, of_interface) in found.items() if role.includes(name, of_interface=of_interface)}
        if not wanted:
            continue
        made = _ready_group(role, using, apps)
        new = wanted - set(made.given)
        if made.group is not None:
            through = type(made.group).permissions.through
            rows = [through(group_id=made.group.pk, permission_id=found[name][0]) for name in new]
            through.objects.using(using).bulk_create(rows, ignore_conflicts=True)
        made.given = sorted({*made.given, *new})
        made.save(using=using)


def _permissions_of(label: str, using: str, apps: Apps) -> dict[str, tuple[int, bool]]:
    """Return the ids of an app's permissions, and whether each concerns a kind of interface, by `app.codename`."""
    from anaphora.deliveries.models import kinds

    of_interfaces = {kind._meta.model_name for kind in kinds() if kind._meta.app_label == label}
    rows = apps.get_model("auth", "Permission").objects.using(using).filter(content_type__app_label=label)
    return {
        f"{label}.{codename}": (pk, model in of_interfaces)
        for pk, codename, model in rows.values_list("pk", "codename", "content_type__model")
    }


def _ready_group(role: Role, using: str, apps: Apps) -> Any:
    """Return the row of a role. The first time, create its group, unless there is a group of that name already."""
    groups = apps.get_model("auth", "Group").objects.using(using)
    made, first = apps.get_model("operations", "ReadyGroup").objects.using(using).get_or_create(role=role.name)
    if first and not groups.filter(name=role.name).exists():
        made.group = groups.bulk_create([groups.model(name=role.name)])[0]
    return made
