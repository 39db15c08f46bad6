import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import view_context
from delivery_s3.connection_test import services
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import interface_form, make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db

INTERFACES = "admin:delivery_s3_s3interface"


def html_of(response: Any) -> str:
    """Return the HTML of a page, or all HTML fragments that a Test streams."""
    if not response.streaming:
        return str(response.content.decode())
    lines = [json.loads(line) for line in response.getvalue().decode().splitlines()]
    return "\n".join(line.get("html", "") + line.get("verdict", "") for line in lines)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html_of(response)))


@pytest.fixture
def client_with(client: Client) -> Callable[..., Client]:
    def log_in(*permissions: str) -> Client:
        user = User.objects.create_user("limited", is_staff=True)
        for name in permissions:
            user.user_permissions.add(Permission.objects.get(codename=name))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def delivered(interface: S3Interface) -> Delivery:
    make_policy(interface)
    make_report(filename="Umsatz März.pdf")
    engine.deliver_due(interface.pk)
    return Delivery.objects.get()


@pytest.mark.parametrize(
    "name",
    [
        "reports_dashboard_changelist",
        "reports_report_changelist",
        "delivery_s3_s3interface_changelist",
        "delivery_s3_s3interface_add",
        "deliveries_archivepolicy_changelist",
        "deliveries_archivepolicy_add",
        "deliveries_delivery_changelist",
        "django_celery_beat_periodictask_changelist",
    ],
)
def test_every_page_opens_with_rows_and_without(admin_client: Client, delivered: Delivery, name: str) -> None:
    assert admin_client.get(reverse(f"admin:{name}"), {"q": ""}).status_code == 200
    assert admin_client.get(reverse(f"admin:{name}"), {"q": "no such thing"}).status_code in {200, 302}


class TestInterfacePage:
    def test_an_interface_can_be_created_and_tested_without_javascript(
        self, admin_client: Client, bucket: Bucket
    ) -> None:
        response = admin_client.post(
            reverse(f"{INTERFACES}_add"), interface_form(bucket) | {"_save_and_test": "1"}, follow=True
        )
        interface = S3Interface.objects.get()
        assert interface.test_passed
        assert "The test passed" in text_of(response)
        assert bucket.keys()[0] in text_of(response)
        assert any("Tested: passed." in entry.get_change_message() for entry in LogEntry.objects.all())

    def test_save_and_test_explains_a_failure(self, admin_client: Client, bucket: Bucket) -> None:
        wrong = interface_form(bucket, bucket_name="no-such-bucket-here") | {"_save_and_test": "1"}
        text = text_of(admin_client.post(reverse(f"{INTERFACES}_add"), wrong, follow=True))
        assert "Bucket not found" in text
        assert "Check the spelling of Bucket name" in text

    def test_saving_without_a_test_goes_back_to_the_list(self, admin_client: Client, bucket: Bucket) -> None:
        response = admin_client.post(reverse(f"{INTERFACES}_add"), interface_form(bucket))
        assert response.headers["Location"] == reverse(f"{INTERFACES}_changelist")
        assert S3Interface.objects.get().tested_at is None

    def test_the_test_uses_the_values_in_the_form_and_saves_nothing(self, admin_client: Client, bucket: Bucket) -> None:
        response = admin_client.post(reverse(f"{INTERFACES}_test_new"), interface_form(bucket))
        assert response.status_code == 200
        text = text_of(response)
        assert "The test passed" in text
        assert bucket.keys()[0] in text
        assert not S3Interface.objects.exists()
        assert not LogEntry.objects.exists()

    def test_the_test_of_a_saved_interface_uses_the_stored_secret_if_none_is_entered(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        address = reverse(f"{INTERFACES}_test", args=[interface.pk])
        assert "The test passed" in text_of(admin_client.post(address, interface_form(bucket, secret_access_key="")))
        failed = admin_client.post(address, interface_form(bucket, secret_access_key="wrong")).getvalue().decode()
        last = json.loads(failed.splitlines()[-1])
        assert "Invalid credentials: wrong secret access key" in last["verdict"]
        assert last["field"] == "secret_access_key"
        assert S3Interface.objects.get().secret_access_key == interface.secret_access_key

    def test_a_form_with_mistakes_is_not_tested(self, admin_client: Client, bucket: Bucket) -> None:
        response = admin_client.post(
            reverse(f"{INTERFACES}_test_new"), interface_form(bucket, endpoint_url="minio:9000")
        )
        assert response.status_code == 422
        assert "Custom endpoint : Begin with https://" in text_of(response)
        assert 'data-value="https://minio:9000"' in html_of(response)
        assert bucket.keys() == []

    def test_the_page_shows_the_last_test_and_why_deliveries_wait(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        S3Interface.objects.update(
            diagnosis="access_denied", detail="403 AccessDenied", failures=1, paused_until="2026-03-01T12:00Z"
        )
        text = text_of(admin_client.get(reverse(f"{INTERFACES}_change", args=[interface.pk])))
        assert "Deliveries are paused: Access Denied" in text
        assert "403 AccessDenied" in text
        assert "1 Mar 2026, 12:00:00 UTC" in text

    def test_saving_ends_the_pause(self, admin_client: Client, interface: S3Interface, bucket: Bucket) -> None:
        S3Interface.objects.update(failures=3, diagnosis="access_denied", paused_until="2999-01-01T00:00Z")
        admin_client.post(
            reverse(f"{INTERFACES}_change", args=[interface.pk]), interface_form(bucket, secret_access_key="")
        )
        interface.refresh_from_db()
        assert (interface.failures, interface.paused_until, interface.diagnosis) == (0, None, "")

    def test_the_list_counts_deliveries_and_links_to_them(self, admin_client: Client, delivered: Delivery) -> None:
        response = admin_client.get(reverse(f"{INTERFACES}_changelist"))
        assert " 1 · 0 · 0 " in text_of(response)
        link = re.search(r'href="([^"]*state__exact=delivered)"', response.content.decode())
        assert link
        assert "Sales" in admin_client.get(link[1].replace("&amp;", "&")).content.decode().title()

    def test_saving_tested_values_records_the_test(self, admin_client: Client, bucket: Bucket) -> None:
        tested = self.sealed(admin_client.post(reverse(f"{INTERFACES}_test_new"), interface_form(bucket)))
        admin_client.post(reverse(f"{INTERFACES}_add"), interface_form(bucket, name="as tested", tested=tested))
        admin_client.post(
            reverse(f"{INTERFACES}_add"),
            interface_form(bucket, name="another secret", tested=tested, secret_access_key="x"),
        )
        admin_client.post(
            reverse(f"{INTERFACES}_add"), interface_form(bucket, name="another prefix", tested=tested, key_prefix="a/")
        )
        admin_client.post(reverse(f"{INTERFACES}_add"), interface_form(bucket, name="forged", tested=f"{tested}x"))
        found = dict(S3Interface.objects.values_list("name", "test_passed"))
        assert found == {"as tested": True, "another secret": None, "another prefix": None, "forged": None}
        interface = S3Interface.objects.get(name="as tested")
        assert interface.tested_at is not None
        assert interface.capabilities["integrity"]
        assert bucket.server.secret_access_key not in tested

    def test_a_test_of_other_values_is_not_recorded(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        services.test_and_record(interface)
        address = reverse(f"{INTERFACES}_change", args=[interface.pk])
        admin_client.post(address, interface_form(bucket, name="renamed", secret_access_key=""))
        interface.refresh_from_db()
        assert (interface.name, interface.test_passed) == ("renamed", True)
        admin_client.post(address, interface_form(bucket, secret_access_key="", key_prefix="elsewhere/"))
        interface.refresh_from_db()
        assert (interface.key_prefix, interface.test_passed, interface.tested_at) == ("elsewhere/", None, None)

    def test_a_form_with_errors_keeps_the_secret_and_does_not_show_it(
        self, admin_client: Client, bucket: Bucket
    ) -> None:
        secret = bucket.server.secret_access_key
        refused = admin_client.post(reverse(f"{INTERFACES}_add"), interface_form(bucket, bucket_name="s3://x"))
        assert secret not in refused.text
        assert "The secret that you entered is kept for one hour, encrypted." in refused.text
        (kept,) = re.findall(r'name="secret_access_key-kept" value="([^"]+)"', refused.text)
        again = interface_form(bucket, secret_access_key="") | {"secret_access_key-kept": kept}
        assert "The test passed" in text_of(admin_client.post(reverse(f"{INTERFACES}_test_new"), again))
        admin_client.post(reverse(f"{INTERFACES}_add"), again)
        assert S3Interface.objects.get().secret_access_key.reveal() == secret
        spoilt = again | {"secret_access_key-kept": f"{kept[:-4]}AAAA", "name": "spoilt"}
        assert "required" in admin_client.post(reverse(f"{INTERFACES}_add"), spoilt).text

    def sealed(self, response: Any) -> str:
        found = re.search(r'name="tested" value="([^"]+)"', html_of(response))
        assert found is not None
        return found[1]

    def test_an_undecryptable_secret_does_not_break_the_page(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("UPDATE delivery_s3_s3interface SET secret_access_key = %s", [b"nonsense"])
        assert admin_client.get(reverse(f"{INTERFACES}_changelist")).status_code == 200
        assert admin_client.get(reverse(f"{INTERFACES}_change", args=[interface.pk])).status_code == 200


class TestAroundTheTest:
    def test_only_a_test_of_the_saved_values_is_recorded(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        address = reverse(f"{INTERFACES}_test", args=[interface.pk])
        text_of(
            admin_client.post(
                address, interface_form(bucket, name=interface.name, secret_access_key="", region="eu-west-9")
            )
        )
        interface.refresh_from_db()
        assert interface.tested_at is None
        text_of(admin_client.post(address, interface_form(bucket, name=interface.name, secret_access_key="")))
        interface.refresh_from_db()
        assert interface.test_passed
        assert interface.capabilities["condition"] in {"enforced", "ignored"}
        assert LogEntry.objects.get().get_change_message() == "Tested: passed."

    def test_another_bucket_clears_the_capabilities(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        S3Interface.objects.update(capabilities={"condition": "refused"})
        address = reverse(f"{INTERFACES}_change", args=[interface.pk])
        admin_client.post(address, interface_form(bucket, secret_access_key="", region="eu-west-9"))
        assert S3Interface.objects.get().capabilities == {"condition": "refused"}
        admin_client.post(address, interface_form(bucket, secret_access_key="", bucket_name="another-bucket"))
        assert S3Interface.objects.get().capabilities == {}

    def test_only_the_test_file_can_be_removed(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        report = services.test_and_record(interface)
        address = reverse(f"{INTERFACES}_remove", args=[interface.pk])
        form = interface_form(bucket, secret_access_key="")
        assert admin_client.post(address, form | {"key": "sales/report.pdf"}).status_code == 403
        assert "Removed" in text_of(admin_client.post(address, form | {"key": report.object_key}))
        assert bucket.keys() == []
        gone = admin_client.post(address, form | {"key": report.object_key, "bucket_name": "no-such-bucket-here"})
        assert "Not removed: Bucket not found" in text_of(gone)

    def test_after_a_passed_test_failed_deliveries_can_be_retried(
        self, admin_client: Client, interface: S3Interface, bucket: Bucket
    ) -> None:
        make_policy(interface)
        make_report().local_path.unlink()
        engine.deliver_due(interface.pk)
        form = interface_form(bucket, name=interface.name, secret_access_key="")
        page = html_of(admin_client.post(reverse(f"{INTERFACES}_test", args=[interface.pk]), form))
        assert "1 delivery to this interface failed" in page
        assert 'data-act="retry"' in page
        answer = admin_client.post(reverse(f"{INTERFACES}_retry", args=[interface.pk]), form)
        assert text_of(answer) == "Retried: 1 delivery."
        assert Delivery.objects.get().state == State.PENDING

    def test_the_permissions_follow_the_form(self, admin_client: Client, bucket: Bucket) -> None:
        form = interface_form(bucket, bucket_name="finance", key_prefix="reports/", name="")
        text = html_of(admin_client.post(reverse(f"{INTERFACES}_grants_new"), form))
        assert "arn:aws:s3:::finance/reports/*" in text
        assert "b2 key create --bucket finance --name-prefix reports/ anaphora writeFiles" in text

    def test_steps_are_streamed_as_they_end(self, admin_client: Client, bucket: Bucket) -> None:
        response: Any = admin_client.post(reverse(f"{INTERFACES}_test_new"), interface_form(bucket))
        first = json.loads(next(iter(response.streaming_content)))
        assert first["text"] == "Settings: passed"
        response.close()


class TestPermissions:
    def test_viewing_changing_and_testing_are_separate(
        self, client_with: Callable[..., Client], interface: S3Interface, bucket: Bucket
    ) -> None:
        client = client_with("view_s3interface")
        page = client.get(reverse(f"{INTERFACES}_change", args=[interface.pk]))
        assert page.status_code == 200
        assert "connection-test" not in page.content.decode()
        for name in ("test", "remove", "grants", "retry"):
            assert client.post(reverse(f"{INTERFACES}_{name}", args=[interface.pk])).status_code == 403
        assert (
            client.post(reverse(f"{INTERFACES}_change", args=[interface.pk]), interface_form(bucket)).status_code == 403
        )

    def test_a_user_who_may_test_but_not_change_tests_the_saved_values(
        self, client_with: Callable[..., Client], interface: S3Interface, bucket: Bucket
    ) -> None:
        client = client_with("view_s3interface", "test_s3interface")
        other = interface_form(bucket, endpoint_url="http://127.0.0.1:1")
        assert "The test passed" in text_of(client.post(reverse(f"{INTERFACES}_test", args=[interface.pk]), other))
        assert client.post(reverse(f"{INTERFACES}_test_new"), other).status_code == 403
        interface.refresh_from_db()
        assert interface.test_passed

    def test_a_user_who_may_change_but_not_test_cannot_test_by_saving(
        self, client_with: Callable[..., Client], interface: S3Interface, bucket: Bucket
    ) -> None:
        client = client_with("view_s3interface", "change_s3interface")
        address = reverse(f"{INTERFACES}_change", args=[interface.pk])
        client.post(address, interface_form(bucket) | {"_save_and_test": "1"})
        interface.refresh_from_db()
        assert interface.name == "archive"
        assert interface.tested_at is None

    def test_a_test_needs_a_post_request(self, admin_client: Client, interface: S3Interface) -> None:
        assert admin_client.get(reverse(f"{INTERFACES}_test", args=[interface.pk])).status_code == 403
        assert admin_client.post(reverse(f"{INTERFACES}_test", args=[4711])).status_code == 403

    @pytest.mark.parametrize("name", ["reports_report_changelist", f"{INTERFACES[6:]}_changelist"])
    def test_users_without_permission_see_nothing(
        self, client: Client, client_with: Callable[..., Client], name: str
    ) -> None:
        assert client.get(reverse(f"admin:{name}")).status_code == 302
        assert client_with().get(reverse(f"admin:{name}")).status_code == 403


class TestReportsAndDeliveries:
    def test_a_report_links_to_its_deliveries_and_back(self, admin_client: Client, delivered: Delivery) -> None:
        report_page = reverse("admin:reports_report_change", args=[delivered.report_id])
        delivery_page = reverse("admin:deliveries_delivery_change", args=[delivered.pk])
        for page in (reverse("admin:reports_report_changelist"), report_page):
            assert f'href="{delivery_page}"' in admin_client.get(page).content.decode()
        assert f'href="{report_page}"' in admin_client.get(delivery_page).content.decode()
        assert delivered.object_key in text_of(admin_client.get(delivery_page))
        assert "bytes" in text_of(admin_client.get(delivery_page))
        assert f'href="{view_context.report_url(delivered.report)}"' in admin_client.get(report_page).text

    def test_a_report_that_no_policy_covers_says_so(self, admin_client: Client) -> None:
        report = make_report()
        assert "no policy" in text_of(admin_client.get(reverse("admin:reports_report_changelist")))
        page = admin_client.get(reverse("admin:reports_report_change", args=[report.pk]))
        assert "no policy covers it" in text_of(page)

    def test_the_report_list_runs_the_same_number_of_queries_for_many_rows(
        self, admin_client: Client, interface: S3Interface, django_assert_max_num_queries: Any
    ) -> None:
        make_policy(interface)
        for _ in range(30):
            make_report()
        with django_assert_max_num_queries(12):
            admin_client.get(reverse("admin:reports_report_changelist"))
        with django_assert_max_num_queries(12):
            admin_client.get(reverse("admin:deliveries_delivery_changelist"))

    @pytest.mark.parametrize("model", ["reports_report", "deliveries_delivery"])
    def test_reports_and_deliveries_are_read_only(self, admin_client: Client, delivered: Delivery, model: str) -> None:
        key = delivered.pk if model.startswith("delivery") else delivered.report_id
        assert admin_client.get(reverse(f"admin:{model}_add")).status_code == 403
        assert admin_client.post(reverse(f"admin:{model}_change", args=[key]), {}).status_code == 403
        assert admin_client.post(reverse(f"admin:{model}_delete", args=[key]), {"post": "yes"}).status_code == 403
        assert (Report.objects.count(), Delivery.objects.count()) == (1, 1)

    def test_objects_with_deliveries_cannot_be_deleted(self, admin_client: Client, delivered: Delivery) -> None:
        admin_client.post(reverse(f"{INTERFACES}_delete", args=[delivered.interface_id]), {"post": "yes"})
        assert S3Interface.objects.exists()

    def test_search_and_filters_find_deliveries(self, admin_client: Client, delivered: Delivery) -> None:
        reports = reverse("admin:reports_report_changelist")
        deliveries = reverse("admin:deliveries_delivery_changelist")
        for address, query in [
            (reports, {"q": "März"}),
            (reports, {"q": delivered.sha256}),
            (reports, {"content_type": "application/pdf"}),
            (deliveries, {"q": delivered.object_key}),
            (deliveries, {"state__exact": "delivered"}),
        ]:
            assert "result_list" in admin_client.get(address, query).content.decode(), query
        assert "0 reports" in text_of(admin_client.get(reports, {"q": "nothing like it"}))

    def test_a_failed_delivery_is_explained_and_retried(
        self, client_with: Callable[..., Client], interface: S3Interface
    ) -> None:
        make_policy(interface)
        make_report().local_path.unlink()
        engine.deliver_due(interface.pk)
        failed = Delivery.objects.get()
        client = client_with("view_delivery", "change_delivery", "view_report", "view_s3interface")
        page = text_of(client.get(reverse("admin:deliveries_delivery_change", args=[failed.pk])))
        assert "Upload the file again with the same date" in page
        action = {"action": "retry", "_selected_action": [failed.pk]}
        text = text_of(client.post(reverse("admin:deliveries_delivery_changelist"), action, follow=True))
        assert "Retried: 1 delivery." in text
        failed.refresh_from_db()
        assert (failed.state, failed.diagnosis) == (State.PENDING, "")
        assert LogEntry.objects.get().get_change_message() == "Retried."

    def test_cancel_asks_for_confirmation_and_keeps_the_row(
        self, admin_client: Client, admin_user: Any, interface: S3Interface
    ) -> None:
        make_policy(interface)
        report = make_report()
        address = reverse("admin:deliveries_delivery_changelist")
        action: dict[str, Any] = {"action": "cancel", "_selected_action": [Delivery.objects.get().pk]}
        text = text_of(admin_client.post(address, action, follow=True))
        assert "1 delivery will be cancelled" in text
        assert "sales 2026-03-01 12:00:00 UTC" in text
        assert Delivery.objects.get().state == State.PENDING
        assert not LogEntry.objects.exists()

        text = text_of(admin_client.post(address, action | {"confirmed": "1"}, follow=True))
        assert "Cancelled: 1 delivery." in text
        cancelled = Delivery.objects.get()
        assert cancelled.state == State.CANCELLED
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id) == (admin_user, str(cancelled.pk))
        assert "Cancelled: sales 2026-03-01 12:00:00 UTC" in entry.get_change_message()
        page = text_of(admin_client.get(reverse("admin:deliveries_delivery_change", args=[cancelled.pk])))
        assert "An administrator cancelled it" in page
        assert "cancelled" in text_of(admin_client.get(reverse("admin:reports_report_change", args=[report.pk])))
        then = admin_client.get(view_context.as_of_url(report.dashboard, report.rendered_at))
        assert "An administrator cancelled this delivery" in text_of(then)
        assert "None of the selected deliveries can be cancelled" in text_of(
            admin_client.post(address, action, follow=True)
        )

    def test_all_deliveries_in_the_list_can_be_cancelled_at_once(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        make_policy(interface)
        for _ in range(22):
            make_report()
        address = reverse("admin:deliveries_delivery_changelist")
        first = Delivery.objects.order_by("pk")[0].pk
        action = {"action": "cancel", "_selected_action": [first], "select_across": "1"}
        page = admin_client.post(address, action)
        assert "and 2 more" in text_of(page)
        assert 'name="select_across" value="1"' in page.content.decode()
        admin_client.post(address, action | {"confirmed": "1"})
        assert set(Delivery.objects.values_list("state", flat=True)) == {State.CANCELLED}

    def test_the_interface_list_says_how_long_the_oldest_has_been_waiting(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        make_policy(interface)
        make_report()
        text = text_of(admin_client.get(reverse(f"{INTERFACES}_changelist")))
        assert " 0 · 1 · 0 " in text
        assert "the oldest has been waiting for 0" in text

    def test_a_user_who_may_only_view_deliveries_cannot_retry(
        self, client_with: Callable[..., Client], delivered: Delivery
    ) -> None:
        page = client_with("view_delivery").get(reverse("admin:deliveries_delivery_changelist"))
        assert "Retry failed" not in page.content.decode()

    def test_a_dashboard_s_slug_is_fixed_and_its_title_is_not(self, admin_client: Client) -> None:
        dashboard = make_report().dashboard
        address = reverse("admin:reports_dashboard_change", args=[dashboard.pk])
        admin_client.post(address, {"slug": "other", "title": "Sales overview"})
        dashboard.refresh_from_db()
        assert (dashboard.slug, dashboard.title) == ("sales", "Sales overview")
        assert "Sales overview" in text_of(admin_client.get(reverse("admin:reports_dashboard_changelist")))

    def test_a_policy_names_its_dashboards(self, admin_client: Client, bucket: Bucket) -> None:
        policy = make_policy(make_interface(bucket.server, bucket.name))
        address = reverse("admin:deliveries_archivepolicy_changelist")
        assert " all " in text_of(admin_client.get(address))
        policy.dashboards.add(make_report().dashboard)
        assert " sales " in text_of(admin_client.get(address))


def test_a_refused_deletion_names_the_related_objects(admin_client: Client, interface: S3Interface) -> None:
    make_policy(interface)
    report = make_report()
    for address in (
        reverse(f"{INTERFACES}_delete", args=[interface.pk]),
        reverse("admin:reports_dashboard_delete", args=[report.dashboard_id]),
    ):
        page = text_of(admin_client.get(address))
        assert "protected related objects" in page
        assert str(report) in page
        assert "and others" not in page
        assert "doesn't have permission" not in page.replace("&#x27;", "'")


def test_a_refused_deletion_names_only_some_of_many(
    admin_client: Client, interface: S3Interface, django_assert_max_num_queries: Any
) -> None:
    make_policy(interface)
    for number in range(30):
        report = make_report(b"%%PDF-1.7 %d" % number)
    address = reverse("admin:reports_dashboard_delete", args=[report.dashboard_id])
    with django_assert_max_num_queries(40):
        page = text_of(admin_client.get(address))
    assert page.count("report sales 2026") == 20
    assert "and others" in page
    assert admin_client.post(address, {"post": "yes"}).status_code == 200
    assert Dashboard.objects.count() == 1
