"""Runs management commands in the process of the test."""

import io

from django.core.management import CommandError, call_command


def run_command(command: str, *arguments: str) -> tuple[str, str]:
    """Run a command; return its output and the message of its CommandError, empty if it succeeded."""
    out, problem = io.StringIO(), ""
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        problem = str(error)
    return out.getvalue(), problem
