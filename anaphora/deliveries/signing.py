"""The Ed25519 keys that sign manifests: from SIGNING_KEY, or created on first use and encrypted with FERNET_KEYS.

A private key never leaves this module: it is in no message, log or repr. A former key signs one more manifest, the one
that announces its successor.
"""

import hashlib
import logging
from dataclasses import dataclass, field

from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max
from fernet_fields import EncryptedTextField

from anaphora.deliveries.manifest_models import SigningKey

logger = logging.getLogger(__name__)


class SigningProblem(Exception):  # noqa: N818  # a state of the keys, not a malfunction
    """Manifests cannot be signed at present. The message gives the reason and the remedy."""


@dataclass(frozen=True)
class Key:
    """A key pair. `fingerprint` is the SHA-256 of the public key's DER form, in hexadecimal."""

    fingerprint: str
    public_pem: str
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, content: bytes | memoryview) -> bytes:
        """Return the signature, 64 bytes. It is always the same for the same content."""
        return self._private.sign(content)


def current() -> Key:
    """Return the key that signs: the first of SIGNING_KEY, else the newest in the database, created if there is none.

    Raises SigningProblem.
    """
    if settings.SIGNING_KEY:
        return _key_from_pem(settings.SIGNING_KEY[0])
    row = SigningKey.objects.order_by("-generation").first()
    if row is None:
        return make_key()
    return _key_from_row(row)


def find(fingerprint: str) -> Key | None:
    """Return the key pair with this fingerprint, or None if its private key is not available."""
    for each in map(_key_from_pem, settings.SIGNING_KEY):
        if each.fingerprint == fingerprint:
            return each
    row = SigningKey.objects.filter(fingerprint=fingerprint).first()
    try:
        return _key_from_row(row) if row else None
    except SigningProblem as problem:
        logger.warning("%s", problem)
        return None


def known_public_keys() -> dict[str, str]:
    """Return the present and former public keys of this installation: PEM by fingerprint."""
    found = dict(SigningKey.objects.values_list("fingerprint", "public_key"))
    return found | {each.fingerprint: each.public_pem for each in map(_key_from_pem, settings.SIGNING_KEY)}


def make_key() -> Key:
    """Create a new key, which signs from now on unless SIGNING_KEY is set. The former key announces it.

    Two processes that create a key at the same time get the same one.
    """
    private = Ed25519PrivateKey.generate()
    key = _key_from_private(private)
    generation = (SigningKey.objects.aggregate(last=Max("generation"))["last"] or 0) + 1
    try:
        with transaction.atomic():
            SigningKey.objects.create(
                generation=generation,
                fingerprint=key.fingerprint,
                public_key=key.public_pem,
                private_key=_encrypted(_private_pem(private)),
            )
    except IntegrityError:
        return _key_from_row(SigningKey.objects.get(generation=generation))
    return key


def reencrypt() -> tuple[int, list[str]]:
    """Re-encrypt every key with the newest of FERNET_KEYS.

    Return how many were re-encrypted, and the names of those that no key of FERNET_KEYS decrypts.
    """
    done, unreadable = 0, []
    with transaction.atomic():
        for row in SigningKey.objects.select_for_update():
            try:
                private = _decrypted(bytes(row.private_key))
            except SigningProblem:
                unreadable.append(f"signing key {row.fingerprint[:16]}")
                continue
            row.private_key = _encrypted(private)
            row.save(update_fields=["private_key"])
            done += 1
    return done, unreadable


def _key_from_row(row: SigningKey) -> Key:
    return _key_from_pem(_decrypted(bytes(row.private_key)))


def _key_from_pem(pem: str) -> Key:
    private = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    return _key_from_private(private)


def _key_from_private(private: Ed25519PrivateKey) -> Key:
    public = private.public_key()
    return Key(
        fingerprint(public), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), private
    )


def fingerprint(public: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's DER form, in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _private_pem(private: Ed25519PrivateKey) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _encrypted(pem: str) -> bytes:
    token: bytes = EncryptedTextField().fernet.encrypt(pem.encode())
    return token


def _decrypted(token: bytes) -> str:
    try:
        plain: bytes = EncryptedTextField().fernet.decrypt(token)
    except InvalidToken:
        raise SigningProblem(
            "No key of FERNET_KEYS decrypts the signing key. Put the former key of FERNET_KEYS back, or run "
            "rotate_signing_key: it creates a new signing key, and the manifests will say that the former one was lost."
        ) from None
    return plain.decode()
