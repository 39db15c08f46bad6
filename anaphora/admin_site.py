"""Shared parts of the admin: site titles, badges, number formatting and read-only model admins."""

from typing import Any, TypeVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

T = TypeVar("T", bound=Model)

admin.site.site_title = admin.site.site_header = "Anaphora archive"
admin.site.index_title = "Reports and deliveries"
admin.site.site_url = None  # hides "View site": there is no other site
# The tables need the width, and the header links to the main pages.
admin.site.enable_nav_sidebar = False


def badge(kind: str, text: str, *, title: str = "") -> SafeString:
    """Return a small coloured label. The text has the same meaning as the colour."""
    return format_html('<span class="mark mark-{}" title="{}">{}</span>', kind, title, text)


def count_noun(number: int, one: str, many: str) -> str:
    """Return a number with the singular or plural noun: `1 delivery`, `1,200 deliveries`."""
    return f"{number:,} {one if number == 1 else many}"


def exact_size(size: int) -> str:
    """Return a size in bytes, followed by a rounded size from 1 KB on: `2,048 bytes (2.0 KB)`."""
    exact = count_noun(size, "byte", "bytes")
    return exact if size < 1024 else f"{exact} ({filesizeformat(size)})"


class CappedPaginator(Paginator[Any]):
    """A paginator for large tables: it counts and displays only the first MOST rows.

    Users find other rows by filters and search. Counting a million rows would take longer than the rest of the page.
    """

    MOST = 5_000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most MOST."""
        return min(self._counted, self.MOST)

    @property
    def capped(self) -> bool:
        """Whether there are more rows than MOST."""
        return self._counted > self.MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.MOST + 1].count())


class ProtectedAdmin(admin.ModelAdmin[T]):
    """Admin of models with protected relations. A refused deletion names the related objects, not permissions."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return no missing permissions if protected objects prevent the deletion."""
        deleted, counts, missing, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set() if protected else missing, protected


class ReadOnlyAdmin(admin.ModelAdmin[T]):
    """Admin of models that can only be viewed, whatever permissions the user has."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: T | None = None) -> list[str]:
        return [name for _, options in self.fieldsets or [] for name in options["fields"]]  # type: ignore[misc]
