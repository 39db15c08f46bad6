"""The configuration form: every mistake is named at its field, with the remedy."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html

from anaphora.deliveries import queue
from anaphora.deliveries.object_keys import prefix_problem
from delivery_s3 import diagnoses
from delivery_s3.endpoint_guard import is_internal
from delivery_s3.fields import SecretInput
from delivery_s3.models import Encryption, S3Interface
from delivery_s3.secret import Secret, UnreadableSecret
from delivery_s3.tls import readable

_STRICT_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LENIENT_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_FOUR_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam:[a-z0-9-]*:[A-Za-z0-9_-]*:role/[\w+=,.@/-]{1,512}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class S3InterfaceForm(forms.ModelForm[S3Interface]):
    """The secret never reaches the page: its field is always empty, and left empty it changes nothing. What was typed
    before a save was refused is kept.

    An interface that has receipts stays with its bucket: they say that their reports are there.
    """

    secret_access_key = forms.CharField(
        required=False,
        widget=SecretInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )

    allow_http = forms.BooleanField(
        required=False,
        label="Send reports unencrypted",
        help_text="Only needed for an http endpoint outside your own network.",
    )

    same_store = forms.BooleanField(
        required=False,
        label="The same store at another address",
        help_text="The reports archived so far are behind the new endpoint too.",
    )

    class Meta:
        model = S3Interface
        fields = "__all__"  # noqa: DJ007  # what the admin class lists

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("secret_access_key", None)
        # Whoever saved an http endpoint has confirmed it.
        self.initial.setdefault("allow_http", self.instance.endpoint_url.startswith("http://"))
        self._has_receipts = self.instance.pk is not None and queue.has_receipts(self.instance.pk)
        if "bucket_name" in self.fields:
            self._stay_with_the_bucket()
        secret = self.fields.get("secret_access_key")
        if secret is not None and "credentials" in self.fields:
            own_keys = not self["credentials"].value()
            self.fields["access_key_id"].required = own_keys
            stored = self.instance.secret_access_key
            secret.required = own_keys and not stored and not isinstance(stored, UnreadableSecret)
            if self.instance.pk is not None:
                secret.help_text = "Stored encrypted and never shown. Empty: stays as it is."

    def _stay_with_the_bucket(self) -> None:
        if not self._has_receipts:
            self.fields["same_store"].widget = forms.HiddenInput()
            return
        bucket = self.fields["bucket_name"]
        bucket.disabled = True
        bucket.help_text = (
            "Reports are archived here, so it stays. For another bucket, make another interface and a policy with it, "
            "and backfill."
        )

    def clean_access_key_id(self) -> str:
        """Refuse blanks, which come from pasting and which no store accepts."""
        return _without_blanks(self.cleaned_data["access_key_id"])

    def clean_secret_access_key(self) -> Secret:
        """Keep the stored secret where the field is empty."""
        typed: str = self.cleaned_data["secret_access_key"]
        if not typed:
            stored: Secret = self.instance.secret_access_key
            return stored
        return Secret(_without_blanks(typed))

    def clean_region(self) -> str:
        """Take what can be a region's name: it becomes part of addresses and signatures."""
        region: str = self.cleaned_data["region"]
        if region and not _REGION.fullmatch(region):
            raise ValidationError("A region is written in small letters, digits and hyphens, such as eu-central-1.")
        return region

    def clean_endpoint_url(self) -> str:
        """Take an http or https address with nothing behind host and port; offer what was meant."""
        url: str = self.cleaned_data["endpoint_url"].rstrip("/")
        if not url:
            return url
        if ":/" not in url and not url.startswith("/") and not url.endswith(":"):
            raise _offer("Begin with https:// (or http://).", "endpoint_url", f"https://{url}")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise ValidationError("Enter https://host or https://host:port, such as https://minio.example.com:9000.")
        if parts.username is not None or parts.password is not None:
            raise ValidationError("Leave user and password out; the keys have fields of their own.")
        if parts.path or parts.query or parts.fragment:
            raise _offer(
                "Nothing belongs behind host and port; the bucket and a key prefix have fields of their own.",
                "endpoint_url",
                f"{parts.scheme}://{parts.netloc}",
            )
        return url

    def clean_key_prefix(self) -> str:
        """Take folders, each with its slash."""
        prefix: str = self.cleaned_data["key_prefix"]
        if problem := prefix_problem(prefix):
            raise ValidationError(problem)
        return prefix

    def clean_ca_bundle(self) -> str:
        """Take certificates that can be read, with plain line breaks."""
        bundle = "\n".join(self.cleaned_data["ca_bundle"].splitlines())
        if bundle and not readable(bundle):
            raise ValidationError(diagnoses.CA_BUNDLE_INVALID.remedy)
        return bundle

    def clean(self) -> dict[str, Any]:
        """Check what concerns two fields."""
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
            yield "secret_access_key", "A new access key ID needs the secret that was issued with it."
        if self._has_receipts and "endpoint_url" in self.changed_data and not values.get("same_store"):
            problem = "Reports are archived behind the present endpoint. Confirm below that the new one leads to them."
            yield "endpoint_url", f"{problem} For another store, make another interface."
        if values.get("provider") == "aws" and not values.get("region"):
            yield "region", "AWS S3 needs the bucket's region, such as eu-central-1."
        if values.get("object_lock_mode") and not values.get("retention_days"):
            yield "retention_days", "Object Lock needs a retention: for how many days?"
        if values.get("role_arn") and not _ROLE.fullmatch(values["role_arn"]):
            yield "role_arn", "A role is written as arn:aws:iam::ACCOUNT:role/NAME; copy it from the role's page."
        if external_id := values.get("external_id"):
            if not _EXTERNAL_ID.fullmatch(external_id):
                yield (
                    "external_id",
                    "An external ID has at least 2 letters, digits and signs out of +=,.@:/-_, no blanks.",
                )
            if not values.get("role_arn"):
                yield "external_id", "An external ID belongs to a role: name it in Role to assume."
        if values.get("kms_key_id") and values.get("server_side_encryption") != Encryption.KMS:
            yield "kms_key_id", "A KMS key is used with Server-side encryption aws:kms only."


def _bucket_problems(values: dict[str, Any]) -> Iterator[tuple[str, str | ValidationError]]:
    name = values.get("bucket_name", "")
    if not name:
        return
    if "/" in name or ":" in name:
        yield "bucket_name", "Enter the bucket's name alone, without s3:// and without a folder."
    elif values.get("provider") == "other":
        if not _LENIENT_BUCKET.fullmatch(name):
            yield "bucket_name", "A bucket's name has 3 to 255 letters, digits, dots, hyphens and underscores."
    elif not _STRICT_BUCKET.fullmatch(name) or ".." in name or _FOUR_NUMBERS.fullmatch(name):
        rule = "3 to 63 small letters, digits, dots and hyphens, a letter or digit first and last, and no IP address"
        yield "bucket_name", f"A bucket's name has {rule}."


def _endpoint_problems(values: dict[str, Any]) -> Iterator[tuple[str, str | ValidationError]]:
    url, bucket, provider = (values.get(name, "") for name in ("endpoint_url", "bucket_name", "provider"))
    if not url:
        if provider != "aws" and "endpoint_url" in values:
            yield "endpoint_url", "Every provider but AWS S3 needs its endpoint here."
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    if bucket and host.startswith(f"{bucket.lower()}."):
        right = url.replace(f"{parts.scheme}://{bucket}.", f"{parts.scheme}://", 1)
        yield "endpoint_url", _offer("The bucket's name is in front of the endpoint's own.", "endpoint_url", right)
    elif parts.scheme == "http" and not is_internal(host) and not values.get("allow_http"):
        yield (
            "endpoint_url",
            _offer(
                "Over http, reports cross the network unencrypted for everybody to read. Use https, or confirm below.",
                "endpoint_url",
                url.replace("http://", "https://", 1),
            ),
        )


def _offer(problem: str, field: str, value: str) -> ValidationError:
    """Return an error that carries a button which enters what was probably meant."""
    return ValidationError(
        format_html(
            '{} <button type="button" class="fix" data-field="{}" data-value="{}">Use {}</button>',
            problem,
            field,
            value,
            value,
        )
    )


def _without_blanks(text: str) -> str:
    if text != "".join(text.split()):
        raise ValidationError("There is a blank or a line break inside; copy it again.")
    return text
