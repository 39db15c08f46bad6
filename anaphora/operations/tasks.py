"""The Celery tasks of operation: scheduled connection tests, and the retention of the audit trail.

Alerts do not use Celery; see `watcher`.
"""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from anaphora.deliveries.models import Interface
from anaphora.operations import audit

logger = logging.getLogger(__name__)


@shared_task(name="operations.retest")
def retest() -> None:
    """Test each enabled interface that was not tested in the last RETEST_HOURS."""
    if not settings.RETEST_HOURS:
        return
    before = timezone.now() - timedelta(hours=settings.RETEST_HOURS)
    due = Q(tested_at__isnull=True) | Q(tested_at__lt=before) | Q(tested_at__gt=timezone.now() + timedelta(minutes=1))
    for interface in Interface.objects.filter(due, enabled=True).select_subclasses():
        try:
            interface.test()
        except Exception:
            logger.exception("The scheduled test of %s failed unexpectedly", interface.name)


@shared_task(name="operations.remove_old_audit_entries")
def remove_old_audit_entries() -> None:
    """Remove the entries of the audit trail that are older than AUDIT_RETENTION days."""
    audit.remove_old(timezone.now())
