"""The WSGI entry point: `gunicorn anaphora.wsgi`."""

import os
from collections.abc import Callable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anaphora.settings")

_django = get_wsgi_application()

from anaphora.deliveries import heartbeat  # noqa: E402  # needs the applications loaded
from anaphora.deliveries.models import Role  # noqa: E402


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> HttpResponseBase:
    """Handle a request. The first one starts the heartbeat of the process: a server may fork after importing this."""
    heartbeat.start(Role.WEB)
    return _django(environ, start_response)
