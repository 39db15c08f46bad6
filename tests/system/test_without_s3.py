import os
import sys

from tests.support.processes import ROOT, printed_by


def test_admin_timeline_and_api_work_without_the_app_delivery_s3() -> None:
    assert "all scenarios passed" in printed_by(
        [sys.executable, "-m", "tests.support.without_s3"], ROOT, dict(os.environ)
    )
