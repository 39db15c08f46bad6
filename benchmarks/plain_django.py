"""A first version of ingest with Django, for `benchmarks.api`: a form that saves a file and one row.

Middleware and upload handlers are those of a new project. In addition, the database connection is persistent, and the
file is synced to disk before the response, because an ingested report must not be lost. There is no token, no digest,
no check of the content, no delivery and no audit trail.
"""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse

from anaphora.settings import DATA_DIR, DATABASES

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES=DATABASES,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    MEDIA_ROOT=DATA_DIR / "plain",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the benchmark",
)
django.setup()

from django import forms  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


class Upload(models.Model):
    """One file."""

    dashboard = models.SlugField(max_length=100)
    rendered_at = models.DateTimeField()
    file = models.FileField(upload_to="%Y/%m")

    class Meta:
        app_label = "plain"

    def __str__(self) -> str:
        return str(self.file)


class UploadForm(forms.ModelForm):
    """The fields of an upload."""

    class Meta:
        model = Upload
        fields = ("dashboard", "rendered_at", "file")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Ingest one report."""
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse(form.errors, status=422)
    made = form.save()
    with made.file.open() as file:
        os.fsync(file.fileno())
    return JsonResponse({"id": made.pk, "file": made.file.name}, status=201)


urlpatterns = [path("api/v1/reports", upload)]
application = get_wsgi_application()

if __name__ == "__main__":
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.create_model(Upload)
