"""Operation: overview, first steps, expectations, alerts, health and metrics."""

from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate


class OperationsConfig(AppConfig):
    """The app of the overview, expectations, alerts, probes, metrics, roles and the audit trail."""

    name = "anaphora.operations"
    verbose_name = "Operation"

    def ready(self) -> None:
        """Register the check, and connect to the signals of deliveries, of migrate and of the audit trail."""
        apps.get_app_config("axes").verbose_name = "Login attempts"
        from anaphora.deliveries import signals
        from anaphora.operations import audit, audit_actor, audit_changes, checks, roles, watcher

        signals.outcomes_written.connect(_count, dispatch_uid="operations")
        signals.archive_verified.connect(_keep_verification, dispatch_uid="operations")
        register(checks.oidc_groups_exist, Tags.database)
        post_migrate.connect(roles.give_permissions, dispatch_uid="operations.roles")
        watcher.connect()
        audit_actor.connect()
        audit.connect()
        audit_changes.connect()


def _count(*, interface_id: int, outcomes: Any, failures: Any, **kwargs: Any) -> None:
    from anaphora.operations import totals

    totals.add(interface_id, outcomes, failures)


def _keep_verification(*, interface_id: int, checked: int, different: int, **kwargs: Any) -> None:
    from anaphora.operations.models import Verification

    Verification.note(interface_id, checked=checked, different=different)
