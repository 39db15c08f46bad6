"""The views of sign-in by OpenID Connect. Without OIDC_ISSUER they return 404, and `oidc` is not imported."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET


@never_cache
@require_GET
def start(request: HttpRequest) -> HttpResponse:
    """Redirect the browser to the provider."""
    _require_provider()
    from anaphora.operations import oidc

    return oidc.start(request)


@never_cache
@require_GET
def finish(request: HttpRequest) -> HttpResponse:
    """Handle the provider's redirect back to us."""
    _require_provider()
    from anaphora.operations import oidc

    return oidc.finish(request)


def _require_provider() -> None:
    if not settings.OIDC_ISSUER:
        raise Http404("OpenID Connect is not configured (OIDC_ISSUER).")
