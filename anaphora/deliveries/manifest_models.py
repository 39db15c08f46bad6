"""The models behind the proof of an archive: manifests, irregularities, and the keys that sign manifests.

`manifests` and `irregularities` write these rows, `signing` writes the keys. A row that was written to the store is
final.
"""

from django.db import models
from django.utils import timezone


class Manifest(models.Model):
    """The signed list of what one interface stored on one UTC day.

        sealed ──hashed and signed──> written          (final)

    Sealing fixes the content in one transaction: the deliveries and irregularities that refer to the manifest, its
    first line, and the dashboards' titles. From then on its bytes are always the same, so writing can be repeated after
    any failure. The next manifest is sealed after this one has been written.
    """

    interface = models.ForeignKey("deliveries.Interface", on_delete=models.CASCADE, related_name="manifests")
    sequence = models.PositiveIntegerField(help_text="1 for the interface's first manifest.")
    day = models.DateField(help_text="In UTC.")
    key = models.CharField(max_length=1024)
    header = models.TextField(help_text="The first line, without its end.")
    titles = models.JSONField(default=dict, help_text="Titles of the dashboards, as they were when it was sealed.")
    public_key = models.CharField(max_length=64, help_text="Fingerprint of the key that signs it.")
    sealed_at = models.DateTimeField(default=timezone.now)
    size = models.PositiveBigIntegerField(null=True)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    signature = models.BinaryField(default=b"")
    time_stamp = models.BinaryField(default=b"", help_text="RFC 3161.")
    written_at = models.DateTimeField(null=True)
    wants_time_stamp = models.BooleanField(default=False, help_text="Until its time stamp is in the store.")

    class Meta:
        ordering = ["interface", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["interface", "sequence"], name="manifest_is_next"),
            models.UniqueConstraint(fields=["interface", "key"], name="manifest_key_is_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.interface} {self.day}"


class Irregularity(models.Model):
    """An event that an auditor must know about, such as a failed delivery. The next manifest lists it."""

    interface = models.ForeignKey("deliveries.Interface", on_delete=models.CASCADE, related_name="irregularities")
    manifest = models.ForeignKey(
        Manifest, on_delete=models.SET_NULL, null=True, related_name="irregularities", editable=False
    )
    kind = models.CharField(max_length=40)
    at = models.DateTimeField(default=timezone.now)
    facts = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "irregularities"
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.kind} {self.at}"


class SigningKey(models.Model):
    """A signing key made by this installation. `private_key` is encrypted with FERNET_KEYS; the newest key signs."""

    generation = models.PositiveIntegerField(unique=True)
    fingerprint = models.CharField(max_length=64, unique=True)
    public_key = models.TextField(help_text="PEM.")
    private_key = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.fingerprint
