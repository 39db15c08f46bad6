"""Where reports go: S3 interfaces, the policies that choose among them, and the deliveries."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from delivery_s3.diagnoses import DeliveryError
from delivery_s3.fields import SecretField
from delivery_s3.providers import PROVIDERS
from delivery_s3.secret import Secret, UnreadableSecret
from delivery_s3.storage import Connection


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


class S3Interface(models.Model):
    """A reusable destination configuration, what its last test found, and its condition.

    After a failure that concerns all its reports (a bad key, no bucket, no network) an interface is paused:
    until `paused_until` no worker claims its deliveries. `failures` counts such failures in a row. `announced_at` is
    when a message was sent that no worker has taken up yet.
    """

    name = models.CharField(max_length=100, unique=True)
    provider = models.CharField(
        max_length=20, choices=[(each.code, each.name) for each in PROVIDERS.values()], default="aws"
    )
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
    key_prefix = models.CharField(
        max_length=255,
        blank=True,
        help_text="Put before every object key, for example reports/. Empty: nothing.",
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
    catalogue = models.BooleanField(
        "daily catalogue",
        default=True,
        help_text="Each day, one more object per dashboard lists what was stored, so other systems needn't list.",
    )
    enabled = models.BooleanField(default=True, help_text="A disabled interface keeps its deliveries pending.")

    tested_at = models.DateTimeField(null=True, blank=True, editable=False)
    test_passed = models.BooleanField(null=True, editable=False)
    test_report = models.JSONField(default=dict, blank=True, editable=False)
    capabilities = models.JSONField(default=dict, blank=True, editable=False)

    failures = models.PositiveIntegerField(default=0, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    diagnosis = models.CharField(max_length=40, blank=True, editable=False)
    detail = models.TextField(blank=True, editable=False)
    announced_at = models.DateTimeField(null=True, blank=True, editable=False)
    catalogued_until = models.DateField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "S3 interface"
        ordering = ["name"]
        permissions = [("test_s3interface", "Can test S3 interface")]

    def __str__(self) -> str:
        return self.name

    def connection(self, *, fresh: bool = False, **changes: Any) -> Connection:
        """Return what a request needs, with `changes` to it; `fresh` leaves what a test has found out of account.

        Raises DeliveryError where the secret is unreadable.
        """
        machine_role = self.credentials == Credentials.MACHINE
        if isinstance(self.secret_access_key, UnreadableSecret) and not machine_role:
            raise DeliveryError("secret_unreadable")
        provider = PROVIDERS[self.provider]
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
        }
        return Connection(**(values | changes))
