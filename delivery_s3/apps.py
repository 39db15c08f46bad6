"""The kind of destination "S3 Object Storage"."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class DeliveryS3Config(AppConfig):
    name = "delivery_s3"
    verbose_name = "S3 Object Storage"

    def ready(self) -> None:
        from delivery_s3 import checks

        register(checks.secrets_can_be_decrypted, Tags.database)
