"""The program that `test_without_s3` runs in a separate process: the product with a folder instead of delivery_s3."""

import os
import tempfile
from pathlib import Path


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "WITHOUT_S3": "1",
            "DATABASE_URL": f"sqlite:///{name}/anaphora.sqlite3",
            "CELERY_BROKER_URL": "filesystem://localhost",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        run(Path(name))
    print("all scenarios passed")  # noqa: T201


def run(folder: Path) -> None:
    from django.apps import apps
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client
    from django.urls import reverse

    from anaphora.api import tokens
    from anaphora.api.models import Scope
    from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface
    from tests.folder_destination.models import FolderInterface
    from tests.support.reports import make_report

    assert not apps.is_installed("delivery_s3")
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("admin"))
    (folder / "store").mkdir()
    add = client.get(reverse("admin:deliveries_interface_add"), follow=True)
    assert add.redirect_chain[-1][0] == reverse("admin:folder_destination_folderinterface_add")
    form = {"name": "archive", "folder": str(folder / "store"), "key_prefix": "", "enabled": "on"}
    assert client.post(add.redirect_chain[-1][0], form).status_code == 302
    ArchivePolicy.objects.create(name="all", interface=FolderInterface.objects.get())
    report = make_report()
    call_command("deliver_due")
    delivery = Delivery.objects.get()
    assert (folder / "store" / delivery.object_key).read_bytes() == report.local_path.read_bytes()

    dashboard = report.dashboard
    pages = [
        reverse("admin:index"),
        reverse("admin:deliveries_interface_changelist"),
        Interface.objects.get().admin_url,
        reverse("admin:deliveries_delivery_changelist"),
        delivery.admin_url,
        reverse("admin:deliveries_archivepolicy_changelist"),
        reverse("admin:deliveries_archivepolicy_add"),
        reverse("admin:reports_report_changelist"),
        reverse("admin:reports_report_change", args=[report.pk]),
        reverse("timeline"),
        reverse("timeline-as-of", args=[dashboard.slug]),
        reverse("report-file", args=[report.pk]),
    ]
    for address in pages:
        assert client.get(address).status_code == 200, address
    token = {"Authorization": f"Bearer {tokens.create('reader', [Scope.READ])[1]}"}
    for address in ("/api/v1/reports", f"/api/v1/reports/{report.pk}", f"/api/v1/reports/{report.pk}/content"):
        assert Client(headers={"host": "localhost"}).get(address, headers=token).status_code == 200, address


if __name__ == "__main__":
    main()
