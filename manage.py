#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import DatabaseError

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anaphora.settings")
    try:
        execute_from_command_line(sys.argv)
    except DatabaseError as error:
        from anaphora.commands import database_problem

        problem = database_problem(error)
        if problem is None or "--traceback" in sys.argv:
            raise
        sys.exit(problem)
