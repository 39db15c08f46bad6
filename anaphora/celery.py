"""The Celery app. Celery is only the engine that drains the database's queue of deliveries: a message
carries no report, so losing, doubling or delaying one costs nothing but time."""

import os

from celery import Celery

from anaphora import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anaphora.settings")

broker.install()
app = Celery("anaphora")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
