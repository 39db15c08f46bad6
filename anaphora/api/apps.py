"""The HTTP API and its tokens."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The HTTP API and its tokens."""

    name = "anaphora.api"
    verbose_name = "API"
