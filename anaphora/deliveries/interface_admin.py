"""The admin pages of interfaces: the base class for the page of each kind, and the list of all kinds."""

from typing import Any, TypeVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from anaphora.admin_site import ProtectedAdmin, badge
from anaphora.deliveries import queue, tasks
from anaphora.deliveries.models import Interface, State, diagnosis_of, kinds, may

T = TypeVar("T", bound=Interface)


class InterfaceList(ChangeList):
    """A list of interfaces that counts the deliveries of all its rows in a few queries."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        keys = [interface.pk for interface in self.result_list]
        counts, oldest = queue.count_by_state(keys), queue.oldest_pending(keys)
        for interface in self.result_list:
            interface.counts, interface.oldest = counts[interface.pk], oldest.get(interface.pk)

    def url_for_result(self, result: Any) -> str:
        address: str = result.admin_url
        return address


class InterfaceAdmin(ProtectedAdmin[T]):
    """The base of the admin pages of all kinds: the list with each interface's condition, and saving."""

    list_display = ["name", "where", "last_test", "condition", "counts", "enabled"]
    list_filter = ["enabled", "test_passed"]
    search_fields = ["name"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return InterfaceList

    def save_model(self, request: HttpRequest, obj: T, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save, end the pause of the interface, and wake a worker."""
        super().save_model(request, obj, form, change)
        queue.resume(obj.pk)
        tasks.request_delivery(obj.pk)

    @admin.display(description="destination")
    def where(self, interface: T) -> str:
        return interface.place

    @admin.display(description="last test", ordering="tested_at")
    def last_test(self, interface: T) -> SafeString:
        if interface.tested_at is None:
            return badge("never", "never tested")
        when = format_html("<br><small>{} ago</small>", timesince(interface.tested_at, depth=1))
        if interface.test_passed:
            return badge("passed", "passed") + when
        diagnosis = interface.test_report.get("diagnosis") or {}
        return badge("failed", diagnosis.get("title", "failed")) + when

    @admin.display(description="condition")
    def condition(self, interface: T) -> SafeString:
        if not interface.enabled:
            return badge("never", "disabled")
        diagnosis = diagnosis_of(interface)
        if diagnosis is None:
            return badge("delivered", "working")
        return badge("failed", diagnosis.title, title=interface.detail)

    @admin.display(description="delivered in 24 h · pending · failed")
    def counts(self, interface: Any) -> SafeString:
        address = reverse("admin:deliveries_delivery_changelist")
        links = [
            format_html(
                '<a class="count-{0}" href="{1}?interface__id__exact={2}&amp;state__exact={0}" title="{0}">{3}</a>',
                state.value,
                address,
                interface.pk,
                interface.counts[state],
            )
            for state in (State.DELIVERED, State.PENDING, State.FAILED)
        ]
        counts = format_html("{} · {} · {}", *links)
        if interface.oldest is None:
            return counts
        waiting = timesince(interface.oldest, depth=1)
        return format_html("{}<br><small>the oldest has been waiting for {}</small>", counts, waiting)


@admin.register(Interface)
class AllInterfacesAdmin(InterfaceAdmin[Interface]):
    """The list of interfaces of all kinds. Each is viewed and changed on the page of its kind."""

    actions = None

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the interfaces that the user may view, each as an instance of its kind."""
        hidden = [model for model in kinds() if not may(request.user, "view", model)]
        rows = Interface.objects.select_subclasses()
        return rows.exclude(pk__in=[pk for model in hidden for pk in model.objects.values_list("pk", flat=True)])

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Hidden in the index, which lists the kinds."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Interface | None = None) -> bool:
        return any(may(request.user, "view", model) for model in kinds())

    def has_change_permission(self, request: HttpRequest, obj: Interface | None = None) -> bool:
        """Allowed for users who may change one of the kinds; the page of the kind checks again."""
        return any(may(request.user, "change", model) for model in kinds())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(_addable(request))

    def has_delete_permission(self, request: HttpRequest, obj: Interface | None = None) -> bool:
        """Only on the page of the kind."""
        return False

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Redirect to the add page of the only kind, or let the user choose a kind."""
        addable = _addable(request)
        if not addable:
            raise PermissionDenied
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        choices = [(str(model._meta.verbose_name), _add_url(model) + query) for model in addable]
        if len(choices) == 1:
            return HttpResponseRedirect(choices[0][1])
        context = self.admin_site.each_context(request) | {"title": "Add interface", "opts": self.opts}
        return render(request, "admin/deliveries/interface/choose.html", context | {"choices": choices})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Redirect to the page of the kind."""
        interface = self.get_object(request, object_id)
        address = interface.admin_url if interface else ""
        if not address:
            raise Http404("There is no such interface, or its kind of destination is not installed.")
        return HttpResponseRedirect(f"{address}?{request.GET.urlencode()}" if request.GET else address)


def _add_url(model: type[Interface]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")


def _addable(request: HttpRequest) -> list[type[Interface]]:
    return [model for model in kinds() if may(request.user, "add", model)]
