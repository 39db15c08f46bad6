import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database

from delivery_s3.connection_test.steps import STEPS
from delivery_s3.models import S3Interface
from delivery_s3.secret import UnreadableSecret
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db


def stored_secret(interface: S3Interface) -> bytes:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT secret_access_key FROM delivery_s3_s3interface WHERE interface_ptr_id = %s", [interface.pk]
        )
        return bytes(cursor.fetchone()[0])


def run(command: str, *arguments: str) -> tuple[str, str]:
    out, problem = io.StringIO(), ""
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        problem = str(error)
    return out.getvalue(), problem


class TestCommands:
    def test_test_s3_interface_passes(self, interface: S3Interface, bucket: Bucket) -> None:
        out, problem = run("test_s3_interface", interface.name)
        assert problem == ""
        assert bucket.keys()[0] in out
        words = [line.split()[0] for line in out.splitlines()]
        assert len(words) == len(STEPS)
        assert set(words) <= {"passed", "skipped", "advice"}

    def test_test_s3_interface_fails_with_the_remedy(self, interface: S3Interface) -> None:
        S3Interface.objects.update(bucket_name="no-such-bucket-here")
        out, problem = run("test_s3_interface", interface.name)
        assert "404 NoSuchBucket" in out
        assert problem.startswith("Bucket not found.")
        assert "Check the spelling of Bucket name" in problem

    def test_test_s3_interface_speaks_json(self, interface: S3Interface) -> None:
        out, _ = run("test_s3_interface", interface.name, "--json")
        facts = json.loads(out)
        assert facts["passed"] is True
        assert {step["title"] for step in facts["steps"]} == {title for title, _, _ in STEPS}

    def test_an_unknown_name_is_named(self) -> None:
        assert "'nobody'" in run("test_s3_interface", "nobody")[1]
        assert "'nobody'" in run("deliver_due", "--interface", "nobody")[1]

    def test_deliver_due_delivers(self, interface: S3Interface) -> None:
        make_policy(interface)
        make_report()
        assert run("deliver_due") == (f"{interface.name}: 1 delivered, 0 failed, 0 postponed\n", "")
        assert run("deliver_due", "--interface", interface.name)[1] == ""

    def test_deliver_due_says_what_is_in_the_way(self, bucket: Bucket) -> None:
        interface = make_interface(bucket.server, bucket.name, endpoint_url=f"http://127.0.0.1:{servers.free_port()}")
        make_policy(interface)
        make_report()
        for _ in range(2):  # the pause after the first try doesn't count for who calls this
            out, problem = run("deliver_due")
            assert "1 × Connection refused. Check the port" in out
            assert problem == "Not everything that was due is delivered."
        facts = json.loads(run("deliver_due", "--json")[0])
        assert facts["diagnoses"][0]["code"] == "connection_refused"
        assert (facts["delivered"], facts["postponed"]) == (0, 1)

    def test_a_disabled_interface_is_not_drained_by_name(self, interface: S3Interface) -> None:
        S3Interface.objects.update(enabled=False)
        assert "disabled" in run("deliver_due", "--interface", interface.name)[1]
        assert run("deliver_due") == ("", "")


class TestSecrets:
    def test_a_secret_is_encrypted_at_rest_and_masked_in_memory(self, interface: S3Interface) -> None:
        loaded = S3Interface.objects.get()
        assert loaded.secret_access_key == interface.secret_access_key
        assert interface.secret_access_key.reveal().encode() not in stored_secret(interface)
        assert interface.secret_access_key.reveal() not in repr(loaded.secret_access_key)
        assert interface.secret_access_key.reveal() not in repr(vars(loaded))

    def test_rotation_encrypts_with_the_newest_key_and_keeps_the_value(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = S3Interface.objects.get().secret_access_key
        self._use_keys(["a third key", *settings.FERNET_KEYS], settings)
        out, problem = run("rotate_fernet_keys")
        assert (out, problem) == ("1 re-encrypted with the first key of FERNET_KEYS.\n", "")
        self._use_keys(["a third key"], settings)
        assert S3Interface.objects.get().secret_access_key == secret

    def test_a_secret_that_no_key_decrypts_costs_a_clear_error_and_is_kept(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, keys = stored_secret(interface), settings.FERNET_KEYS
        self._use_keys(["a foreign key"], settings)
        loaded = S3Interface.objects.get()
        assert isinstance(loaded.secret_access_key, UnreadableSecret)
        loaded.save()
        assert stored_secret(interface) == before
        assert f"the secret of: {interface.name}" in run("rotate_fernet_keys")[1]
        self._use_keys(keys, settings)
        assert not isinstance(S3Interface.objects.get().secret_access_key, UnreadableSecret)

    @staticmethod
    def _use_keys(keys: list[str], settings: Any) -> None:
        """As a restart with other FERNET_KEYS does."""
        settings.FERNET_KEYS = keys
        forget_keys()


def forget_keys() -> None:
    """The field keeps the keys that it has once read."""
    cached: dict[str, Any] = S3Interface._meta.get_field("secret_access_key").__dict__
    for name in ("keys", "fernet_keys", "fernet"):
        cached.pop(name, None)


@pytest.fixture(autouse=True)
def fresh_keys() -> Iterator[None]:
    yield
    forget_keys()
