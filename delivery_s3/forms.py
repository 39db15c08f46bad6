"""The configuration form of S3 interfaces. Each error is shown at its field and says what to do."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join

from anaphora.deliveries import queue
from anaphora.deliveries.object_keys import prefix_problem
from anaphora.secret import Secret, UnreadableSecret
from anaphora.secret_fields import SecretInput
from delivery_s3 import diagnoses
from delivery_s3.endpoint_guard import is_internal
from delivery_s3.models import Encryption, S3Interface
from delivery_s3.providers import HINTED, PROVIDERS
from delivery_s3.tls import is_readable_pem

_STRICT_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LENIENT_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_FOUR_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam:[a-z0-9-]*:[A-Za-z0-9_-]*:role/[\w+=,.@/-]{1,512}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class S3InterfaceForm(forms.ModelForm[S3Interface]):
    """The form of an S3 interface.

    The secret is never sent to the page: its field is always empty, and an empty field keeps the stored secret. If the
    form has errors, `SecretInput` keeps the secret that was typed.

    The bucket of an interface with receipts cannot be changed, because the receipts refer to it.
    """

    secret_access_key = forms.CharField(
        required=False,
        widget=SecretInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )

    allow_http = forms.BooleanField(
        required=False,
        label="Send reports unencrypted",
        help_text="Only needed for an http endpoint outside your private network.",
    )

    same_store = forms.BooleanField(
        required=False,
        label="The same store at another address",
        help_text="Confirms that the reports archived so far can be read at the new endpoint.",
    )

    class Meta:
        model = S3Interface
        fields = "__all__"  # noqa: DJ007  # what the admin class lists

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("secret_access_key", None)
        # A saved http endpoint was already confirmed.
        self.initial.setdefault("allow_http", self.instance.endpoint_url.startswith("http://"))
        self._has_receipts = self.instance.pk is not None and queue.has_receipts(self.instance.pk)
        self._add_provider_hints()
        if "bucket_name" in self.fields:
            self._lock_bucket_with_receipts()
        secret = self.fields.get("secret_access_key")
        if secret is not None and "credentials" in self.fields:
            own_keys = not self["credentials"].value()
            self.fields["access_key_id"].required = own_keys
            stored = self.instance.secret_access_key
            secret.required = own_keys and not stored and not isinstance(stored, UnreadableSecret)
            if self.instance.pk is not None:
                kept = "Stored encrypted and never shown. Leave empty to keep the stored secret."
                secret.help_text = format_html("{} {}", kept, secret.help_text)

    def _add_provider_hints(self) -> None:
        """Add each provider's name for a field to its help. The page's script shows only the chosen provider's hint."""
        for name in set(HINTED) & self.fields.keys():
            rows = ((code, provider.name, provider.hints[name]) for code, provider in PROVIDERS.items())
            hints = format_html_join("", '<div data-provider="{}"><dt>{}</dt><dd>{}</dd></div>', rows)
            self.fields[name].help_text = format_html(
                '<details class="provider-hints"><summary>By provider</summary><dl>{}</dl></details>', hints
            )

    def _lock_bucket_with_receipts(self) -> None:
        if not self._has_receipts:
            self.fields["same_store"].widget = forms.HiddenInput()
            return
        bucket = self.fields["bucket_name"]
        bucket.disabled = True
        bucket.help_text = (
            "The bucket cannot be changed because reports are archived in it. To use another bucket, create another "
            "interface and an archive policy for it, then run a backfill."
        )

    def clean_access_key_id(self) -> str:
        """Refuse spaces and line breaks, which come from copying and which no store accepts."""
        return _require_no_whitespace(self.cleaned_data["access_key_id"])

    def clean_secret_access_key(self) -> Secret:
        """Return the stored secret if the field is empty."""
        typed: str = self.cleaned_data["secret_access_key"]
        if not typed:
            stored: Secret = self.instance.secret_access_key
            return stored
        return Secret(_require_no_whitespace(typed))

    def clean_region(self) -> str:
        """Accept only the characters of region names: the region becomes part of addresses and signatures."""
        region: str = self.cleaned_data["region"]
        if region and not _REGION.fullmatch(region):
            raise ValidationError("A region has only lowercase letters, digits and hyphens. Example: eu-central-1.")
        return region

    def clean_endpoint_url(self) -> str:
        """Accept an http or https URL without a path; offer a correction for common mistakes."""
        url: str = self.cleaned_data["endpoint_url"].rstrip("/")
        if not url:
            return url
        if ":/" not in url and not url.startswith("/") and not url.endswith(":"):
            raise _correction_error("Begin with https:// (or http://).", "endpoint_url", f"https://{url}")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise ValidationError("Enter https://host or https://host:port. Example: https://minio.example.com:9000.")
        if parts.username is not None or parts.password is not None:
            raise ValidationError("Remove user and password. Enter keys in Access key ID and Secret access key.")
        if parts.path or parts.query or parts.fragment:
            raise _correction_error(
                "Remove everything after host and port. Enter the bucket in Bucket name, a folder in Key prefix.",
                "endpoint_url",
                f"{parts.scheme}://{parts.netloc}",
            )
        return url

    def clean_key_prefix(self) -> str:
        """Accept folders that each end with a slash."""
        prefix: str = self.cleaned_data["key_prefix"]
        if problem := prefix_problem(prefix):
            raise ValidationError(problem)
        return prefix

    def clean_ca_bundle(self) -> str:
        """Accept PEM certificates that can be read; normalize line breaks."""
        bundle = "\n".join(self.cleaned_data["ca_bundle"].splitlines())
        if bundle and not is_readable_pem(bundle):
            raise ValidationError(diagnoses.CA_BUNDLE_INVALID.remedy)
        return bundle

    def clean(self) -> dict[str, Any]:
        """Check rules that involve more than one field."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        for field, problem in self._problems(values):
            if field not in self.errors:
                self.add_error(field, problem)
        return values

    def _problems(self, values: dict[str, Any]) -> Iterator[tuple[str, str | ValidationError]]:
        yield from _bucket_problems(values)
        yield from _endpoint_problems(values)
        if (
            not values.get("credentials")
            and self.instance.pk
            and "access_key_id" in self.changed_data
            and "secret_access_key" not in self.changed_data
        ):
            yield "secret_access_key", "Enter the secret access key that belongs to the new access key ID."
        if self._has_receipts and "endpoint_url" in self.changed_data and not values.get("same_store"):
            problem = (
                "Reports are archived at the current endpoint. Confirm below that the new endpoint is the same store."
            )
            yield "endpoint_url", f"{problem} To use another store, create another interface."
        if values.get("provider") == "aws" and not values.get("region"):
            yield "region", "AWS S3 needs the bucket's region. Example: eu-central-1."
        if values.get("object_lock_mode") and not values.get("retention_days"):
            yield "retention_days", "Object Lock needs a retention. Enter how many days the store keeps each report."
        if values.get("role_arn") and not _ROLE.fullmatch(values["role_arn"]):
            yield (
                "role_arn",
                "Enter the ARN of a role, in the format arn:aws:iam::ACCOUNT:role/NAME.",
            )
        if external_id := values.get("external_id"):
            if not _EXTERNAL_ID.fullmatch(external_id):
                yield (
                    "external_id",
                    "An external ID has at least 2 characters: letters, digits and +=,.@:/-_ without spaces.",
                )
            if not values.get("role_arn"):
                yield "external_id", "An external ID is only used with a role. Enter the role in Role to assume."
        if values.get("kms_key_id") and values.get("server_side_encryption") != Encryption.KMS:
            yield (
                "kms_key_id",
                "A KMS key is used with aws:kms only. Set Server-side encryption to it or leave KMS key ID empty.",
            )


def _bucket_problems(values: dict[str, Any]) -> Iterator[tuple[str, str | ValidationError]]:
    name = values.get("bucket_name", "")
    if not name:
        return
    if "/" in name or ":" in name:
        yield "bucket_name", "Enter only the name of the bucket, without s3:// and without a folder."
    elif values.get("provider") == "other":
        if not _LENIENT_BUCKET.fullmatch(name):
            yield "bucket_name", "A bucket name has 3 to 255 letters, digits, dots, hyphens and underscores."
    elif not _STRICT_BUCKET.fullmatch(name) or ".." in name or _FOUR_NUMBERS.fullmatch(name):
        rule = "3 to 63 lowercase letters, digits, dots and hyphens. It begins and ends with a letter or digit"
        yield "bucket_name", f"A bucket name has {rule}, and it is not an IP address."


def _endpoint_problems(values: dict[str, Any]) -> Iterator[tuple[str, str | ValidationError]]:
    url, bucket, provider = (values.get(name, "") for name in ("endpoint_url", "bucket_name", "provider"))
    if not url:
        if provider != "aws" and "endpoint_url" in values:
            yield "endpoint_url", "Every provider except AWS S3 needs its endpoint here."
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    if bucket and host.startswith(f"{bucket.lower()}."):
        corrected = url.replace(f"{parts.scheme}://{bucket}.", f"{parts.scheme}://", 1)
        yield (
            "endpoint_url",
            _correction_error("Remove the bucket name from the host of the endpoint.", "endpoint_url", corrected),
        )
    elif parts.scheme == "http" and not is_internal(host) and not values.get("allow_http"):
        yield (
            "endpoint_url",
            _correction_error(
                "Reports sent over http are not encrypted and can be read on the network. Use https, or confirm below.",
                "endpoint_url",
                url.replace("http://", "https://", 1),
            ),
        )


def _correction_error(problem: str, field: str, value: str) -> ValidationError:
    """Return an error with a button that fills in the correction `value`."""
    return ValidationError(
        format_html(
            '{} <button type="button" class="fix" data-field="{}" data-value="{}">Use {}</button>',
            problem,
            field,
            value,
            value,
        )
    )


def _require_no_whitespace(text: str) -> str:
    if text != "".join(text.split()):
        raise ValidationError("Remove the space or line break inside the value, or copy the value again.")
    return text
