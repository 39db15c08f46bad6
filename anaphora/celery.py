"""The Celery app. The queue of deliveries is in the database, and Celery only processes it. A message contains no
report, so a lost, duplicated or delayed message causes a delay at most."""

import os

from celery import Celery

from anaphora import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anaphora.settings")

broker.install()
app = Celery("anaphora")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
