"""The views of sign-in by OpenID Connect, which return 404 without OIDC_ISSUER, and of the change of a password."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse_lazy
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


class PasswordChange(SuccessMessageMixin, PasswordChangeView):  # type: ignore[type-arg]
    """Changes the password of a user without staff status, who cannot use the admin's page."""

    template_name = "timeline/password.html"
    success_url = reverse_lazy("timeline")
    success_message = "Your password was changed."

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the header of the timeline's pages needs."""
        context = admin.site.each_context(self.request) | {"has_permission": True, "title": "Change password"}
        return context | super().get_context_data(**kwargs)


def _require_provider() -> None:
    if not settings.OIDC_ISSUER:
        raise Http404("OpenID Connect is not configured (OIDC_ISSUER).")
