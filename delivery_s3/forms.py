"""The configuration form: every mistake is named at its field, with the remedy."""

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError

from delivery_s3.keys import prefix_problem
from delivery_s3.models import Encryption, S3Interface

_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


class S3InterfaceForm(forms.ModelForm[S3Interface]):
    """The secret never reaches the page: its field is always empty, and left empty it changes nothing."""

    secret_access_key = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )

    class Meta:
        model = S3Interface
        fields = "__all__"  # noqa: DJ007  # what the admin class lists

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("secret_access_key", None)
        secret = self.fields.get("secret_access_key")
        if secret is not None:
            secret.required = self.instance.pk is None
            if self.instance.pk is not None:
                secret.help_text = "Stored encrypted and never shown. Empty: stays as it is."

    def clean_access_key_id(self) -> str:
        """Refuse blanks, which come from pasting and which no store accepts."""
        return _without_blanks(self.cleaned_data["access_key_id"])

    def clean_secret_access_key(self) -> str:
        """Keep the stored secret where the field is empty."""
        typed: str = self.cleaned_data["secret_access_key"]
        if not typed and self.instance.pk is not None:
            stored: str = self.instance.secret_access_key
            return stored
        return _without_blanks(typed)

    def clean_bucket_name(self) -> str:
        """Refuse what can't be a bucket's name with any store."""
        name: str = self.cleaned_data["bucket_name"]
        if not _BUCKET_NAME.fullmatch(name):
            raise ValidationError(
                "A bucket's name has 3 to 255 letters, digits, dots and hyphens, and begins and ends with a letter "
                "or digit. Enter the name alone, without s3:// and without a folder."
            )
        return name

    def clean_endpoint_url(self) -> str:
        """Take an http or https address with nothing behind host and port."""
        url: str = self.cleaned_data["endpoint_url"].rstrip("/")
        if not url:
            return url
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
            raise ValidationError(
                f"Enter {parts.scheme}://{parts.netloc} alone; the bucket and a key prefix have fields of their own."
            )
        return url

    def clean_key_prefix(self) -> str:
        """Take folders, each with its slash."""
        prefix: str = self.cleaned_data["key_prefix"]
        if problem := prefix_problem(prefix):
            raise ValidationError(problem)
        return prefix

    def clean(self) -> dict[str, Any]:
        """Check what concerns two fields."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if values.get("provider") != "aws" and not values.get("endpoint_url") and "endpoint_url" not in self.errors:
            self.add_error("endpoint_url", "Every provider but AWS S3 needs its endpoint here.")
        if values.get("provider") == "aws" and not values.get("region"):
            self.add_error("region", "AWS S3 needs the bucket's region, such as eu-central-1.")
        if values.get("object_lock_mode") and not values.get("retention_days"):
            self.add_error("retention_days", "Object Lock needs a retention: for how many days?")
        if values.get("kms_key_id") and values.get("server_side_encryption") != Encryption.KMS:
            self.add_error("kms_key_id", "A KMS key is used with Server-side encryption aws:kms only.")
        return values


def _without_blanks(text: str) -> str:
    if text != "".join(text.split()):
        raise ValidationError("There is a blank or a line break inside; copy it again.")
    return text
