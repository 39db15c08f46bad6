"""Anaphora: archives rendered dashboard reports. Importing it makes its Celery app the current one."""

from anaphora.celery import app as celery_app

__all__ = ["celery_app"]
