"""System checks of S3 interfaces. `manage.py check --database default` and `manage.py migrate` run them."""

from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError

from anaphora.secret import UnreadableSecret
from delivery_s3.models import S3Interface


def secrets_can_be_decrypted(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn about each interface whose secret no key of FERNET_KEYS decrypts."""
    if not databases:
        return []
    try:
        interfaces = list(S3Interface.objects.only("name", "secret_access_key"))
    except DatabaseError:
        return []  # not migrated yet
    return [
        CheckWarning(
            f"The secret of the S3 interface {interface.name!r} cannot be decrypted.",
            hint="Add the key that encrypted it to FERNET_KEYS again, or enter the secret again.",
            id="delivery_s3.W001",
        )
        for interface in interfaces
        if isinstance(interface.secret_access_key, UnreadableSecret)
    ]
