"""The API does what its description says: schemathesis looks for answers that it doesn't name, and for failures."""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from anaphora.api import routes, tokens
from anaphora.api.models import Scope
from anaphora.wsgi import application

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see `token`
]

CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    not_a_server_error,
]

schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    cache.clear()
    monkeypatch.setattr(routes.THROTTLES[0], "num_requests", 10**9)
    yield tokens.create("schemathesis", [Scope.INGEST, Scope.READ])[1]
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # schemathesis closes no answer, and so no request's temporary file


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_fails_and_nothing_is_undocumented(case: Any, token: str) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)
