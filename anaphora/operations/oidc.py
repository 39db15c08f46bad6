"""Sign-in by OpenID Connect, if OIDC_ISSUER is set. mozilla-django-oidc implements the protocol.

An account belongs to one subject of the issuer, not to an e-mail address or a user name, which people can change: a
local account is never taken over. At each sign-in, the user's groups are set from the provider's. Nobody becomes a
superuser.
"""

import logging
from typing import Any

import jwt
import requests
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from anaphora.foreign_text import clean_line
from anaphora.operations.checks import missing_groups
from anaphora.operations.models import OidcAccount

logger = logging.getLogger(__name__)

_TIMEOUT = 10
_ENDPOINTS = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
    "OIDC_OP_TOKEN_ENDPOINT": "token_endpoint",
    "OIDC_OP_USER_ENDPOINT": "userinfo_endpoint",
    "OIDC_OP_JWKS_ENDPOINT": "jwks_uri",
}
_PROBLEMS = (
    SuspiciousOperation,
    requests.RequestException,
    jwt.PyJWTError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""The exceptions raised if the provider does not answer, or does not answer as expected."""


class RefusedError(Exception):
    """The provider authenticated the person, but they may not sign in. The message says why and what to do."""


def _discover() -> dict[str, Any]:
    """Return the provider's metadata (OpenID Connect Discovery 1.0), cached for an hour.

    Raises requests.RequestException and SuspiciousOperation.
    """
    issuer = settings.OIDC_ISSUER
    known: dict[str, Any] | None = cache.get(f"oidc-{issuer}")
    if known is None:
        response = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=_TIMEOUT)
        response.raise_for_status()
        known = response.json()
        if str(known.get("issuer", "")).rstrip("/") != issuer:
            raise SuspiciousOperation(f"The provider calls itself {known.get('issuer')!r}, not OIDC_ISSUER.")
        cache.set(f"oidc-{issuer}", known, 3600)
    return known


def _setting(name: str, *default: Any) -> Any:
    """Return a setting of mozilla-django-oidc, from our settings or the provider's metadata, or its default."""
    if name in _ENDPOINTS:
        return _discover()[_ENDPOINTS[name]]
    ours = {
        "OIDC_RP_CLIENT_ID": settings.OIDC_CLIENT_ID,
        "OIDC_RP_CLIENT_SECRET": settings.OIDC_CLIENT_SECRET,
        "OIDC_RP_SIGN_ALGO": "RS256",
        "OIDC_RP_SCOPES": settings.OIDC_SCOPES,
        "OIDC_USE_PKCE": True,
        "OIDC_TIMEOUT": _TIMEOUT,
        "LOGIN_REDIRECT_URL": settings.LOGIN_REDIRECT_URL,
    }
    return ours[name] if name in ours else default[0] if default else None


class OpenIDConnect(OIDCAuthenticationBackend):  # type: ignore[misc]
    """Finds or creates the account of a person whom the provider authenticated, and sets their groups."""

    def __init__(self) -> None:
        """Make no request: Django creates every backend for each login, also for one by password."""
        self.UserModel = User

    get_settings = staticmethod(_setting)
    get_user = ModelBackend.get_user  # refuses inactive users, unlike the method of mozilla-django-oidc

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Return the user, or None for a login by password. Raises RefusedError and the exceptions in _PROBLEMS."""
        if request is None or "nonce" not in kwargs:
            return None
        self.configure()
        return super().authenticate(request, **kwargs)

    def configure(self) -> None:
        """Read the settings and the provider's metadata."""
        super().__init__()

    def retrieve_matching_jwk(self, token: Any) -> Any:
        """Return the key that a token names. A provider with a single key may leave it out (OIDC Core 1.0, 10.1)."""
        if "kid" in jwt.get_unverified_header(token):
            return super().retrieve_matching_jwk(token)
        response = requests.get(self.OIDC_OP_JWKS_ENDPOINT, timeout=_TIMEOUT)
        response.raise_for_status()
        (key,) = response.json()["keys"]
        return jwt.PyJWK(key, algorithm=self.OIDC_RP_SIGN_ALGO)

    def verify_token(self, token: Any, **kwargs: Any) -> Any:
        """Also check issuer and audience. mozilla-django-oidc checks signature, expiry and nonce."""
        claims = super().verify_token(token, **kwargs)
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if str(claims.get("iss", "")).rstrip("/") != settings.OIDC_ISSUER or settings.OIDC_CLIENT_ID not in audiences:
            raise SuspiciousOperation("The ID token was issued by or for somebody else.")
        return claims

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any]) -> User:
        """Return the account of the token's subject, with its groups set. Raises RefusedError."""
        claims = {**payload, **self.get_userinfo(access_token, id_token, payload)}
        subject = payload["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:  # OpenID Connect Core 1.0, 2
            raise SuspiciousOperation("The provider's token names no subject.")
        if claims["sub"] != subject:
            raise SuspiciousOperation("The provider's user info is about somebody else.")
        name = _name(claims)
        self.request.sign_in_name = name or subject
        roles = _roles(claims)
        if not roles:
            raise RefusedError(
                "Your account has none of the groups that may sign in. Ask an administrator (OIDC_GROUPS)."
            )
        with transaction.atomic():
            account = OidcAccount.objects.filter(issuer=settings.OIDC_ISSUER, subject=subject).first()
            user = account.user if account else _create(name, str(claims.get("email") or ""), subject)
            if not user.is_active:
                raise RefusedError("Your account here is disabled. Ask an administrator.")
            _set_groups(user, roles)
        return user


def _roles(claims: dict[str, Any]) -> set[str]:
    """Return the existing groups to which OIDC_GROUPS maps the person's groups at the provider."""
    named = claims.get(settings.OIDC_GROUPS_CLAIM) or []
    names = {named} if isinstance(named, str) else {each for each in named if isinstance(each, str)}
    mapped = {role for group, role in settings.OIDC_GROUPS.items() if group in names}
    missing = missing_groups(mapped)
    for name in sorted(missing):
        logger.error("OIDC_GROUPS names the group %r, which does not exist. Correct the setting or create it.", name)
    return mapped - missing


def _name(claims: dict[str, Any]) -> str:
    """Return the user name in the normal form in which Django stores it; empty if it is not valid."""
    found = claims.get(settings.OIDC_USERNAME_CLAIM)
    name = User.normalize_username(found) if isinstance(found, str) else ""
    return name if name == clean_line(name, 150) else ""


def _create(name: str, email: str, subject: str) -> User:
    if not name:
        raise RefusedError(
            f"The provider sends no user name in the claim {settings.OIDC_USERNAME_CLAIM}, or one that is too long or "
            "has invisible characters."
        )
    if User.objects.filter(username=name).exists():
        raise RefusedError(f"There is a local user {name} already. An administrator must rename or delete that user.")
    user = User.objects.create_user(name, email=email)
    OidcAccount.objects.create(user=user, issuer=settings.OIDC_ISSUER, subject=subject)
    return user


def _set_groups(user: User, roles: set[str]) -> None:
    """Add the user to the groups that OIDC_GROUPS maps to their roles, and remove them from its other groups."""
    mapped = Group.objects.filter(name__in=set(settings.OIDC_GROUPS.values()))
    user.groups.remove(*mapped.exclude(name__in=roles).filter(user=user))
    user.groups.add(*mapped.filter(name__in=roles))
    if user.is_staff != (is_staff := bool(roles - {"Viewer"})):
        user.is_staff = is_staff
        user.save(update_fields=["is_staff"])


class RequestView(OIDCAuthenticationRequestView):  # type: ignore[misc]
    """Sends the browser to the provider."""

    get_settings = staticmethod(_setting)


class CallbackView(OIDCAuthenticationCallbackView):  # type: ignore[misc]
    """Signs in the person sent back by the provider, or shows on the login page why not."""

    get_settings = staticmethod(_setting)

    def get(self, request: HttpRequest) -> Any:
        """Handle the provider's redirect. A refusal signs nobody out, because a mere link could cause it."""
        if request.GET.get("error"):
            raise RefusedError("The provider did not confirm who you are. Try again.")
        return super().get(request)

    def login_failure(self) -> HttpResponse:
        """Show on the login page that the sign-in failed."""
        return _refuse(self.request, "The provider did not confirm who you are. Try again.")


def _refuse(request: HttpRequest, problem: str) -> HttpResponse:
    messages.error(request, problem)
    return redirect("login")


def start(request: HttpRequest) -> HttpResponse:
    """Redirect the browser to the provider."""
    return _run(RequestView, request)


def finish(request: HttpRequest) -> HttpResponse:
    """Handle the provider's redirect back to us."""
    return _run(CallbackView, request)


def _run(view: Any, request: HttpRequest) -> HttpResponse:
    from django.contrib.auth.signals import user_login_failed

    try:
        response: HttpResponse = view.as_view()(request)
    except RefusedError as error:
        problem = str(error)
    except _PROBLEMS as error:
        logger.warning("Sign-in by OpenID Connect failed: %s", type(error).__name__, exc_info=settings.DEBUG)
        problem = "The sign-in provider (OIDC_ISSUER) does not answer as expected. Try again, or ask an administrator."
    else:
        return response
    request.sign_in_problem = problem  # type: ignore[attr-defined]
    user_login_failed.send(sender=__name__, credentials={}, request=request)
    return _refuse(request, problem)
