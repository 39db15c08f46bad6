"""The app config of the admin, with our admin site. A separate module, because `apps` may define only one app."""

from django.contrib.admin.apps import AdminConfig


class OverviewAdminConfig(AdminConfig):
    """The admin, whose start page is the overview."""

    default_site = "anaphora.operations.site.OverviewSite"
