import json

import pytest

from delivery_s3.connection_test.steps import STEPS
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.commands import run_command
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db


class TestCommands:
    def test_test_s3_interface_passes(self, interface: S3Interface, bucket: Bucket) -> None:
        out, problem = run_command("test_s3_interface", interface.name)
        assert problem == ""
        assert bucket.keys()[0] in out
        words = [line.split()[0] for line in out.splitlines()]
        assert len(words) == len(STEPS)
        assert set(words) <= {"passed", "skipped", "advice"}

    def test_test_s3_interface_fails_with_the_remedy(self, interface: S3Interface) -> None:
        S3Interface.objects.update(bucket_name="no-such-bucket-here")
        out, problem = run_command("test_s3_interface", interface.name)
        assert "404 NoSuchBucket" in out
        assert problem.startswith("Bucket not found.")
        assert "Check the spelling of Bucket name" in problem

    def test_test_s3_interface_prints_json(self, interface: S3Interface) -> None:
        out, _ = run_command("test_s3_interface", interface.name, "--json")
        facts = json.loads(out)
        assert facts["passed"] is True
        assert {step["title"] for step in facts["steps"]} == {title for title, _, _ in STEPS}

    def test_an_unknown_name_is_in_the_message(self) -> None:
        assert "'nobody'" in run_command("test_s3_interface", "nobody")[1]
        assert "'nobody'" in run_command("deliver_due", "--interface", "nobody")[1]

    def test_deliver_due_delivers(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        assert run_command("deliver_due") == (f"{interface.name}: 1 delivered, 0 failed, 0 postponed\n", "")
        assert run_command("deliver_due", "--interface", interface.name)[1] == ""

    def test_deliver_due_shows_the_diagnosis(self, bucket: Bucket) -> None:
        interface = make_interface(bucket.server, bucket.name, endpoint_url=f"http://127.0.0.1:{servers.free_port()}")
        make_policy(interface)
        make_report()
        for _ in range(2):  # deliver_due ignores the pause after the first attempt
            out, problem = run_command("deliver_due")
            assert "1 × Connection refused. Check the port" in out
            assert problem == "Not all due deliveries were delivered."
        facts = json.loads(run_command("deliver_due", "--json")[0])
        assert facts["diagnoses"][0]["code"] == "connection_refused"
        assert (facts["delivered"], facts["postponed"]) == (0, 1)

    def test_a_disabled_interface_is_not_delivered_by_name(self, interface: S3Interface) -> None:
        S3Interface.objects.update(enabled=False)
        assert "disabled" in run_command("deliver_due", "--interface", interface.name)[1]
        assert run_command("deliver_due") == ("", "")
