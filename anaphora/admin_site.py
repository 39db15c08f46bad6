"""What all admin pages share: the site's titles, the marks, and pages that are only ever looked at."""

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
admin.site.index_title = "Reports and where they go"
admin.site.site_url = None  # there is no other site to view
# The tables need the width; the header leads to the pages of every day.
admin.site.enable_nav_sidebar = False


def mark(kind: str, text: str, *, title: str = "") -> SafeString:
    """Return a small coloured label; its word says all that its colour says."""
    return format_html('<span class="mark mark-{}" title="{}">{}</span>', kind, title, text)


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun: `1 delivery`, `1,200 deliveries`."""
    return f"{number:,} {one if number == 1 else many}"


def exact_size(size: int) -> str:
    """Return a size to the byte, and as people read it where that says something else."""
    exact = counted(size, "byte", "bytes")
    return exact if size < 1024 else f"{exact} ({filesizeformat(size)})"


class CappedPaginator(Paginator[Any]):
    """Pages of a table of any size: it counts, and leads to, the first so many rows only.

    The others are found by filters and search. Counting a million rows takes longer than all the rest of a page.
    """

    MOST = 5_000

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most MOST."""
        return min(self._counted, self.MOST)

    @property
    def capped(self) -> bool:
        """Whether there are more rows than are counted."""
        return self._counted > self.MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.MOST + 1].count())


class ProtectedAdmin(admin.ModelAdmin[T]):
    """Pages of rows that others refer to: a refused deletion names these, not permissions that nobody can have."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Leave missing permissions out where deleting is impossible anyway."""
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set() if protected else lacking, protected


class ReadOnlyAdmin(admin.ModelAdmin[T]):
    """Pages of what is only ever looked at: nobody adds, changes or deletes it here, whatever they may elsewhere."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: the program alone writes these rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        """Nobody: evidence stays as it is."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        """Nobody: evidence stays."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: T | None = None) -> list[str]:
        """All of them."""
        return [name for _, options in self.fieldsets or [] for name in options["fields"]]  # type: ignore[misc]
