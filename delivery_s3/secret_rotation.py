"""Re-encrypts the stored secrets with the newest of FERNET_KEYS."""

from django.db import transaction

from delivery_s3.models import S3Interface
from delivery_s3.secret import UnreadableSecret


def reencrypt_secrets() -> tuple[int, list[str]]:
    """Re-encrypt all secrets; return their number, and the names of the interfaces whose secret no key decrypts."""
    count, unreadable = 0, []
    with transaction.atomic():
        for interface in S3Interface.objects.select_for_update():
            if isinstance(interface.secret_access_key, UnreadableSecret):
                unreadable.append(interface.name)
            else:
                interface.save(update_fields=["secret_access_key"])
                count += 1
    return count, unreadable
