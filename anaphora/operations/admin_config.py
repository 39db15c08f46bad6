"""The admin's app, with our site. In a module of its own: `apps` may declare one app only."""

from django.contrib.admin.apps import AdminConfig


class OverviewAdminConfig(AdminConfig):
    """The admin, whose start page is the overview."""

    default_site = "anaphora.operations.site.OverviewSite"
