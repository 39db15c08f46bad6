"""The commands that the documentation gives, to be run as they stand there."""

import re
import sys
from pathlib import Path

from tests.support.processes import ROOT, printed_by

Recipe = tuple[str, str]
"""Language and code."""


def read(page: str) -> dict[str, Recipe]:
    """Return the recipes of a page of docs/, by name."""
    blocks = re.findall(
        r"^```(\w+) recipe=([\w-]+)\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return {name: (language, code) for language, name, code in blocks}


def run(recipe: Recipe, folder: Path, environment: dict[str, str]) -> str:
    """Run one in a folder; return what it prints. What pip has installed is found before what the machine has."""
    language, code = recipe
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return printed_by(command, folder, environment | {"PATH": path})
