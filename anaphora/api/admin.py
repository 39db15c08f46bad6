"""Admin of API tokens."""

from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString

from anaphora.admin_site import badge, count_noun
from anaphora.api import tokens
from anaphora.api.models import ApiToken, Scope
from anaphora.reports.models import READ


class ApiTokenForm(forms.ModelForm[ApiToken]):
    """The form of a new token."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiToken
        fields = ["name", "scopes", "expires_at"]

    def clean_expires_at(self) -> datetime | None:
        """Reject years that overflow in some time zones."""
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and not 1970 <= expires_at.year < 9999:
            raise forms.ValidationError(
                "Enter a year from 1970 to 9998, or leave the field empty for a token that never expires."
            )
        return expires_at


PERMISSIONS = {Scope.INGEST: ["reports.add_report"], Scope.READ: ["reports.view_report", READ]}
"""The permissions that a user needs to create a token with a scope: a token allows no more than its creator may do."""


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """API tokens. A token is shown once, when it is created. Afterwards it can only be revoked."""

    form = ApiTokenForm
    list_display = ["name", "beginning", "scope_names", "condition", "last_used_at", "expires_at"]
    search_fields = ["name", "beginning"]
    actions = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Deny changes of existing tokens. The permission allows to revoke them."""
        return obj is None and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        return ["name", "beginning", "scope_names", "expires_at", "last_used_at", "revoked_at"] if obj else []

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return self.get_readonly_fields(request, obj) or ["name", "scopes", "expires_at"]

    def get_form(self, request: HttpRequest, obj: ApiToken | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        """Offer the scopes for which the user has the permission."""
        form = super().get_form(request, obj, change, **kwargs)
        if "scopes" in form.base_fields:
            allowed = [scope for scope, names in PERMISSIONS.items() if request.user.has_perms(names)]
            field = cast("forms.MultipleChoiceField", form.base_fields["scopes"])
            field.choices = [(scope.value, scope.label) for scope in allowed]
        return form

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:  # noqa: FBT001
        """Create the token; `response_add` shows it."""
        created, obj.plain = tokens.create(obj.name, [Scope(scope) for scope in obj.scopes], obj.expires_at)
        obj.pk, obj.beginning = created.pk, created.beginning

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token once, with commands that use it. It is in this answer only, never in a cookie or a session."""
        root = request.build_absolute_uri("/api/v1")
        context = self.admin_site.each_context(request) | {
            "title": "Token created",
            "opts": self.opts,
            "token": obj,
            "commands": _commands(root, obj),
        }
        return render(request, "admin/api/apitoken/created.html", context)

    @admin.display(description="scopes")
    def scope_names(self, token: ApiToken) -> str:
        return ", ".join(Scope(scope).label for scope in token.scopes)

    @admin.display(description="condition")
    def condition(self, token: ApiToken) -> SafeString:
        if token.revoked_at:
            return badge("failed", "revoked")
        if token.expires_at and token.expires_at <= timezone.now():
            return badge("never", "expired")
        return badge("delivered", "valid")

    @admin.action(description="Revoke selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        selected = list(queryset.filter(revoked_at__isnull=True))
        tokens.revoke(selected)
        for token in selected:
            self.log_change(request, token, "Revoked.")
        self.message_user(
            request,
            f"Revoked: {count_noun(len(selected), 'token', 'tokens')}."
            if selected
            else "No token was revoked: the selected tokens were already revoked.",
        )


def _commands(root: str, token: ApiToken) -> list[tuple[str, str]]:
    """Return a title and a curl command for each scope of a new token, ready to run on Linux and macOS."""
    curl = f'curl --fail-with-body {root}/reports \\\n  --header "Authorization: Bearer {token.plain}"'
    fields = '--form dashboard=sales --form rendered_at="$(date -u +%Y-%m-%dT%H:%M:%SZ)" --form file=@report.pdf'
    commands = {
        Scope.INGEST: ("Upload a report", f"{curl} \\\n  {fields}"),
        Scope.READ: ("List the latest reports", curl),
    }
    return [command for scope, command in commands.items() if scope in token.scopes]
