"""URLs: the Django admin for configuration and operation, the timeline to look reports up, and the API."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from anaphora.api.routes import api, not_found
from anaphora.operations import sign_in
from anaphora.timeline import views

urlpatterns = [
    path("", views.home),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    re_path(r"^api/", csrf_exempt(not_found)),
    path(
        "login/",
        LoginView.as_view(
            template_name="admin/login.html",
            extra_context={
                "title": "Log in",
                "site_title": admin.site.site_title,
                "site_header": admin.site.site_header,
            },
        ),
        name="login",
    ),
    path("oidc/start/", sign_in.start, name="oidc_authentication_init"),
    path("oidc/callback/", sign_in.finish, name="oidc_authentication_callback"),
    path("password/", sign_in.PasswordChange.as_view(), name="password_change"),
    path("logout/", LogoutView.as_view(next_page="timeline"), name="logout"),
    path("timeline/", views.index, name="timeline"),
    path("timeline/dashboards.json", views.dashboards, name="timeline-dashboards"),
    path("timeline/<slug:slug>/", views.as_of_page, name="timeline-as-of"),
    path("timeline/<slug:slug>/compare/", views.compare, name="timeline-compare"),
    re_path(r"^timeline/(?P<slug>[-\w]+)/(?P<instant>\d{8}T\d{6}Z)/$", views.as_of_page, name="timeline-as-of"),
    path("reports/<uuid:pk>/file/", views.file, name="report-file"),
    path("reports/<uuid:pk>/evidence/", views.evidence_file, name="report-evidence"),
    path("reports/<uuid:pk>/preview/", views.preview, name="report-preview"),
    path("reports/<uuid:pk>/pages/<int:number>/", views.page, name="report-page"),
]
