"""The URLs of signing in by OpenID Connect. Where OIDC_ISSUER is not set there is nothing, and nothing is imported."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET


@never_cache
@require_GET
def start(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider."""
    _require_provider()
    from anaphora.operations import oidc

    return oidc.start(request)


@never_cache
@require_GET
def finish(request: HttpRequest) -> HttpResponse:
    """Take the browser back from the provider."""
    _require_provider()
    from anaphora.operations import oidc

    return oidc.finish(request)


def _require_provider() -> None:
    if not settings.OIDC_ISSUER:
        raise Http404("OpenID Connect is not configured (OIDC_ISSUER).")
