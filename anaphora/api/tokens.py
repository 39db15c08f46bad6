"""Creates, checks and revokes API tokens. A token is shown once; only its hash is stored.

Tokens are long and random, so a plain SHA-256 without salt is sufficient.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
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
    adapt = connection.ops.adapt_datetimefield_value
    # Each request asks the database, so that a revoked token is refused at once.
    row = _first_row(_VALID, [adapt(now - LAST_USED_RESOLUTION), _digest(plain), adapt(now)])
    if row is None:
        return None
    pk, name, beginning, scopes, stale = row
    if stale:
        ApiToken.objects.filter(pk=pk).update(last_used_at=now)
    return ApiToken.from_db(None, ["id", "name", "beginning", "scopes"], [pk, name, beginning, json.loads(scopes)])


def _first_row(statement: str, parameters: list[Any]) -> Any:
    """Return the first row of a query, the first one of a request; connect again if the connection has failed.

    So Django's own check of a connection, a statement for each request, is not needed.
    """

    def first_row() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchone()

    connection.health_check_done = True  # type: ignore[attr-defined]
    try:
        return first_row()
    except (InterfaceError, OperationalError):
        if connection.in_atomic_block:
            raise
        connection.close()
        return first_row()


# Plain SQL, because Django takes longer to put it together than the database to execute it.
_VALID = """
SELECT id, name, beginning, scopes, last_used_at IS NULL OR last_used_at < %s FROM api_apitoken
WHERE digest = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)
"""


def revoke(tokens: Iterable[ApiToken]) -> int:
    """Revoke tokens. Return how many were not revoked before."""
    with transaction.atomic():
        valid = list(ApiToken.objects.filter(pk__in=[token.pk for token in tokens], revoked_at__isnull=True))
        ApiToken.objects.filter(pk__in=[token.pk for token in valid]).update(revoked_at=timezone.now())
        record_each(Action.REVOKED, valid)
    return len(valid)


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
