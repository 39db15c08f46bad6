"""Numbers of reports that are exact while they are small, and up to a minute old when they are large."""

import pytest
from django.core.cache import cache

from anaphora.reports import counts
from anaphora.reports.models import Dashboard
from tests.support.factories import make_report

pytestmark = pytest.mark.django_db


def test_large_numbers_are_counted_once_a_minute_and_small_ones_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    monkeypatch.setattr(counts, "MOST", 3)
    for dashboard, number in (("large", 5), ("small", 2)):
        for _ in range(number):
            make_report(dashboard=dashboard)
    ids = {row.slug: row.pk for row in Dashboard.objects.all()}
    assert counts.exact_counts(ids.values()) == {ids["large"]: 5, ids["small"]: 2}
    for dashboard in ids:
        make_report(dashboard=dashboard)
    assert counts.exact_counts(ids.values()) == {ids["large"]: 5, ids["small"]: 3}
    cache.clear()
    assert counts.exact_counts(ids.values()) == {ids["large"]: 6, ids["small"]: 3}
    assert counts.report_counts(ids.values()) == {ids["large"]: "over 3", ids["small"]: "3"}
    cache.clear()
