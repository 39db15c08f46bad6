"""Time of the pages that operators look at, with 1,000,000 deliveries: `python -m benchmarks.pages`.

On PostgreSQL, with as many entries of the audit trail, each time with an empty cache, compared with the login page,
which runs no queries. Prints the time of each page as a multiple of the login page's, and its number of queries. Exits
1 if one takes more than 20 times as long, or the API's list of dashboards more than 5 times. The shortest of many
rounds counts, because other work on the machine slows down a page with queries more than one without.
"""

import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.million import ROWS, million

WAITING, FAILED, BAR, ROUNDS = 1_000, 500, 20, 21

_FILL = f"""
UPDATE deliveries_delivery SET state = 'pending', delivered_at = NULL WHERE id IN
  (SELECT id FROM deliveries_delivery ORDER BY id DESC LIMIT {WAITING});
UPDATE deliveries_delivery SET state = 'failed', delivered_at = NULL, diagnosis = 'key_taken' WHERE id IN
  (SELECT id FROM deliveries_delivery WHERE state = 'delivered' ORDER BY random() LIMIT {FAILED});
INSERT INTO operations_auditentry (at, actor, actor_kind, actor_id, address, via, action, object_type, object_id,
    object, details)
  SELECT now() - n * interval '1 minute', 'user ' || n % 7, 'user', '', '192.0.2.1', '', 'viewed', 'reports.report',
    n::text, 'report ' || n, '{{}}' FROM generate_series(1, {ROWS}) n;
"""

PAGES = {
    "login": "/admin/login/",
    "overview": "/admin/",
    "settings": "/admin/settings/",
    "dashboards": "/admin/reports/dashboard/",
    "reports": "/admin/reports/report/",
    "failed reports": "/admin/reports/report/?archived=failed",
    "waiting reports": "/admin/reports/report/?archived=waiting",
    "deliveries": "/admin/deliveries/delivery/",
    "failed deliveries": "/admin/deliveries/delivery/?state__exact=failed",
    "interfaces": "/admin/deliveries/interface/",
    "policies": "/admin/deliveries/archivepolicy/",
    "alerts": "/admin/operations/alert/",
    "audit trail": "/admin/operations/auditentry/",
    "audit, an action": "/admin/operations/auditentry/?action__exact=viewed",
    "audit, an actor": "/admin/operations/auditentry/?actor=user+1",
    "audit, a report": "/admin/operations/auditentry/?object_type__exact=reports.report&object_id__exact=77",
    "timeline": "/timeline/",
    "API, dashboards": "/api/v1/dashboards",
    "metrics": "/metrics",
    "ready": "/healthz/ready",
}


def main() -> int:
    """Measure, print; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, million(Path(folder)):
        from django.conf import settings
        from django.contrib.auth.models import User
        from django.core.cache import cache
        from django.db import connection
        from django.test import Client
        from django.test.utils import CaptureQueriesContext

        from anaphora.api import tokens
        from anaphora.api.models import Scope
        from anaphora.deliveries import heartbeat
        from anaphora.deliveries.models import ArchivePolicy, Interface, Role
        from anaphora.operations import totals
        from anaphora.operations.models import Expectation
        from anaphora.reports.models import Dashboard

        token = tokens.create("benchmark", [Scope.READ])[1]
        settings.ALLOWED_HOSTS, settings.METRICS_TOKEN = ["*"], token
        for each in Interface.objects.all():
            ArchivePolicy.objects.create(name=f"to {each}", interface=each)
        with connection.cursor() as cursor:
            cursor.execute(_FILL)
            cursor.execute("VACUUM ANALYZE")
        for role in Role:
            heartbeat.note(role)
        for dashboard in Dashboard.objects.all():
            Expectation.objects.create(dashboard=dashboard, every_hours=24)
        began = time.perf_counter()
        totals.recount()
        print(f"recount of all daily totals, once an hour by a worker: {time.perf_counter() - began:.1f} s")

        client, anonymous = Client(), Client()
        client.force_login(User.objects.create_superuser("admin"))
        times: dict[str, list[float]] = {name: [] for name in PAGES}
        queries = {}
        for number in range(ROUNDS + 1):  # the first one warms up
            for name, path in PAGES.items():
                asker = anonymous if name == "login" else client
                cache.clear()
                began = time.perf_counter()
                answer = asker.get(path, headers={"Authorization": f"Bearer {token}"})
                seconds = time.perf_counter() - began
                assert answer.status_code == 200, (path, answer.status_code)
                if number:
                    times[name].append(seconds)
                    continue
                with CaptureQueriesContext(connection) as captured:
                    asker.get(path, headers={"Authorization": f"Bearer {token}"})
                queries[name] = len(captured)
    shortest = {name: min(each) for name, each in times.items()}
    for name, seconds in shortest.items():
        print(
            f"{name:18} {seconds / shortest['login']:6.1f} x login  {seconds * 1000:8.1f} ms  {queries[name]:3} queries"
        )
    api = shortest.pop("API, dashboards")
    return results.finish(
        "pages",
        results.Bar(
            f"slowest page / login page, {ROWS:,} deliveries", max(shortest.values()) / shortest["login"], at_most=BAR
        ),
        results.Bar("API's list of dashboards / login page", api / shortest["login"], at_most=5),
    )


if __name__ == "__main__":
    sys.exit(main())
