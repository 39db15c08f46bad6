"""The WSGI entry point: `gunicorn anaphora.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anaphora.settings")

application = get_wsgi_application()
