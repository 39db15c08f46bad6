"""The kind of destination "S3 Object Storage"."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class DeliveryS3Config(AppConfig):
    """The kind of destination "S3 Object Storage"."""

    name = "delivery_s3"
    verbose_name = "S3 Object Storage"

    def ready(self) -> None:
        """Register the checks."""
        from delivery_s3 import checks

        register(checks.secrets_can_be_decrypted, Tags.database)
