"""Creates, checks and revokes API tokens. A token is shown once; only its hash is stored.

Tokens are long and random, so a plain SHA-256 without salt is sufficient.
"""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from anaphora.activity import Action, record_each
from anaphora.api.models import ApiToken, Scope

PREFIX = "anaphora_"
"""Allows secret scanners and users to recognize a token."""

LAST_USED_RESOLUTION = timedelta(minutes=1)
"""Minimum time between two updates of `last_used_at`, to avoid a write per request."""


def create(name: str, scopes: Iterable[Scope], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """Create a token. Return its row and the token itself, which cannot be retrieved again."""
    plain = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(name=name, scopes=[scope.value for scope in scopes], expires_at=expires_at)
    row.digest, row.beginning = _digest(plain), plain[: len(PREFIX) + 4]
    row.save()
    return row, plain


def check(plain: str) -> ApiToken | None:
    """Return the row of a valid token and update `last_used_at`. Return None if it is unknown, expired or revoked."""
    now = timezone.now()
    # Each request asks the database, so that a revoked token is refused at once.
    token = next(iter(ApiToken.objects.filter(digest=_digest(plain)).order_by()), None)
    if token is None or token.revoked_at or (token.expires_at and token.expires_at <= now):
        return None
    if token.last_used_at is None or token.last_used_at < now - LAST_USED_RESOLUTION:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(tokens: Iterable[ApiToken]) -> int:
    """Revoke tokens. Return how many were not revoked before."""
    with transaction.atomic():
        valid = list(ApiToken.objects.filter(pk__in=[token.pk for token in tokens], revoked_at__isnull=True))
        ApiToken.objects.filter(pk__in=[token.pk for token in valid]).update(revoked_at=timezone.now())
        record_each(Action.REVOKED, valid)
    return len(valid)


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
