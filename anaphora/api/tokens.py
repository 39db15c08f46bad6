"""Tokens of the API: made once and shown once; what is kept is a hash.

They are random and long, so a plain SHA-256 is enough: there is nothing to guess.
"""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from anaphora.api.models import ApiToken, Scope

PREFIX = "anaphora_"
"""Lets secret scanners, and people, know one when they see it."""

USED_EVERY = timedelta(minutes=1)
"""How exactly `last_used_at` is kept: not each request is worth a write."""


def create(name: str, scopes: Iterable[Scope], expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """Make a token; return its row and the token itself, which can't be had again."""
    plain = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(name=name, scopes=[scope.value for scope in scopes], expires_at=expires_at)
    row.digest, row.beginning = _digest(plain), plain[: len(PREFIX) + 4]
    row.save()
    return row, plain


def check(plain: str) -> ApiToken | None:
    """Return the token's row if it is one of ours, neither expired nor revoked, and note that it was used."""
    now = timezone.now()
    valid = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    token = ApiToken.objects.filter(valid, digest=_digest(plain), revoked_at__isnull=True).first()
    if token and (token.last_used_at is None or token.last_used_at < now - USED_EVERY):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(tokens: Iterable[ApiToken]) -> int:
    """Make tokens worthless from now on; return how many still were worth something."""
    keys = [token.pk for token in tokens]
    return ApiToken.objects.filter(pk__in=keys, revoked_at__isnull=True).update(revoked_at=timezone.now())


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
