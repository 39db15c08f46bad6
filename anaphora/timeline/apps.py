"""The timeline: the reports of a dashboard as of an instant."""

from django.apps import AppConfig


class TimelineConfig(AppConfig):
    """The timeline: the reports of a dashboard as of an instant."""

    name = "anaphora.timeline"
    verbose_name = "Timeline"
