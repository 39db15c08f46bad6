"""What a dashboard looked like at an instant."""

from django.apps import AppConfig


class TimelineConfig(AppConfig):
    """What a dashboard looked like at an instant."""

    name = "anaphora.timeline"
    verbose_name = "Timeline"
