"""Housekeeping: the removal of local copies that are safely archived.

A local copy is removed only if its dashboard has a number of days to keep local copies, and every interface that
should have the report confirmed it with at least HOUSEKEEPING_INTEGRITY. The report's row stays, and the file can be
read from the store.

It also removes what killed processes left on the disk: uploads, local copies and previews that belong to no report.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path

from django.conf import settings

from anaphora.deliveries import receipts
from anaphora.reports import orphans
from anaphora.reports.models import Dashboard, Report, local_store

logger = logging.getLogger(__name__)

BATCH = 500

A_DAY = timedelta(days=1)
"""A file that has not changed for this long is no longer being written."""

MOST_ORPHANS = 20
"""Local copies without a report that killed processes may have left. More than that belong to another database, or to
one that was restored from an older backup: they may be the only copies of reports."""

LONGEST_DAYS = 36_500
"""Upper limit for a dashboard's days. A larger number could lead to a date outside the calendar and raise."""


@dataclass
class Removed:
    """What one run removed, or would remove in a dry run."""

    reports: int = 0
    bytes: int = 0
    unsafe: int = 0
    """Reports that are old enough, but have not been safely archived for long enough."""
    orphans: int = 0
    """Local copies that belong to no report."""


def run_housekeeping(now: datetime, *, dry_run: bool = False) -> Removed:
    """Remove the local copies that are due for removal; `now` is aware."""
    done = Removed()
    if not dry_run:
        _remove_interrupted_uploads(now)
        _remove_previews(now - A_DAY)
    done.orphans = _remove_orphans(now - A_DAY, dry_run=dry_run)
    for dashboard in Dashboard.objects.filter(keep_local_days__isnull=False):
        keep = timedelta(days=min(dashboard.keep_local_days or 0, LONGEST_DAYS))
        for reports in _batches(dashboard, now - keep):
            safe = receipts.safe_since([report.pk for report in reports], settings.HOUSEKEEPING_INTEGRITY)
            for report in reports:
                since = safe.get(report.pk)
                if since is None or since + keep > now:
                    done.unsafe += 1
                    continue
                done.reports += 1
                done.bytes += report.size
                if not dry_run:
                    _remove(report)
    return done


def _batches(dashboard: Dashboard, before: datetime) -> Iterator[list[Report]]:
    """Yield the reports that have a local copy and came in not later than `before`, in batches."""
    rows = Report.objects.filter(dashboard=dashboard, ingested_at__lte=before).exclude(file="").order_by("pk")
    last = None
    while True:
        found = list((rows if last is None else rows.filter(pk__gt=last)).select_related("dashboard")[:BATCH])
        if not found:
            return
        yield found
        last = found[-1].pk


def _remove_orphans(before: datetime, *, dry_run: bool) -> int:
    """Remove the local copies that belong to no report; return how many. Remove none if over MOST_ORPHANS."""
    found = list(islice(orphans.find_orphans(Path(local_store().location), before), MOST_ORPHANS + 1))
    if len(found) > MOST_ORPHANS:
        logger.error(
            "More than %d local copies belong to no report, such as %s. None of them is removed. Check that "
            "DATABASE_URL leads to the right database. If the database was restored from a backup, ingest them "
            "again with manage.py ingest.",
            MOST_ORPHANS,
            found[0],
        )
        return 0
    for file in [] if dry_run else found:
        file.unlink(missing_ok=True)
        logger.info("Removed %s, which belongs to no report", file)
    return len(found)


def _remove_previews(before: datetime) -> None:
    """Remove previews of reports that no longer exist, and those that were never finished."""
    folder = settings.DATA_DIR / "previews"
    for file in chain(orphans.find_orphans(folder, before), orphans.find_unfinished(folder, before)):
        file.unlink(missing_ok=True)


def _remove_interrupted_uploads(now: datetime) -> None:
    """Remove temporary files that killed web servers left. No upload takes a day."""
    for file in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
        with suppress(FileNotFoundError):  # an upload or a download ended meanwhile
            if file.stat().st_mtime < (now - A_DAY).timestamp():
                file.unlink()


def _remove(report: Report) -> None:
    # The file first: if this process dies before the row is updated, the next run repeats both steps.
    report.local_path.unlink(missing_ok=True)
    Report.objects.filter(pk=report.pk).update(file="")
    logger.info("Removed the local copy of %s, which is safely archived", report)
