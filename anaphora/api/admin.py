"""The administrator's pages of the API's tokens."""

from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from anaphora.admin_site import counted, mark
from anaphora.api import tokens
from anaphora.api.models import ApiToken, Scope


class ApiTokenForm(forms.ModelForm[ApiToken]):
    """A new token's name, scopes and expiry."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiToken
        fields = ["name", "scopes", "expires_at"]

    def clean_expires_at(self) -> datetime | None:
        """Refuse the end of the calendar, which is a date in some time zones only."""
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and not 1970 <= expires_at.year < 9999:
            raise forms.ValidationError("Leave it empty for a token that never expires.")
        return expires_at


PERMISSIONS = {Scope.INGEST: "reports.add_report", Scope.READ: "reports.view_report"}
"""What a person must be permitted to give a token its scope: nobody gives what they do not have."""


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Tokens of the API. A token is shown once, when it is made, and can only be revoked after."""

    form = ApiTokenForm
    list_display = ["name", "beginning", "scope_names", "condition", "last_used_at", "expires_at"]
    search_fields = ["name", "beginning"]
    actions = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Nobody changes one that exists; whoever may change tokens revokes them."""
        return obj is None and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        """All of one that exists."""
        return ["name", "beginning", "scope_names", "expires_at", "last_used_at", "revoked_at"] if obj else []

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        """Ask for little; show what is known."""
        return self.get_readonly_fields(request, obj) or ["name", "scopes", "expires_at"]

    def get_form(self, request: HttpRequest, obj: ApiToken | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        """Offer the scopes that this person may give."""
        form = super().get_form(request, obj, change, **kwargs)
        if "scopes" in form.base_fields:
            allowed = [scope for scope, permission in PERMISSIONS.items() if request.user.has_perm(permission)]
            field = cast("forms.MultipleChoiceField", form.base_fields["scopes"])
            field.choices = [(scope.value, scope.label) for scope in allowed]
        return form

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:  # noqa: FBT001
        """Make the token and show it, this once."""
        made, plain = tokens.create(obj.name, [Scope(scope) for scope in obj.scopes], obj.expires_at)
        obj.pk, obj.beginning = made.pk, made.beginning
        warning = "Copy the token now; it is not shown again:"
        messages.warning(request, format_html('{} <code class="secret">{}</code>', warning, plain))

    @admin.display(description="scopes")
    def scope_names(self, token: ApiToken) -> str:
        """Name the scopes."""
        return ", ".join(Scope(scope).label for scope in token.scopes)

    @admin.display(description="condition")
    def condition(self, token: ApiToken) -> SafeString:
        """Show whether it still opens anything."""
        if token.revoked_at:
            return mark("failed", "revoked")
        if token.expires_at and token.expires_at <= timezone.now():
            return mark("never", "expired")
        return mark("delivered", "valid")

    @admin.action(description="Revoke the chosen tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Make them worthless."""
        chosen = list(queryset.filter(revoked_at__isnull=True))
        tokens.revoke(chosen)
        for token in chosen:
            self.log_change(request, token, "Revoked.")
        self.message_user(
            request, f"Revoked: {counted(len(chosen), 'token', 'tokens')}." if chosen else "None of these was valid."
        )
