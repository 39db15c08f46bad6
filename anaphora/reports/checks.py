"""System checks of the local store. `manage.py check` and most other commands run them."""

import tempfile
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error


def local_store_can_be_written(**kwargs: Any) -> list[CheckMessage]:
    """Return an error if a file cannot be written to DATA_DIR."""
    try:
        with tempfile.TemporaryFile(dir=settings.DATA_DIR) as probe:
            probe.write(b"x")
    except OSError as error:
        return [
            Error(
                f"Cannot write to the folder DATA_DIR ({settings.DATA_DIR}): {error.strerror}.",
                hint="Reports cannot be ingested. Check owner, permissions and free disk space of the folder.",
                id="reports.E001",
            )
        ]
    return []
