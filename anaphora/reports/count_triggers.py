"""Database triggers that maintain `ReportCount`, so that exact numbers of reports need no counting.

They apply to every inserted report, regardless of the code that inserts it. `install()` runs after each migration.
"""

from typing import Any

from django.apps import apps as installed
from django.apps.registry import Apps
from django.db import connections, transaction

# Adds to any row of the dashboard that no other transaction has locked, or inserts a new row if there is none. So
# concurrent transactions do not wait for each other, and a dashboard has at most as many rows as it had of them.
_POSTGRESQL = [
    """
CREATE OR REPLACE FUNCTION reports_count() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    change record;
BEGIN
    FOR change IN
        SELECT dashboard_id, count(*) * CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END AS reports
        FROM changed GROUP BY dashboard_id
    LOOP
        UPDATE reports_reportcount SET reports = reports + change.reports WHERE id = (
            SELECT id FROM reports_reportcount WHERE dashboard_id = change.dashboard_id LIMIT 1 FOR UPDATE SKIP LOCKED
        );
        IF NOT FOUND THEN
            INSERT INTO reports_reportcount (dashboard_id, reports) VALUES (change.dashboard_id, change.reports);
        END IF;
    END LOOP;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER reports_count_inserted AFTER INSERT ON reports_report REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION reports_count()
""",
    """
CREATE TRIGGER reports_count_deleted AFTER DELETE ON reports_report REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION reports_count()
""",
]

# One transaction writes at a time, so one row for each dashboard is enough.
_SQLITE = [
    """
CREATE TRIGGER reports_count_inserted AFTER INSERT ON reports_report BEGIN
    INSERT INTO reports_reportcount (dashboard_id, reports) SELECT NEW.dashboard_id, 0
        WHERE NOT EXISTS (SELECT 1 FROM reports_reportcount WHERE dashboard_id = NEW.dashboard_id);
    UPDATE reports_reportcount SET reports = reports + 1 WHERE dashboard_id = NEW.dashboard_id;
END
""",
    """
CREATE TRIGGER reports_count_deleted AFTER DELETE ON reports_report BEGIN
    UPDATE reports_reportcount SET reports = reports - 1 WHERE dashboard_id = OLD.dashboard_id;
END
""",
]

_EXISTS = {
    "postgresql": "SELECT 1 FROM pg_trigger WHERE tgrelid = 'reports_report'::regclass AND tgname = %s",
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = %s",
}

_RECOUNT = [
    "DELETE FROM reports_reportcount",
    """
INSERT INTO reports_reportcount (dashboard_id, reports)
SELECT dashboard_id, count(*) FROM reports_report GROUP BY dashboard_id
""",
]


def install(*, using: str, apps: Apps = installed, **kwargs: Any) -> None:
    """Create the triggers if they are missing, and count the existing reports.

    On SQLite, a migration that rebuilds the table of reports drops its triggers. On PostgreSQL, creating a trigger
    locks the table against inserts until the end of the transaction, so no report is missed.
    """
    try:
        apps.get_model("reports", "ReportCount")
    except LookupError:
        return  # the migrations of other apps ran first
    database = connections[using]
    with transaction.atomic(using), database.cursor() as cursor:
        cursor.execute(_EXISTS[database.vendor], ["reports_count_inserted"])
        if cursor.fetchone():
            return
        for statement in [*(_POSTGRESQL if database.vendor == "postgresql" else _SQLITE), *_RECOUNT]:
            cursor.execute(statement)
