import pytest

from tests.support.processes import in_namespace


@pytest.mark.namespace
def test_a_full_or_read_only_local_disk_loses_nothing() -> None:
    """Uses a small disk that the test mounts; see `disk_scenarios`."""
    printed = in_namespace("tests.support.disk_scenarios")
    assert "all scenarios passed" in printed
    assert "The database says" in printed
