"""The API does what its description says: schemathesis looks for answers that it doesn't name, and for failures."""

import contextlib
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from anaphora.api import routes, tokens
from anaphora.api.models import Scope

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    not_a_server_error,
]


_application = get_wsgi_application()  # the product's also starts a heartbeat


def closing(environ: Any, start_response: Any) -> list[bytes]:
    """Answer as the product does, and close the answer, and so the request's temporary file: schemathesis doesn't."""
    answer: Any = _application(environ, start_response)
    with contextlib.closing(answer):
        return [b"".join(answer)]


schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", closing)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    cache.clear()
    monkeypatch.setattr(routes.THROTTLES[0], "num_requests", 10**9)
    return tokens.create("schemathesis", [Scope.INGEST, Scope.READ])[1]


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_fails_and_nothing_is_undocumented(case: Any, token: str) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)
