import contextlib
import dataclasses
import gc
import hashlib
import io
import itertools
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from anaphora.deliveries.destinations import Condition, Integrity, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError
from anaphora.secret import Secret
from delivery_s3 import fast_put
from delivery_s3.connection import Connection
from delivery_s3.storage import S3Destination
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_connection
from tests.support.servers import Fault, S3Server


def make_upload(content: bytes, key: str = "sales/report.pdf", **changes: Any) -> Upload:
    values: dict[str, Any] = {
        "key": key,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "content_type": "application/pdf",
        "content_disposition": "attachment; filename=\"x.pdf\"; filename*=UTF-8''x.pdf",
        "metadata": {"dashboard": "sales", "filename": "%C3%BC.pdf"},
    }
    return Upload(**(values | changes))


def put(connection: Connection, content: bytes = b"content", **changes: Any) -> Receipt:
    return S3Destination(connection).put(make_upload(content, **changes), io.BytesIO(content))


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(DeliveryError) as caught:
        call()
    return caught.value.diagnosis.code


def test_a_put_stores_the_bytes_and_the_metadata(bucket: Bucket, connection: Connection) -> None:
    content = os.urandom(100_000)
    receipt = put(connection, content)
    assert bucket.read("sales/report.pdf") == content
    head = bucket.client.head_object(Bucket=bucket.name, Key="sales/report.pdf")
    assert head["ContentType"] == "application/pdf"
    if bucket.server.kind != "rclone":  # rclone stores objects as files, without metadata
        assert head["Metadata"] == {"dashboard": "sales", "filename": "%C3%BC.pdf"}
        assert "filename*=UTF-8''x.pdf" in head["ContentDisposition"]
    assert receipt.object_key == "sales/report.pdf"
    assert receipt.etag == hashlib.md5(content).hexdigest()
    assert receipt.integrity in {Integrity.SHA256, Integrity.ETAG}
    assert receipt.size == 100_000


def test_the_store_refuses_content_that_does_not_match_its_digests(bucket: Bucket, connection: Connection) -> None:
    upload = make_upload(b"what came in")
    with pytest.raises(DeliveryError) as caught:
        S3Destination(connection).put(upload, io.BytesIO(b"what rotted "))
    assert caught.value.diagnosis.code == "digest_mismatch"
    assert bucket.keys() == []


def test_the_same_upload_again_gets_its_receipt_and_makes_no_second_version(
    moto: S3Server, versioned_bucket: Bucket
) -> None:
    bucket = versioned_bucket
    connection = make_connection(moto, bucket.name)
    first, second = put(connection), put(connection)
    versions = bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]
    assert len(versions) == 1
    assert first.version_id == second.version_id == versions[0]["VersionId"]
    assert second.etag == first.etag
    assert second.integrity in {Integrity.SHA256, Integrity.ETAG}


def test_another_object_with_the_key_is_not_overwritten(moto: S3Server, make_bucket: Callable[..., Bucket]) -> None:
    bucket = make_bucket(moto)
    bucket.client.put_object(Bucket=bucket.name, Key="sales/report.pdf", Body=b"somebody else's")
    assert code_of(lambda: put(make_connection(moto, bucket.name))) == "key_taken"
    assert bucket.read("sales/report.pdf") == b"somebody else's"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"access_key_id": "NOSUCHKEY00000000001"}, {"invalid_access_key", "wrong_secret", "access_denied"}),
        ({"secret_access_key": Secret("wrong")}, {"wrong_secret"}),
        ({"bucket_name": "no-such-bucket-here"}, {"bucket_not_found"}),
        ({"bucket_name": "no/bucket name"}, {"settings_invalid"}),
        ({"endpoint_url": "not an address"}, {"settings_invalid"}),
        ({"endpoint_url": "http://no-such-host.invalid"}, {"host_not_found"}),
        ({"ca_bundle": "not PEM"}, {"ca_bundle_invalid"}),
    ],
)
def test_each_problem_of_an_interface_has_its_own_diagnosis(
    connection: Connection, changes: dict[str, Any], code: set[str]
) -> None:
    assert code_of(lambda: put(dataclasses.replace(connection, **changes))) in code


def test_a_closed_port_is_a_refused_connection(connection: Connection) -> None:
    endpoint = f"http://127.0.0.1:{servers.free_port()}"
    assert code_of(lambda: put(dataclasses.replace(connection, endpoint_url=endpoint))) == "connection_refused"


def test_a_port_that_never_answers_is_a_connection_timeout(connection: Connection) -> None:
    with servers.full_backlog() as port:
        deaf = dataclasses.replace(connection, endpoint_url=f"http://127.0.0.1:{port}", connect_timeout=0.5)
        assert code_of(lambda: put(deaf)) == "connection_timeout"


def test_a_server_that_stays_silent_is_a_read_timeout(connection: Connection) -> None:
    with servers.silent() as port:
        mute = dataclasses.replace(connection, endpoint_url=f"http://127.0.0.1:{port}", read_timeout=0.5)
        assert code_of(lambda: put(mute)) == "read_timeout"


class TestTrust:
    """TLS connections to a real server with generated certificates."""

    @pytest.mark.parametrize(
        ("made", "code"),
        [
            ({}, "certificate_self_signed"),
            ({"valid_from_days": -40, "valid_for_days": 30}, "certificate_expired"),
            ({"valid_from_days": 5}, "certificate_not_yet_valid"),
            ({"host": "s3.example.org"}, "certificate_wrong_host"),
        ],
    )
    def test_each_invalid_certificate_has_its_own_diagnosis(
        self, tmp_path: Path, made: dict[str, Any], code: str
    ) -> None:
        certificate, key = servers.make_certificate(tmp_path, **made)
        trusted = certificate.read_text() if made else ""
        with servers.rclone(tmp_path, certificate=certificate, key=key) as server:
            connection = make_connection(server, "any-bucket", ca_bundle=trusted)
            assert code_of(lambda: put(connection)) == code

    def test_a_certificate_in_the_ca_bundle_is_trusted(self, tmp_path: Path) -> None:
        certificate, key = servers.make_certificate(tmp_path)
        (tmp_path / "store" / "bucket").mkdir(parents=True)
        with servers.rclone(tmp_path / "store", certificate=certificate, key=key) as server:
            receipt = put(make_connection(server, "bucket", ca_bundle=certificate.read_text()))
        assert receipt.integrity == Integrity.ETAG
        assert (tmp_path / "store" / "bucket" / "sales" / "report.pdf").read_bytes() == b"content"

    def test_plain_http_is_distinguished_from_an_invalid_certificate(self, moto: S3Server) -> None:
        endpoint = moto.endpoint.replace("http://", "https://")
        connection = make_connection(moto, "any-bucket", endpoint_url=endpoint)
        assert code_of(lambda: put(connection)) == "http_expected"


def test_the_aws_configuration_of_the_machine_is_ignored(
    bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = nowhere-1\nendpoint_url = http://127.0.0.1:1\nca_bundle = /no/such\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_PROFILE": "no-such-profile",
        "AWS_ACCESS_KEY_ID": "AMBIENT",
        "AWS_SECRET_ACCESS_KEY": "AMBIENT",
        "AWS_SESSION_TOKEN": "AMBIENT",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/no/such/file",
        "AWS_REGION": "nowhere-1",
        "AWS_DEFAULT_REGION": "nowhere-1",
        "AWS_S3_ADDRESSING_STYLE": "virtual",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "nonsense",
        "AWS_RETRY_MODE": "nonsense",
        "AWS_MAX_ATTEMPTS": "nonsense",
        "AWS_DEFAULTS_MODE": "nonsense",
    }.items():
        monkeypatch.setenv(name, value)
    put(connection)
    assert bucket.keys() == ["sales/report.pdf"]
    amazon = S3Destination(dataclasses.replace(connection, endpoint_url="", region="eu-central-1"))
    assert amazon.client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    credentials: Any = amazon.client._get_credentials()  # type: ignore[attr-defined]
    assert (credentials.access_key, credentials.token) == (connection.access_key_id, None)


def sent_by(storage: S3Destination) -> list[Any]:
    """Return a list that collects the requests that a storage sends, without the sample request."""
    session: Any = storage.client._endpoint.http_session  # type: ignore[attr-defined]
    requests: list[Any] = []
    send = session.send

    def see(request: Any) -> Any:
        requests.append(request)
        return send(request)

    session.send = see
    for pool in session._manager.pool_classes_by_scheme.values():  # of this client alone
        pool.ConnectionCls.exchange = _seen_too(pool.ConnectionCls.exchange, requests)
    return requests


def _seen_too(exchange: Any, requests: list[Any]) -> Any:
    """Also collect the requests that are sent on an open connection."""

    def see(connection: Any, head: bytes, body: bytes) -> Any:
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        url = f"{connection.host}{start.split()[1]}"
        requests.append(SimpleNamespace(method=start.split()[0], url=url, headers=headers, body=body))
        return exchange(connection, head, body)

    return see


def test_the_request_contains_all_options_of_the_interface(connection: Connection) -> None:
    full = dataclasses.replace(
        connection,
        server_side_encryption="aws:kms",
        kms_key_id="key-1",
        storage_class="STANDARD_IA",
        object_lock_mode="GOVERNANCE",
        retention_days=2,
    )
    storage = S3Destination(full)
    requests = sent_by(storage)
    with contextlib.suppress(DeliveryError):  # few stores support all of this; the test checks the request
        storage.put(make_upload(b"content"), io.BytesIO(b"content"))
    sent = requests[0].headers
    assert sent["x-amz-server-side-encryption"] == "aws:kms"
    assert sent["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert sent["x-amz-storage-class"] == "STANDARD_IA"
    assert sent["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert sent["x-amz-object-lock-retain-until-date"]
    assert sent["If-None-Match"] == "*"
    assert sent["Content-MD5"]
    assert sent["x-amz-checksum-sha256"]


def test_one_request_and_one_client_for_a_put(connection: Connection) -> None:
    storage = S3Destination(connection)
    requests = sent_by(storage)
    storage.put(make_upload(b"content"), io.BytesIO(b"content"))
    assert [request.method for request in requests] == ["PUT"]
    assert storage.client is storage.client


@pytest.mark.parametrize(
    ("fault", "conditional", "refused"),
    [(Fault.REFUSE_CONDITION, False, False), (Fault.REFUSE_CHECKSUM, True, True), (Fault.REFUSE_BOTH, False, True)],
)
def test_optional_headers_that_a_store_refuses_are_omitted(
    bucket: Bucket, connection: Connection, fault: Fault, *, conditional: bool, refused: bool
) -> None:
    with servers.in_front_of(bucket.server, lambda method, path: fault) as endpoint:
        receipt = put(dataclasses.replace(connection, endpoint_url=endpoint, ca_bundle=""), key="new/report.pdf")
    assert bucket.read("new/report.pdf") == b"content"
    assert (receipt.condition is Condition.MET) is conditional
    assert receipt.sha256_refused is refused
    assert receipt.integrity is not Integrity.NONE


class TestShortcut:
    """`fast_put` is used only as long as it builds the same request as botocore."""

    def test_after_a_change_in_botocore_its_own_put_is_used(
        self, bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delitem(fast_put._HEADERS, "ContentMD5")  # as if botocore sent another header
        storage = S3Destination(connection)
        receipt = storage.put(make_upload(b"content"), io.BytesIO(b"content"))
        assert "takes longer" in caplog.text or "take longer" in caplog.text
        assert receipt.integrity in {Integrity.SHA256, Integrity.ETAG}
        assert bucket.read("sales/report.pdf") == b"content"
        wrong = make_upload(b"content", key="new/report.pdf")
        assert code_of(lambda: storage.put(wrong, io.BytesIO(b"changed"))) == "digest_mismatch"

    def test_missing_internals_only_cost_speed(
        self, bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*args: object) -> None:
            raise AttributeError("_endpoint")

        monkeypatch.setattr(fast_put, "_capture_botocore_request", gone)
        put(connection)
        assert bucket.read("sales/report.pdf") == b"content"

    def test_the_sample_is_never_sent(self, connection: Connection) -> None:
        storage = S3Destination(connection)
        requests = sent_by(storage)
        _ = storage._put_small
        assert requests == []

    def test_a_large_upload_can_run_while_the_sample_is_built(self, bucket: Bucket, connection: Connection) -> None:
        storage = S3Destination(connection)
        content = os.urandom(1_100_000)
        others: list[Receipt] = []

        def put_another(params: dict[str, Any], **kwargs: Any) -> None:
            if params["Key"] == fast_put._SAMPLE["Key"]:
                upload = make_upload(content, key="new/large.pdf")
                thread = threading.Thread(target=lambda: others.append(storage.put(upload, io.BytesIO(content))))
                thread.start()
                thread.join()

        storage.client.meta.events.register("before-parameter-build.s3.PutObject", put_another)
        storage.put(make_upload(b"content"), io.BytesIO(b"content"))
        assert [receipt.object_key for receipt in others] == ["new/large.pdf"]
        assert bucket.read("new/large.pdf") == content
        assert isinstance(storage._put_small, fast_put._SmallPut)

    def test_key_and_token_of_a_request_belong_together(
        self, bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = S3Destination(connection)
        storage.prepare()
        numbers = itertools.count()

        class Changing:
            """Role credentials that are renewed each time they are read."""

            def get_frozen_credentials(self) -> ReadOnlyCredentials:
                number = next(numbers)
                return ReadOnlyCredentials(f"KEY{number}", "secret", f"TOKEN{number}", "")

        client: Any = storage.client
        monkeypatch.setattr(client._request_signer, "_credentials", Changing())
        requests = sent_by(storage)
        with contextlib.suppress(DeliveryError):  # the store does not know these credentials
            storage.put(make_upload(b"content"), io.BytesIO(b"content"))
        sent = requests[0].headers
        key = sent["Authorization"].partition("Credential=KEY")[2].partition("/")[0]
        assert sent["X-Amz-Security-Token"] == f"TOKEN{key}"

    def test_names_with_special_characters_have_valid_signatures(self, bucket: Bucket, connection: Connection) -> None:
        for key in (
            "sales/2026/a b+c=d~e.pdf",
            "sales/2026/%41&x;y,z@.pdf",
            "sales/2026/ü€😀.pdf",
            "sales/2026/'(!)*.pdf",
        ):
            put(connection, key=key)
            assert bucket.read(key) == b"content"

    def test_a_large_file_s_digest_is_not_computed_again(
        self, bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        content = os.urandom(3_000_000)
        (tmp_path / "large").write_bytes(content)
        storage = S3Destination(connection)
        requests = sent_by(storage)
        upload = make_upload(content)
        body_reads: list[int] = []

        def digest(data: bytes = b"") -> Any:
            body_reads.append(len(data))
            return hashlib.sha256(data)

        with (tmp_path / "large").open("rb") as body:
            monkeypatch.setattr("botocore.auth.sha256", digest)
            storage.put(upload, body)
        assert requests[0].headers["X-Amz-Content-SHA256"].decode() == upload.sha256
        assert max(body_reads) < 10_000
        assert bucket.read("sales/report.pdf") == content


def test_clients_that_django_storages_creates_for_threads_are_guarded(bucket: Bucket, connection: Connection) -> None:
    from concurrent.futures import ThreadPoolExecutor

    storage = S3Destination(dataclasses.replace(connection, endpoint_url="http://169.254.169.254"))
    _ = storage.client
    with ThreadPoolExecutor(1) as pool, pytest.raises(Exception, match="metadata"):
        pool.submit(storage.exists, "sales/report.pdf").result()


def test_django_s_save_is_refused(connection: Connection) -> None:
    with pytest.raises(TypeError, match=r"put\(\)"):
        S3Destination(connection).save("x.txt", io.BytesIO(b"x"))


def test_a_secret_is_never_shown(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "boto3", "urllib3", "s3transfer"):
        caplog.set_level(logging.DEBUG, logger=name)
    marked = dataclasses.replace(connection, secret_access_key=Secret("S3CRET-do-not-show"))
    with pytest.raises(DeliveryError) as caught:
        put(marked)
    seen = [repr(marked), repr(caught.value), str(caught.value), caught.value.detail, repr(marked.secret_access_key)]
    assert not any("S3CRET" in text for text in [*seen, caplog.text])
    assert len(caplog.text) > 1000


def test_the_file_of_trusted_certificates_is_removed_with_the_storage(connection: Connection, tmp_path: Path) -> None:
    certificate, _ = servers.make_certificate(tmp_path)
    storage = S3Destination(dataclasses.replace(connection, ca_bundle=certificate.read_text()))
    file = Path(storage.verify)
    assert file.parent == Path(tempfile.gettempdir())
    assert file.read_text() == certificate.read_text()
    del storage
    gc.collect()
    assert not file.exists()


@pytest.mark.ceph
class TestCeph:
    """Needs a store with users, policies, conditional writes, versioning and Object Lock."""

    @pytest.fixture
    def written_only(self, bucket: Bucket) -> Connection:
        """A connection of a user with s3:PutObject only."""
        import json

        values = servers.ceph_values()
        user, objects = {"AWS": [values["W_ARN"]]}, f"arn:aws:s3:::{bucket.name}/*"
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": user, "Action": ["s3:PutObject"], "Resource": [objects]},
                {
                    "Effect": "Deny",
                    "Principal": user,
                    "Action": ["s3:GetObject*", "s3:DeleteObject*", "s3:List*"],
                    "Resource": [objects, objects[:-2]],
                },
            ],
        }
        bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))
        return make_connection(
            bucket.server, bucket.name, access_key_id=values["W_AK"], secret_access_key=Secret(values["W_SK"])
        )

    def test_put_object_alone_is_enough(self, bucket: Bucket, written_only: Connection) -> None:
        assert put(written_only).integrity == Integrity.ETAG
        (stored,) = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
        assert (stored["Key"], stored["Size"]) == ("sales/report.pdf", 7)
        assert stored["ETag"] == f'"{hashlib.md5(b"content").hexdigest()}"'

    def test_an_earlier_upload_that_cannot_be_read_has_no_confirmed_integrity(self, written_only: Connection) -> None:
        put(written_only)
        again = put(written_only)
        assert (again.object_key, again.integrity, again.etag) == ("sales/report.pdf", Integrity.NONE, "")

    def test_a_user_without_the_permission_is_denied(self, bucket: Bucket, written_only: Connection) -> None:
        bucket.client.delete_bucket_policy(Bucket=bucket.name)
        assert code_of(lambda: put(written_only)) == "access_denied"

    def test_tls_with_the_server_s_certificate_in_the_ca_bundle(self, bucket: Bucket, connection: Connection) -> None:
        values = servers.ceph_values()
        secure = dataclasses.replace(connection, endpoint_url=values["S3_ENDPOINT_TLS"])
        assert code_of(lambda: put(secure)) == "certificate_self_signed"
        put(dataclasses.replace(secure, ca_bundle=Path(values["S3_CA"]).read_text()))
        assert bucket.keys() == ["sales/report.pdf"]

    def test_the_condition_prevents_overwriting(self, bucket: Bucket, connection: Connection) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key="sales/report.pdf", Body=b"somebody else's")
        assert code_of(lambda: put(connection)) == "key_taken"
        assert bucket.read("sales/report.pdf") == b"somebody else's"

    def test_the_receipt_of_a_locked_report_has_the_retention(
        self, s3: S3Server, make_bucket: Callable[..., Bucket]
    ) -> None:
        bucket = make_bucket(s3, ObjectLockEnabledForBucket=True)
        locked = make_connection(s3, bucket.name, object_lock_mode="GOVERNANCE", retention_days=1)
        receipt = put(locked)
        head = bucket.client.head_object(Bucket=bucket.name, Key="sales/report.pdf")
        assert receipt.retain_until == head["ObjectLockRetainUntilDate"]
        assert receipt.version_id == head["VersionId"]

    def test_a_lock_on_a_bucket_without_object_lock_is_explained(self, connection: Connection) -> None:
        locked = dataclasses.replace(connection, object_lock_mode="GOVERNANCE", retention_days=1)
        assert code_of(lambda: put(locked)) == "object_lock_unsupported"

    def test_an_unknown_encryption_key_is_explained(self, connection: Connection) -> None:
        keyed = dataclasses.replace(connection, server_side_encryption="aws:kms", kms_key_id="no-such-key")
        assert code_of(lambda: put(keyed)) == "kms_key_unknown"

    def test_encryption_with_a_known_key_works_with_the_right_grade(self, connection: Connection) -> None:
        keyed = dataclasses.replace(connection, server_side_encryption="aws:kms", kms_key_id="test-key")
        assert put(keyed).integrity in {Integrity.MD5, Integrity.ETAG}
