"""Anaphora archives rendered dashboard reports. Importing this package sets its Celery app as the current app."""

from anaphora.celery import app as celery_app

__all__ = ["celery_app"]
