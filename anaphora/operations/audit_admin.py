"""The page of the audit trail: read-only for everybody, with filters, search and export."""

import json
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from anaphora.activity import Action, record
from anaphora.admin_site import CappedPaginator, ReadOnlyAdmin
from anaphora.operations.audit_export import FORMATS
from anaphora.operations.audit_models import AuditEntry

MOST_USERS = 100
"""Users listed in the filter. Others can be found by search."""
CHUNK = 2_000
"""Entries of an export that are read at a time."""


class UserFilter(admin.SimpleListFilter):
    """Filters by user name. Listing only names with entries would read the whole table."""

    title = "user"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = User.objects.order_by("username").values_list("username", flat=True)[:MOST_USERS]
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(actor=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    """Who did what, when and from where. Nobody can add, change or delete an entry, not even a superuser."""

    list_display = ["at", "actor", "action", "object_link", "address", "via"]
    list_filter = ["action", "actor_kind", UserFilter, ("at", admin.DateFieldListFilter)]
    list_per_page = 50
    date_hierarchy = "at"
    sortable_by = ["at"]
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["actor", "object", "object_id", "address"]
    search_help_text = "User, object, ID of an object, or address."
    actions = None
    change_list_template = "operations/audit_list.html"
    fieldsets = [
        (None, {"fields": ["at", "action", "object_link", "object_type", "object_id"]}),
        ("Who", {"fields": ["actor", "actor_kind", "actor_id", "address", "via"]}),
        ("Details", {"fields": ["shown_details"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        """Add the export."""
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/<str:ending>/", view, name="operations_auditentry_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Add the links that export the filtered entries."""
        query = request.GET.copy()
        query.pop("p", None)
        more = {"exports": list(FORMATS), "export_query": query.urlencode()}
        return super().changelist_view(request, more | (extra_context or {}))

    def export_view(self, request: HttpRequest, ending: str) -> HttpResponseBase:
        """Stream the filtered entries, the latest first. The export is recorded before it begins."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if ending not in FORMATS:
            raise Http404
        rows = self.get_changelist_instance(request).get_queryset(request)
        write, content_type = FORMATS[ending]
        record(Action.EXPORTED, name="audit trail", format=ending, filters=request.GET.dict())
        name = f"audit-trail-{timezone.now():%Y%m%dT%H%M%SZ}.{ending}"
        lines = write(rows.iterator(chunk_size=CHUNK))
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingHttpResponse(lines, content_type=content_type, headers=headers)

    @admin.display(description="object", ordering="object")
    def object_link(self, entry: AuditEntry) -> SafeString | str:
        """Link to the page of the object, whether it still exists or not."""
        app, _, model = entry.object_type.partition(".")
        try:
            address = reverse(f"admin:{app}_{model}_change", args=[entry.object_id]) if entry.object_id else ""
        except NoReverseMatch:
            address = ""
        return format_html('<a href="{}">{}</a>', address, entry.object) if address else entry.object or "-"

    @admin.display(description="details")
    def shown_details(self, entry: AuditEntry) -> SafeString | str:
        text = json.dumps(entry.details, indent=2, ensure_ascii=False)
        return format_html('<pre class="details">{}</pre>', text) if entry.details else "-"
