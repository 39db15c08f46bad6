"""Tests of the credentials that sign requests: access key, role of the machine, assumed role."""

import io
from pathlib import Path
from typing import Any

import pytest

from anaphora.deliveries.errors import DeliveryError
from anaphora.secret import Secret
from delivery_s3.connection import Connection
from delivery_s3.models import S3Interface
from delivery_s3.storage import S3Destination
from tests.delivery_s3.test_storage import code_of, make_upload, put, sent_by
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_connection, make_interface
from tests.support.servers import S3Server


@pytest.fixture
def machine(bucket: Bucket) -> Connection:
    """A connection without an access key."""
    return make_connection(
        bucket.server, bucket.name, access_key_id="", secret_access_key=Secret(""), machine_role=True
    )


@pytest.fixture(autouse=True)
def no_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ignore a role of the machine that runs the tests."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_machine_s_role_comes_from_the_environment(
    bucket: Bucket, machine: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.secret_access_key)
    put(machine)
    assert bucket.read("sales/report.pdf") == b"content"


def test_the_machine_s_role_comes_from_its_files(bucket: Bucket, machine: Connection, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    keys = f"aws_access_key_id={bucket.server.access_key_id}\naws_secret_access_key={bucket.server.secret_access_key}"
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}\n")
    put(machine)
    assert bucket.read("sales/report.pdf") == b"content"


def test_a_session_token_of_the_role_is_sent_and_signed(machine: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "TOKEN")
    storage = S3Destination(machine)
    requests = sent_by(storage)
    with pytest.raises(DeliveryError):
        storage.put(make_upload(b"content"), io.BytesIO(b"content"))
    assert requests[0].headers["X-Amz-Security-Token"] == "TOKEN"
    assert "x-amz-security-token" in requests[0].headers["Authorization"]


def test_a_machine_without_a_role_is_diagnosed(machine: Connection) -> None:
    assert code_of(lambda: put(machine)) == "credentials_missing"


def test_a_role_ignores_all_other_aws_settings_of_the_environment(
    bucket: Bucket, machine: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.secret_access_key)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent")
    put(machine)


def test_a_role_is_assumed_once_with_its_external_id(moto: S3Server, make_bucket: Any) -> None:
    bucket = make_bucket(moto)
    seen: list[str] = []

    def see(method: str, path: str) -> servers.Fault:
        seen.append(method)
        return servers.Fault.NONE

    with servers.in_front_of(moto, see) as endpoint:
        storage = S3Destination(
            make_connection(
                moto,
                bucket.name,
                endpoint_url=endpoint,
                role_arn="arn:aws:iam::123456789012:role/archive",
                external_id="partner-7",
            )
        )
        requests = sent_by(storage)
        for number in range(3):
            storage.put(make_upload(b"content", key=f"{number}.pdf"), io.BytesIO(b"content"))
    assert [request.headers["X-Amz-Security-Token"] != "" for request in requests] == [True] * 3
    assert seen.count("POST") == 1
    assert len(bucket.keys()) == 3


def test_an_interface_shows_which_credentials_sign(db: None, bucket: Bucket) -> None:
    own = make_interface(bucket.server, bucket.name, role_arn="arn:aws:iam::1:role/archive", external_id="partner")
    connection = own.connection()
    assert (connection.machine_role, connection.role_arn, connection.external_id) == (
        False,
        "arn:aws:iam::1:role/archive",
        "partner",
    )
    assert connection.access_key_id
    machine = S3Interface(bucket_name="b", access_key_id="KEY", secret_access_key="SECRET", credentials="machine")
    assert machine.connection().machine_role
    assert (machine.connection().access_key_id, str(machine.connection().secret_access_key)) == ("", "")


@pytest.mark.ceph
class TestOnCeph:
    """STS of Ceph."""

    def connection(self, bucket: Bucket, **changes: Any) -> Connection:
        values = servers.ceph_values()
        keys = {"access_key_id": values["W_AK"], "secret_access_key": Secret(values["W_SK"])}
        role = {"role_arn": values["ROLE_ARN"], "endpoint_url": values["S3_ENDPOINT_STS"]}
        return make_connection(bucket.server, bucket.name, **(role | keys | changes))

    def test_a_role_has_permissions_that_its_user_lacks(self, bucket: Bucket) -> None:
        assert code_of(lambda: put(self.connection(bucket, role_arn=""))) == "access_denied"
        put(self.connection(bucket))
        put(self.connection(bucket), key="second/large.pdf", content=b"x" * 2_000_000)
        assert sorted(bucket.keys()) == ["sales/report.pdf", "second/large.pdf"]

    def test_an_untrusted_user_cannot_assume_the_role(self, bucket: Bucket) -> None:
        owner = bucket.server
        keys = {"access_key_id": owner.access_key_id, "secret_access_key": Secret(owner.secret_access_key)}
        assert code_of(lambda: put(self.connection(bucket, **keys))) == "role_denied"

    def test_a_role_that_does_not_exist(self, bucket: Bucket) -> None:
        assert code_of(lambda: put(self.connection(bucket, role_arn="arn:aws:iam:::role/none"))) == "role_denied"

    def test_a_wrong_secret_is_not_the_role_s_fault(self, bucket: Bucket) -> None:
        wrong = self.connection(bucket, secret_access_key=Secret("wrong"))
        assert code_of(lambda: put(wrong)) in {"wrong_secret", "role_denied"}
