"""System checks of the reports' surroundings: `manage.py check` runs them, and so does every command that starts."""

import tempfile
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error


def local_store_can_be_written(**kwargs: Any) -> list[CheckMessage]:
    """Prove that DATA_DIR can be written by writing there."""
    try:
        with tempfile.TemporaryFile(dir=settings.DATA_DIR) as probe:
            probe.write(b"x")
    except OSError as error:
        return [
            Error(
                f"The folder DATA_DIR ({settings.DATA_DIR}) can't be written: {error.strerror}.",
                hint="Reports couldn't be taken in. Check its owner, its permissions and the space on its disk.",
                id="reports.E001",
            )
        ]
    return []
