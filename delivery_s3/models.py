"""The model of an S3 interface: one bucket at one endpoint, and the credentials to write to it."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from model_utils.managers import InheritanceManager

from anaphora.deliveries.destinations import Protection
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface
from anaphora.secret import Secret, UnreadableSecret
from anaphora.secret_fields import SecretField
from delivery_s3 import diagnoses, immutability
from delivery_s3.connection import Connection
from delivery_s3.providers import PROVIDERS, provider_choices
from delivery_s3.storage import S3Destination


class AddressingStyle(models.TextChoices):
    """The position of the bucket name in the URL of a request."""

    AUTO = "auto", "automatic"
    PATH = "path", "path (host/bucket)"
    VIRTUAL = "virtual", "virtual host (bucket.host)"


class Encryption(models.TextChoices):
    """Server-side encryption that a PUT requests. Empty: the default encryption of the bucket."""

    AES256 = "AES256", "AES256 (keys managed by the store)"
    KMS = "aws:kms", "aws:kms (a KMS key)"


class Credentials(models.TextChoices):
    """The credentials that sign requests. Empty: the access key of the interface."""

    MACHINE = "machine", "this machine's role"
    __empty__ = "the access key above"


class ObjectLockMode(models.TextChoices):
    """Object Lock retention mode that a PUT requests. Empty: none."""

    GOVERNANCE = "GOVERNANCE", "GOVERNANCE (objects can be deleted with a special permission)"
    COMPLIANCE = "COMPLIANCE", "COMPLIANCE (objects cannot be deleted by anyone)"


class S3Interface(Interface):
    """A bucket to archive reports in, with the settings that requests to it need."""

    needed_to_read: ClassVar[str] = "s3:GetObject (in a versioned bucket s3:GetObjectVersion too)"
    needed_to_list: ClassVar[str] = "s3:ListBucket"

    # The choices come from a function, so that a new row in PROVIDERS needs no migration.
    provider = models.CharField(max_length=20, choices=provider_choices, default="aws")
    access_key_id = models.CharField("access key ID", max_length=255, blank=True)
    secret_access_key = SecretField("secret access key", blank=True)
    region = models.CharField(
        max_length=64,
        blank=True,
        help_text="For example eu-central-1. Required for AWS S3; many other stores ignore it.",
    )
    bucket_name = models.CharField(max_length=255, help_text="The bucket must exist.")
    # Not a URLField: it refuses host names without a domain, such as http://minio:9000.
    endpoint_url = models.CharField(
        "custom endpoint",
        max_length=255,
        blank=True,
        help_text="For example https://minio.example.com:9000. Leave empty for AWS S3.",
    )

    credentials = models.CharField(
        max_length=10,
        blank=True,
        choices=Credentials.choices,
        help_text="The role of this machine comes from the environment, ~/.aws, the container or the instance.",
    )
    role_arn = models.CharField(
        "role to assume",
        max_length=2048,
        blank=True,
        help_text="For example arn:aws:iam::123456789012:role/archive. Leave empty to assume no role.",
    )
    external_id = models.CharField(
        "external ID",
        max_length=1224,
        blank=True,
        help_text="Only needed if the role's trust policy requires one.",
    )
    addressing_style = models.CharField(max_length=10, choices=AddressingStyle.choices, default=AddressingStyle.AUTO)
    ca_bundle = models.TextField(
        "CA bundle",
        blank=True,
        help_text="Certificates (PEM) to trust for this endpoint. Leave empty to trust the public authorities.",
    )
    server_side_encryption = models.CharField(
        "server-side encryption",
        max_length=10,
        blank=True,
        choices=Encryption.choices,
        help_text="Leave empty to use the bucket's default.",
    )
    kms_key_id = models.CharField("KMS key ID", max_length=2048, blank=True)
    object_lock_mode = models.CharField(
        "Object Lock",
        max_length=10,
        blank=True,
        choices=ObjectLockMode.choices,
        help_text="Leave empty for no retention.",
    )
    retention_days = models.PositiveIntegerField(
        "retention",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36_500)],
        help_text="In days, counted from the delivery. Required for Object Lock.",
    )
    storage_class = models.CharField(
        max_length=40, blank=True, help_text="For example STANDARD_IA. Leave empty to use the bucket's default."
    )

    objects: ClassVar[InheritanceManager["S3Interface"]] = InheritanceManager()

    class Meta:
        verbose_name = "S3 interface"
        permissions = [("test_s3interface", "Can test S3 interface")]

    @property
    def place(self) -> str:
        """The bucket and its endpoint, in words."""
        return f"bucket {self.bucket_name} at {self.endpoint_url or f'AWS S3 {self.region}'.strip()}"

    @property
    def container(self) -> str:
        """The bucket."""
        return self.bucket_name

    @property
    def retention(self) -> str:
        """The Object Lock mode and its days."""
        return f"{self.object_lock_mode}, {self.retention_days} days" if self.object_lock_mode else ""

    def configuration(self) -> Connection:
        """Return the connection. Raises DeliveryError if the secret cannot be decrypted."""
        return self.connection()

    def open(self) -> S3Destination:
        """Return the destination. Raises DeliveryError."""
        return S3Destination(self.connection())

    def test(self) -> bool:
        """Run the connection test, record its result, and remove the test file if s3:DeleteObject is granted."""
        from delivery_s3.connection_test import services  # which needs this module

        report = services.test_and_record(self)
        if report.object_key:
            with suppress(DeliveryError):
                services.remove_test_file(self, report.object_key)
        return report.passed

    def check_protection(self, now: datetime) -> Protection:
        """Run the immutability check on an object of its own. Raises DeliveryError."""
        return immutability.check(self.open(), prefix=self.key_prefix, now=now.astimezone(UTC))

    def connection(self, *, fresh: bool = False, **changes: Any) -> Connection:
        """Return the settings of requests, with `changes` applied.

        `fresh` ignores the capabilities that an earlier test found. Raises DeliveryError if the secret cannot be
        decrypted.
        """
        machine_role = self.credentials == Credentials.MACHINE
        if isinstance(self.secret_access_key, UnreadableSecret) and not machine_role:
            raise DeliveryError(diagnoses.SECRET_UNREADABLE)
        provider = PROVIDERS.get(self.provider, PROVIDERS["other"])
        automatic = self.addressing_style == AddressingStyle.AUTO
        capabilities = {} if fresh else self.capabilities
        values: dict[str, Any] = {
            "access_key_id": "" if machine_role else self.access_key_id,
            "secret_access_key": Secret("") if machine_role else self.secret_access_key,
            "machine_role": machine_role,
            "role_arn": self.role_arn,
            "external_id": self.external_id,
            "region": self.region or "us-east-1",
            "bucket_name": self.bucket_name,
            "endpoint_url": self.endpoint_url,
            "addressing_style": provider.addressing_style if automatic else self.addressing_style,
            "ca_bundle": self.ca_bundle,
            "server_side_encryption": self.server_side_encryption,
            "kms_key_id": self.kms_key_id,
            "object_lock_mode": self.object_lock_mode,
            "retention_days": self.retention_days or 0,
            "storage_class": self.storage_class,
            "conditional_writes": provider.conditional_writes and capabilities.get("condition") != "refused",
            "sha256_header": provider.sha256_header and capabilities.get("sha256") != "refused",
            "allow_private": settings.ALLOW_PRIVATE_ENDPOINTS,
            "max_uploads": settings.DELIVERY_CONCURRENCY,
        }
        return Connection(**(values | changes))
