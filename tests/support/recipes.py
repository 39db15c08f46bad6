"""Extracts the commands from the documentation and runs them unchanged."""

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
    """Run a recipe in a folder; return its output. Programs installed by pip come before those of the machine."""
    language, code = recipe
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return printed_by(command, folder, environment | {"PATH": path})
