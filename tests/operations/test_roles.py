"""The ready groups: migrate creates them, also after a flush, and never undoes changes of an administrator."""

import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

from anaphora.operations.models import ReadyGroup
from anaphora.operations.roles import ROLES
from tests.support.processes import ROOT, printed_by, worker_environment

pytestmark = pytest.mark.django_db


def permissions_of(name: str) -> set[str]:
    rows = Permission.objects.filter(group__name=name)
    return {f"{app}.{codename}" for app, codename in rows.values_list("content_type__app_label", "codename")}


def migrate() -> None:
    call_command("migrate", verbosity=0)


class TestGroups:
    def test_every_role_has_a_group(self) -> None:
        assert {each.name for each in ROLES} == set(Group.objects.values_list("name", flat=True))

    def test_a_viewer_can_only_read(self) -> None:
        assert permissions_of("Viewer") == {"reports.view_report", "reports.read_report"}

    def test_an_uploader_cannot_read_what_others_uploaded(self) -> None:
        assert permissions_of("Uploader") == {"reports.view_report", "reports.add_report"}

    def test_an_auditor_can_read_everything_and_change_nothing(self) -> None:
        found = permissions_of("Auditor")
        assert {name.partition(".")[2].partition("_")[0] for name in found} == {"view", "read"}
        ours = Permission.objects.filter(
            content_type__app_label__in=["reports", "deliveries", "operations", "api", "delivery_s3"],
            codename__startswith="view_",
        )
        every = {f"{each.content_type.app_label}.{each.codename}" for each in ours}
        assert every | {"folder_destination.view_folderinterface", "reports.read_report"} <= found

    def test_an_operator_can_test_and_retry_but_not_configure(self) -> None:
        found = permissions_of("Operator")
        changing = {name for name in found if not name.partition(".")[2].startswith("view_")}
        assert changing == {"deliveries.change_delivery", "delivery_s3.test_s3interface"}
        assert "reports.read_report" not in found

    def test_an_administrator_can_do_all_but_nothing_of_django_s_own_tables(self) -> None:
        found = permissions_of("Administrator")
        assert {"delivery_s3.delete_s3interface", "folder_destination.add_folderinterface", "auth.change_user"} <= found
        assert not any(name.startswith(("admin.", "contenttypes.", "sessions.")) for name in found)

    def test_every_kind_of_interface_is_covered(self) -> None:
        for role, action in (("Operator", "view"), ("Auditor", "view"), ("Administrator", "change")):
            assert f"folder_destination.{action}_folderinterface" in permissions_of(role)


class TestMadeOnce:
    def test_migrate_again_changes_nothing(self) -> None:
        before = {role.name: permissions_of(role.name) for role in ROLES}
        migrate()
        assert {role.name: permissions_of(role.name) for role in ROLES} == before

    def test_permissions_that_an_administrator_removed_stay_removed(self) -> None:
        group = Group.objects.get(name="Viewer")
        group.permissions.set(Permission.objects.filter(codename="view_report"))
        Group.objects.filter(name="Operator").update(name="Night shift")
        Group.objects.get(name="Uploader").delete()
        migrate()
        assert permissions_of("Viewer") == {"reports.view_report"}
        assert permissions_of("Night shift")
        assert not Group.objects.filter(name__in=["Operator", "Uploader"]).exists()

    def test_a_new_permission_is_added_to_existing_groups(self) -> None:
        made = ReadyGroup.objects.get(role="Viewer")
        assert made.group is not None
        made.given = ["reports.view_report"]  # an older version did not have read_report
        made.save()
        made.group.permissions.clear()
        migrate()
        assert permissions_of("Viewer") == {"reports.read_report"}

    def test_an_existing_group_is_not_changed(self) -> None:
        ReadyGroup.objects.all().delete()
        Group.objects.all().delete()
        own = Group.objects.create(name="Operator")
        User.objects.create_user("somebody").groups.add(own)
        migrate()
        assert permissions_of("Operator") == set()
        assert permissions_of("Auditor")


@pytest.mark.django_db(transaction=True)
class TestDatabases:
    def test_a_flush_creates_them_again(self) -> None:
        call_command("flush", interactive=False, verbosity=0)
        assert {each.name for each in ROLES} == set(Group.objects.values_list("name", flat=True))
        assert permissions_of("Viewer") == {"reports.view_report", "reports.read_report"}


@pytest.mark.heavy
def test_an_empty_database_gets_them_whatever_app_is_migrated_first(tmp_path: Path) -> None:
    environment = worker_environment() | {"DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}
    manage = [sys.executable, "manage.py"]
    for app in ("reports", "operations", ""):
        printed_by([*manage, "migrate", "--verbosity=0", *([app] if app else [])], ROOT, environment)
    program = "from tests.operations.test_roles import *; print([sorted(permissions_of(r.name)) for r in ROLES])"
    made = printed_by([*manage, "shell", "--verbosity=0", "-c", program], ROOT, environment)
    assert "delivery_s3.test_s3interface" in made
    assert made.count("reports.view_report") == len(ROLES)
