"""The kind of destination "S3 Object Storage": one bucket at one endpoint, with a key that may write to it."""

from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from model_utils.managers import InheritanceManager

from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface
from delivery_s3 import diagnoses
from delivery_s3.connection import Connection
from delivery_s3.fields import SecretField
from delivery_s3.providers import PROVIDERS, provider_choices
from delivery_s3.secret import Secret, UnreadableSecret
from delivery_s3.storage import S3Destination


class AddressingStyle(models.TextChoices):
    """How a bucket is named in an address."""

    AUTO = "auto", "automatic"
    PATH = "path", "path (host/bucket)"
    VIRTUAL = "virtual", "virtual host (bucket.host)"


class Encryption(models.TextChoices):
    """Server-side encryption that a PUT asks for. Empty: what the bucket does by default."""

    AES256 = "AES256", "AES256 (keys of the store)"
    KMS = "aws:kms", "aws:kms (a KMS key)"


class Credentials(models.TextChoices):
    """Whose credentials sign. Empty: the interface's own keys."""

    MACHINE = "machine", "this machine's role"
    __empty__ = "the access key above"


class ObjectLockMode(models.TextChoices):
    """Object Lock retention that a PUT asks for. Empty: none."""

    GOVERNANCE = "GOVERNANCE", "GOVERNANCE (removable with a special permission)"
    COMPLIANCE = "COMPLIANCE", "COMPLIANCE (removable by nobody)"


class S3Interface(Interface):
    """A bucket to archive to, with everything that a request to it needs."""

    needed_to_read: ClassVar[str] = "s3:GetObject"
    needed_to_list: ClassVar[str] = "s3:ListBucket"

    # Choices by a function, so that a new row in PROVIDERS needs no migration.
    provider = models.CharField(max_length=20, choices=provider_choices, default="aws")
    access_key_id = models.CharField("access key ID", max_length=255, blank=True)
    secret_access_key = SecretField("secret access key", blank=True)
    region = models.CharField(
        max_length=64,
        blank=True,
        help_text="For example eu-central-1. AWS S3 needs it; many others ignore it.",
    )
    bucket_name = models.CharField(max_length=255, help_text="The bucket must exist.")
    # No URLField: that one takes no host of a private network, such as http://minio:9000.
    endpoint_url = models.CharField(
        "custom endpoint",
        max_length=255,
        blank=True,
        help_text="For example https://minio.example.com:9000. Empty for AWS S3.",
    )

    credentials = models.CharField(
        max_length=10,
        blank=True,
        choices=Credentials.choices,
        help_text="This machine's role is what boto3 finds by itself: environment, ~/.aws, container, instance.",
    )
    role_arn = models.CharField(
        "role to assume",
        max_length=2048,
        blank=True,
        help_text="For example arn:aws:iam::123456789012:role/archive. Empty: none.",
    )
    external_id = models.CharField(
        "external ID", max_length=1224, blank=True, help_text="Where the role's trust policy asks for one."
    )
    addressing_style = models.CharField(max_length=10, choices=AddressingStyle.choices, default=AddressingStyle.AUTO)
    ca_bundle = models.TextField(
        "CA bundle",
        blank=True,
        help_text="Certificates (PEM) to trust at this endpoint, instead of the public authorities.",
    )
    server_side_encryption = models.CharField(
        "server-side encryption",
        max_length=10,
        blank=True,
        choices=Encryption.choices,
        help_text="Empty: the bucket's default.",
    )
    kms_key_id = models.CharField("KMS key ID", max_length=2048, blank=True)
    object_lock_mode = models.CharField(
        "Object Lock", max_length=10, blank=True, choices=ObjectLockMode.choices, help_text="Empty: none."
    )
    retention_days = models.PositiveIntegerField(
        "retention",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36_500)],
        help_text="Days from the delivery. Needed with Object Lock.",
    )
    storage_class = models.CharField(
        max_length=40, blank=True, help_text="For example STANDARD_IA. Empty: the bucket's default."
    )

    objects: ClassVar[InheritanceManager["S3Interface"]] = InheritanceManager()

    class Meta:
        verbose_name = "S3 interface"
        permissions = [("test_s3interface", "Can test S3 interface")]

    @property
    def place(self) -> str:
        """The bucket and its endpoint."""
        return f"bucket {self.bucket_name} at {self.endpoint_url or f'AWS S3 {self.region}'.strip()}"

    def configuration(self) -> Connection:
        """Return the connection. Raises DeliveryError where the secret is unreadable."""
        return self.connection()

    def open(self) -> S3Destination:
        """Make the destination. Raises DeliveryError."""
        return S3Destination(self.connection())

    def connection(self, *, fresh: bool = False, **changes: Any) -> Connection:
        """Return what a request needs, with `changes` to it; `fresh` ignores what an earlier test found.

        Raises DeliveryError where the secret is unreadable.
        """
        machine_role = self.credentials == Credentials.MACHINE
        if isinstance(self.secret_access_key, UnreadableSecret) and not machine_role:
            raise DeliveryError(diagnoses.SECRET_UNREADABLE)
        provider = PROVIDERS.get(self.provider, PROVIDERS["other"])
        automatic = self.addressing_style == AddressingStyle.AUTO
        known = {} if fresh else self.capabilities
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
            "conditional_writes": provider.conditional_writes and known.get("condition") != "refused",
            "sha256_header": provider.sha256_header and known.get("sha256") != "refused",
            "allow_private": settings.ALLOW_PRIVATE_ENDPOINTS,
            "max_uploads": settings.DELIVERY_CONCURRENCY,
        }
        return Connection(**(values | changes))
