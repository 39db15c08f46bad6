"""Shared parts of the admin: site titles, badges, number formatting and read-only model admins."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import PROTECT, Model
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
    """Admin of models with protected relations. A refused deletion names some of the related objects."""

    MOST_NAMED = 20

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return at most MOST_NAMED of the protected objects: Django would read all of them, maybe millions."""
        found = islice(self._protected([each.pk for each in objs]), self.MOST_NAMED + 1)
        if protected := [f"{each._meta.verbose_name} {each}" for each in found]:
            more = ["and others"] if len(protected) > self.MOST_NAMED else []
            return [], {}, set(), [*protected[: self.MOST_NAMED], *more]
        return super().get_deleted_objects(objs, request)

    def _protected(self, keys: list[Any]) -> Iterator[Model]:
        """Yield the objects that refer to one of these and protect it."""
        for relation in self.model._meta.related_objects:
            if getattr(relation, "on_delete", None) is PROTECT:
                rows = relation.related_model._default_manager.filter(**{f"{relation.field.name}__in": keys})
                yield from rows.order_by("pk")[: self.MOST_NAMED + 1]


class ReadOnlyAdmin(admin.ModelAdmin[T]):
    """Admin of models that can only be viewed, whatever permissions the user has."""

    has_history = False
    """Whether changes are logged, so that the page has the button "History"."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: T | None = None) -> list[str]:
        fieldsets = self.get_fieldsets(request, obj) if self.fieldsets else []  # without them, it calls this method
        return [name for _, options in fieldsets for name in options["fields"]]  # type: ignore[misc]
