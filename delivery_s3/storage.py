"""The S3 side: one connection, one PUT per report, and the receipt that the store answers with.

This module and `session` are the only ones that import boto3, botocore or django-storages; `wire` guards what they
make of them. It takes a frozen `Connection`, needs no database, and lets no foreign error out: every failure leaves as
a DeliveryError. Nothing of the machine's own AWS configuration may take part in a request (see `session`), and a
secret never appears in a message, a log or a representation.
"""

import base64
import contextlib
import hashlib
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

import boto3
import botocore.httpsession
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from django.db.models import TextChoices
from storages.backends.s3 import S3Storage

from delivery_s3 import session, wire
from delivery_s3.diagnosis import DeliveryError
from delivery_s3.shortcut import PutObject, small_put
from delivery_s3.tls import readable
from delivery_s3.translation import explain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


PRESIGNED_SECONDS = 60
"""How long a presigned address works: long enough to follow a redirect, too short to be passed on."""


class Integrity(TextChoices):
    """How far the store confirmed that it holds the very bytes that came in; the best first."""

    SHA256 = "sha256", "SHA-256 confirmed"
    ETAG = "etag", "MD5 confirmed"
    MD5 = "md5", "MD5 sent and accepted"
    NONE = "none", "not confirmed"


class Condition(TextChoices):
    """What became of the condition that a write made, namely that its key be free."""

    MET = "met", "the key was free"
    EXISTED = "existed", "an earlier upload of the same content was there"
    REFUSED = "refused", "the store takes no condition; written without"
    NOT_MADE = "not made", "written without, as the store is known to take none"


class Secret(str):
    """A secret that a traceback, a log or a debugger shows as dots; only its use reveals it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'•••'"


@dataclass(frozen=True)
class Connection:
    """All that a request to one bucket needs. Two equal connections may share one client."""

    access_key_id: str
    secret_access_key: Secret = field(repr=False)
    """Both empty with `machine_role`."""
    region: str
    bucket_name: str
    endpoint_url: str = ""
    """Empty for AWS S3."""
    machine_role: bool = False
    """Whether to sign with what boto3's default chain finds on this machine."""
    role_arn: str = ""
    """A role to assume with those credentials, and what its trust policy may ask for."""
    external_id: str = ""
    addressing_style: str = "path"
    ca_bundle: str = field(default="", repr=False)
    """PEM. When given, it alone is trusted; when empty, the authorities that come with botocore."""
    server_side_encryption: str = ""
    kms_key_id: str = ""
    object_lock_mode: str = ""
    retention_days: int = 0
    storage_class: str = ""
    conditional_writes: bool = True
    sha256_header: bool = True
    connect_timeout: float = 10
    """Seconds, as is the next."""
    read_timeout: float = 60
    max_uploads: int = 1
    """How many threads use the client at once."""
    allow_private: bool = True
    """Whether loopback and private addresses may be connected to."""


@dataclass(frozen=True)
class Upload:
    """One object to be: its key, what describes it, and its digests in hexadecimal."""

    key: str
    size: int
    sha256: str
    md5: str
    content_type: str
    content_disposition: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """What the store answered, as far as it did. Empty: it didn't say."""

    object_key: str
    size: int
    sha256: str
    integrity: Integrity
    condition: Condition
    sha256_refused: bool = False
    """Whether the store took the upload only without the header that names its SHA-256."""
    version_id: str = ""
    etag: str = ""
    retain_until: datetime | None = None


@dataclass(frozen=True)
class Stored:
    """What a store says of an object that it holds. Empty: it doesn't say."""

    size: int
    etag: str
    sha256: str
    """Hexadecimal."""
    modified_at: datetime
    version_id: str = ""
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The `x-amz-meta-*` values, without that prefix."""
    retain_until: datetime | None = None

    def integrity(self, *, sha256: str, md5: str) -> Integrity:
        """Return how far this confirms that the object has these digests."""
        return _integrity(sha256, md5, etag=self.etag, checksum=_base64(self.sha256), accepted=False)


class ArchiveStorage(S3Storage):  # type: ignore[misc]
    """A django-storages S3Storage that writes by one conditional, checksummed PUT and keeps the answer.

    `put()` is the one way in; Django's own `save()`, which could say neither under which condition it wrote
    nor what the store answered, is closed. Safe for many threads: they share one boto3 client.
    """

    def __init__(self, connection: Connection) -> None:
        self.to = connection
        super().__init__(
            access_key=connection.access_key_id,
            secret_key=str(connection.secret_access_key),
            security_token=None,
            session_profile=None,
            bucket_name=connection.bucket_name,
            region_name=connection.region or None,
            endpoint_url=connection.endpoint_url or None,
            verify=self._trusted(),
            location="",
            gzip=False,
            object_parameters={},
            default_acl=None,
            custom_domain=None,
            cloudfront_signer=None,
            client_config=Config(  # type: ignore[call-arg]  # the stubs lag behind botocore
                signature_version="s3v4",
                # It names us in the store's access log, and spares botocore composing one for each request.
                user_agent="anaphora-s3-archive",
                # Signed over TLS as well: what arrives is then compared with the SHA-256 in any case.
                s3={  # type: ignore[arg-type]
                    "addressing_style": connection.addressing_style,
                    "payload_signing_enabled": True,
                },
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=connection.connect_timeout,
                read_timeout=connection.read_timeout,
                retries={"total_max_attempts": 1, "mode": "standard"},
                max_pool_connections=max(connection.max_uploads, 1),
                tcp_keepalive=True,
                ignore_configured_endpoint_urls=True,
            ),
        )

    @cached_property
    def client(self) -> "S3Client":
        """The one boto3 client, shared by all threads. Raises DeliveryError."""
        with self._explained():
            client: S3Client = self.connection.meta.client
            return client

    def prepare(self) -> None:
        """Make what all threads share, before they do: it takes longer than many uploads. Raises DeliveryError."""
        with self._explained():
            _ = self._put_small

    @property
    def connection(self) -> Any:
        """This thread's boto3 resource, which django-storages makes and works with; guarded like the client."""
        made_before = getattr(self._connections, "connection", None) is not None
        resource = super().connection
        if not made_before:
            wire.tame(resource.meta.client, allow_private=self.to.allow_private, pinned=bool(self.to.ca_bundle))
        return resource

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        """Store `body`, from its start to its end, under `upload.key`, unless something is there already.

        What is there already under this key is an earlier success of the same upload, which gets its receipt
        now; anything else is left untouched and is an error. `body` must be seekable. Raises DeliveryError.
        """
        retain_until = self._retain_until()
        parameters = self._parameters(upload, retain_until)
        with self._explained():
            while True:
                try:
                    answer = self._put_object(upload, body, parameters)
                    break
                except self.client.exceptions.ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                        return self._receipt_of_earlier(upload)
                    if not (refused := _refused(error, parameters)):
                        raise
                    # Without the condition the key still names one content, so nothing can mix; without the SHA-256
                    # the MD5 is still verified.
                    parameters = {name: value for name, value in parameters.items() if name not in refused}
        etag = answer.get("ETag", "").strip('"')
        if not etag:
            raise DeliveryError("not_s3", f"Status {answer['ResponseMetadata']['HTTPStatusCode']} without an ETag")
        return Receipt(
            object_key=upload.key,
            size=upload.size,
            sha256=upload.sha256,
            integrity=_integrity(
                upload.sha256, upload.md5, etag=etag, checksum=answer.get("ChecksumSHA256", ""), accepted=True
            ),
            condition=self._condition(parameters),
            sha256_refused=self.to.sha256_header and "ChecksumSHA256" not in parameters,
            version_id=answer.get("VersionId", ""),
            etag=etag,
            retain_until=retain_until,
        )

    def _condition(self, parameters: dict[str, Any]) -> Condition:
        if not self.to.conditional_writes:
            return Condition.NOT_MADE
        return Condition.MET if "IfNoneMatch" in parameters else Condition.REFUSED

    def address(self, key: str) -> SplitResult:
        """Return where a request for `key` goes, by its URL without the query; the bucket may be part of the host."""
        with self._explained():
            url = self.client.generate_presigned_url("put_object", {"Bucket": self.to.bucket_name, "Key": key})
        return urlsplit(url)._replace(query="")

    def read(self, key: str) -> bytes:
        """Return a small object's bytes. Needs s3:GetObject. Raises DeliveryError."""
        return b"".join(self.stream(key))

    def look(self, key: str, version_id: str = "") -> Stored | None:
        """Return what the store says of an object, None if it has none of that key. Needs s3:GetObject.

        Raises DeliveryError.
        """
        parameters = self._object(key, version_id)
        with self._explained():
            try:
                answer = self.client.head_object(ChecksumMode="ENABLED", **parameters)
            except self.client.exceptions.ClientError as error:
                # A HEAD is answered without a body, so the status is all there is to go by.
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    return None
                if status in (401, 403):
                    raise DeliveryError("access_denied", f"Status {status} for reading {key}") from error
                raise
        checksum = answer.get("ChecksumSHA256", "")
        sha256 = base64.b64decode(checksum).hex() if checksum and "-" not in checksum else ""
        return Stored(
            size=answer["ContentLength"],
            etag=answer.get("ETag", "").strip('"'),
            sha256=sha256,
            modified_at=answer["LastModified"],
            version_id=answer.get("VersionId", ""),
            content_type=answer.get("ContentType", ""),
            metadata=answer.get("Metadata", {}),
            retain_until=answer.get("ObjectLockRetainUntilDate"),
        )

    def keys(self, prefix: str) -> Iterator[list[str]]:
        """Yield the keys that begin with `prefix`, in their order, up to a thousand at a time.

        Needs s3:ListBucket. Raises DeliveryError.
        """
        with self._explained():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.to.bucket_name, Prefix=prefix)
            for each in pages:
                yield [found["Key"] for found in each.get("Contents", [])]

    def digest(self, key: str, version_id: str = "") -> str:
        """Return the hexadecimal SHA-256 of all that an object holds. Needs s3:GetObject. Raises DeliveryError."""
        found = hashlib.sha256()
        for chunk in self.stream(key, version_id):
            found.update(chunk)
        return found.hexdigest()

    def stream(
        self, key: str, version_id: str = "", *, between: tuple[int, int] | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """Yield an object's bytes in chunks of a megabyte at most. Needs s3:GetObject. Raises DeliveryError.

        `between` is a half-open range of them. With `etag`, an object that has another one is an error.
        """
        part: Any = {"Range": f"bytes={between[0]}-{between[1] - 1}"} if between else {}
        with self._explained():
            answer = self.client.get_object(**self._object(key, version_id), **part)
            with contextlib.closing(answer["Body"]) as body:
                found = answer.get("ETag", "").strip('"')
                # Compared here: not every store compares it on being asked to.
                if etag and found != etag:
                    raise DeliveryError("digest_mismatch", f"The ETag is {found}, the receipt says {etag}")
                while chunk := body.read(1024 * 1024):
                    yield chunk

    def presigned(self, key: str, version_id: str, *, content_type: str, disposition: str) -> str:
        """Return an address from which anybody gets the object for a minute, under these headers."""
        parameters = self._object(key, version_id) | {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
        }
        with self._explained():
            return str(self.client.generate_presigned_url("get_object", parameters, ExpiresIn=PRESIGNED_SECONDS))

    def _object(self, key: str, version_id: str = "") -> dict[str, Any]:
        named = {"Bucket": self.to.bucket_name, "Key": key}
        return named | {"VersionId": version_id} if version_id else named

    def remove(self, key: str) -> None:
        """Delete one object. Needs s3:DeleteObject. Raises DeliveryError."""
        with self._explained():
            self.client.delete_object(**self._object(key))

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """Return what the store answers to a question about the bucket, or None for "no such configuration".

        `operation` is a boto3 method, such as `get_bucket_versioning`. Raises DeliveryError.
        """
        with self._explained():
            try:
                answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.to.bucket_name, **parameters)
            except self.client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") in _NOT_CONFIGURED:
                    return None
                raise
            return answer

    def _save(self, name: str, content: Any) -> str:
        raise TypeError("An archive is written with put(), which returns the receipt")

    def _put_object(self, upload: Upload, body: BinaryIO, parameters: dict[str, Any]) -> Any:
        body.seek(0)
        if upload.size < wire.ASK_FIRST_BYTES:
            return self._put_small(sha256=upload.sha256, Body=body.read(), **parameters)
        return self.client.put_object(Bucket=self.to.bucket_name, Body=wire.known(body, upload.sha256), **parameters)

    @cached_property
    def _put_small(self) -> PutObject:
        return small_put(self.client, self.to.bucket_name)

    def _parameters(self, upload: Upload, retain_until: datetime | None) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "Key": upload.key,
            "ContentLength": upload.size,
            "ContentMD5": _base64(upload.md5),
            "ContentType": upload.content_type,
            "Metadata": dict(upload.metadata),
        }
        if upload.content_disposition:
            parameters["ContentDisposition"] = upload.content_disposition
        if self.to.sha256_header:
            # Without the algorithm's name Ceph ignores the checksum.
            parameters |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(upload.sha256)}
        if self.to.conditional_writes:
            parameters["IfNoneMatch"] = "*"
        if self.to.server_side_encryption:
            parameters["ServerSideEncryption"] = self.to.server_side_encryption
        if self.to.kms_key_id:
            parameters["SSEKMSKeyId"] = self.to.kms_key_id
        if self.to.storage_class:
            parameters["StorageClass"] = self.to.storage_class
        if retain_until:
            parameters |= {
                "ObjectLockMode": self.to.object_lock_mode,
                "ObjectLockRetainUntilDate": retain_until,
            }
        return parameters

    def _asked_for(self) -> str:
        """Return the code of what a store objects to, most likely, if it refuses a request without a word."""
        if self.to.object_lock_mode:
            return "object_lock_unsupported"
        if self.to.server_side_encryption:
            return "kms_key_unknown" if self.to.kms_key_id else "encryption_unsupported"
        return "storage_class_unsupported" if self.to.storage_class else ""

    def _retain_until(self) -> datetime | None:
        """Retention counts from the delivery: the store keeps the report so long from when it has it."""
        if not self.to.object_lock_mode:
            return None
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.to.retention_days)

    def _receipt_of_earlier(self, upload: Upload) -> Receipt:
        """Make out the receipt of an object that an earlier attempt stored, from a HEAD where that is granted."""
        try:
            answer = self.client.head_object(ChecksumMode="ENABLED", **self._object(upload.key))
        except self.client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (401, 403, 404, 405, 501):
                raise
            return Receipt(upload.key, upload.size, upload.sha256, Integrity.NONE, Condition.EXISTED)
        metadata = answer.get("Metadata", {})
        if answer["ContentLength"] != upload.size or metadata.get("sha256", upload.sha256) != upload.sha256:
            raise DeliveryError("key_taken", f"{upload.key} holds {answer['ContentLength']} bytes")
        etag = answer.get("ETag", "").strip('"')
        return Receipt(
            object_key=upload.key,
            size=upload.size,
            sha256=upload.sha256,
            integrity=_integrity(
                upload.sha256, upload.md5, etag=etag, checksum=answer.get("ChecksumSHA256", ""), accepted=False
            ),
            condition=Condition.EXISTED,
            version_id=answer.get("VersionId", ""),
            etag=etag,
            retain_until=answer.get("ObjectLockRetainUntilDate"),
        )

    def _create_session(self) -> boto3.Session:
        to = self.to
        if to.machine_role:
            source = session.machine_role()
        else:
            source = session.own_keys(to.access_key_id, str(to.secret_access_key))
        if to.role_arn:
            source = session.assumed_role(source, to.role_arn, to.external_id, self._sts)
        return boto3.Session(botocore_session=source)

    def _sts(self, source: BotocoreSession) -> Any:
        client = session.sts(
            source,
            region=self.to.region,
            endpoint_url=self.to.endpoint_url,
            verify=self.verify,
            timeouts=(self.to.connect_timeout, self.to.read_timeout),
        )
        wire.tame(client, allow_private=self.to.allow_private, pinned=bool(self.to.ca_bundle))
        return client

    def _trusted(self) -> str:
        """Return the path of the certificates to trust. Always a path: else AWS_CA_BUNDLE would choose."""
        if not self.to.ca_bundle:
            return str(botocore.httpsession.where())
        if not readable(self.to.ca_bundle):
            raise DeliveryError("ca_bundle_invalid")
        # urllib3 reads the file anew for each connection, so it must live as long as this object.
        with tempfile.NamedTemporaryFile("w", prefix="anaphora-ca-", suffix=".pem", delete=False) as file:
            file.write(self.to.ca_bundle)
        weakref.finalize(self, Path(file.name).unlink, missing_ok=True)
        return file.name

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Let only DeliveryErrors and bugs out."""
        try:
            yield
        except DeliveryError:
            raise
        except Exception as error:
            if (explained := explain(error, asked_for=self._asked_for())) is None:
                raise
            secret = str(self.to.secret_access_key)
            if secret and secret in explained.detail:
                explained = DeliveryError(explained.diagnosis.code, explained.detail.replace(secret, "•••"))
            raise explained from error


_NOT_CONFIGURED = {
    "NoSuchBucketPolicy",
    "NoSuchPublicAccessBlockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
}


_CHECKSUM = frozenset({"ChecksumSHA256", "ChecksumAlgorithm"})


def _refused(error: Any, parameters: Mapping[str, Any]) -> frozenset[str]:
    """Return which of the parameters that can be done without a store objects to; empty if it is none of them."""
    explained = explain(error)
    code = explained.diagnosis.code if explained else ""
    not_implemented = error.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    about_checksum = code == "checksum_unsupported" or (not_implemented and "IfNoneMatch" not in parameters)
    # By the same words Cloudflare R2 (the first) and Google (the second) refuse a checksum's header.
    about_checksum |= error.response.get("Error", {}).get("Code") in {"Unauthorized", "SignatureDoesNotMatch"}
    if about_checksum:
        return _CHECKSUM if "ChecksumSHA256" in parameters else frozenset()
    about_condition = code == "condition_unsupported" or not_implemented
    return frozenset({"IfNoneMatch"}) if about_condition and "IfNoneMatch" in parameters else frozenset()


def _integrity(sha256: str, md5: str, *, etag: str, checksum: str, accepted: bool) -> Integrity:
    """Return how far a store's answer, its `checksum` in Base64, confirms what came in."""
    if checksum and checksum == _base64(sha256):
        return Integrity.SHA256
    if etag == md5:
        return Integrity.ETAG
    return Integrity.MD5 if accepted else Integrity.NONE


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
