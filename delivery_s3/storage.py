"""The S3 destination: one connection, one PUT per report, and the receipt from the answer of the store.

This module and `credentials` are the only ones that import boto3, botocore or django-storages; `botocore_patches`
hardens their clients. `S3Destination` takes a frozen `Connection` and needs no database. It raises every expected
failure as a DeliveryError. Requests never use the AWS configuration of the machine (see `credentials`), and a secret
never appears in a message, a log or a representation.
"""

import contextlib
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

import boto3
import botocore.httpsession
from botocore.config import Config
from botocore.session import Session as BotocoreSession
from storages.backends.s3 import S3Storage

from anaphora.deliveries import errors
from anaphora.deliveries.destinations import (
    Condition,
    Integrity,
    ListedObject,
    Receipt,
    StoredObject,
    Upload,
    integrity_of,
)
from anaphora.deliveries.errors import DeliveryError
from anaphora.foreign_text import clean_line
from anaphora.secret import MASK
from delivery_s3 import botocore_patches, credentials, diagnoses
from delivery_s3.connection import Connection
from delivery_s3.error_mapping import explain
from delivery_s3.fast_put import PutObject, small_put
from delivery_s3.put_request import likely_diagnosis, put_parameters, refused_parameters
from delivery_s3.response_headers import check_length, sha256_of
from delivery_s3.tls import is_readable_pem

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


LARGEST_OBJECT = 5 * 1024**4
"""Bytes (Amazon S3 User Guide, "Uploading objects")."""

MOST_IDLE_PAGES = 1000
"""Consecutive pages of a listing without a new key. Some stores send empty pages."""

PRESIGNED_SECONDS = 60
"""How long a presigned URL is valid: long enough to follow a redirect, too short to share."""


@dataclass(frozen=True)
class Attempt:
    """The store's answer to a request that it should refuse."""

    accepted: bool
    code: str = ""
    message: str = ""
    version_id: str = ""

    @property
    def answer(self) -> str:
        """The answer in words."""
        return "accepted" if self.accepted else f"refused ({self.code})"


class S3Destination(S3Storage):  # type: ignore[misc]
    """A django-storages S3Storage that writes with one conditional PUT with checksums and returns a receipt.

    Use `put()` to write. Django's `save()` raises TypeError, because it can return neither the condition of the write
    nor the answer of the store. Thread-safe: all threads share one boto3 client.
    """

    def __init__(self, connection: Connection) -> None:
        self.configuration = connection
        super().__init__(
            access_key=connection.access_key_id,
            secret_key=connection.secret_access_key.reveal(),
            security_token=None,
            session_profile=None,
            bucket_name=connection.bucket_name,
            region_name=connection.region or None,
            endpoint_url=connection.endpoint_url or None,
            verify=self._ca_path(),
            location="",
            gzip=False,
            object_parameters={},
            default_acl=None,
            custom_domain=None,
            cloudfront_signer=None,
            client_config=Config(  # type: ignore[call-arg]  # the stubs lag behind botocore
                signature_version="s3v4",
                # Identifies Anaphora in the access log of the store, and is faster than botocore's own header.
                user_agent="anaphora-s3-archive",
                # The payload is signed over TLS too, so that the store always compares it with its SHA-256.
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
        with self._translate_errors():
            client: S3Client = self.connection.meta.client
            return client

    def prepare(self) -> None:
        """Create the shared client before the first upload, because that takes longer than many uploads.

        Raises DeliveryError.
        """
        with self._translate_errors():
            _ = self._put_small

    @property
    def connection(self) -> Any:
        """The boto3 resource of this thread, created by django-storages and hardened like the client."""
        made_before = getattr(self._connections, "connection", None) is not None
        resource = super().connection
        if not made_before:
            botocore_patches.harden_client(
                resource.meta.client,
                allow_private=self.configuration.allow_private,
                pinned=bool(self.configuration.ca_bundle),
            )
        return resource

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        """Store all of `body` under `upload.key`, unless an object with this key exists.

        If an earlier attempt already stored the same upload, return its receipt. Another object with this key is not
        changed; the diagnosis is then `key_taken`. `body` must be seekable. Raises DeliveryError.
        """
        retain_until = self._retain_until()
        parameters = put_parameters(self.configuration, upload, retain_until)
        with self._translate_errors():
            while True:
                try:
                    answer = self._put_object(upload, body, parameters)
                    break
                except self.client.exceptions.ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                        return self._receipt_of_existing_object(upload)
                    if not (refused := refused_parameters(error, parameters)):
                        raise
                    # Without the condition, the key still contains the SHA-256 of the content, so different contents
                    # cannot replace each other. Without the checksum, the store still verifies the MD5.
                    parameters = {name: value for name, value in parameters.items() if name not in refused}
        etag = answer.get("ETag", "").strip('"')
        if not etag:
            raise DeliveryError(
                diagnoses.NOT_S3, f"Status {answer['ResponseMetadata']['HTTPStatusCode']} without an ETag"
            )
        return Receipt(
            object_key=upload.key,
            size=upload.size,
            sha256=upload.sha256,
            integrity=integrity_of(
                upload.sha256, upload.md5, etag=etag, checksum=answer.get("ChecksumSHA256", ""), accepted=True
            ),
            condition=self._condition(parameters),
            sha256_refused=self.configuration.sha256_header and "ChecksumSHA256" not in parameters,
            version_id=answer.get("VersionId", ""),
            etag=etag,
            retain_until=retain_until,
        )

    def _condition(self, parameters: dict[str, Any]) -> Condition:
        if not self.configuration.conditional_writes:
            return Condition.NOT_MADE
        return Condition.MET if "IfNoneMatch" in parameters else Condition.REFUSED

    def address(self, key: str) -> SplitResult:
        """Return the URL of a request for `key` without its query. The bucket may be part of the host."""
        with self._translate_errors():
            url = self.client.generate_presigned_url(
                "put_object", {"Bucket": self.configuration.bucket_name, "Key": key}
            )
        return urlsplit(url)._replace(query="")

    def read(self, key: str, size: int) -> bytes:
        """Return the content of a small object of `size` bytes. Needs s3:GetObject. Raises DeliveryError."""
        return b"".join(self.stream(key, size=size))

    def head(self, key: str, version_id: str = "") -> StoredObject | None:
        """Return the metadata of an object, or None if it does not exist. Needs s3:GetObject.

        Raises DeliveryError.
        """
        parameters = self._object_parameters(key, version_id)
        with self._translate_errors():
            try:
                answer = self.client.head_object(ChecksumMode="ENABLED", **parameters)
            except self.client.exceptions.ClientError as error:
                # The answer to a HEAD has no body, so only the status is available.
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 404:
                    return None
                if status in (401, 403):
                    raise DeliveryError(diagnoses.ACCESS_DENIED, f"Status {status} for HEAD of {key}") from error
                raise
        size, modified_at = answer.get("ContentLength", -1), answer.get("LastModified")
        if not 0 <= size <= LARGEST_OBJECT or modified_at is None:
            raise DeliveryError(
                diagnoses.NOT_S3, f"The answer to HEAD of {key} has length {size} and date {modified_at}"
            )
        return StoredObject(
            size=size,
            etag=answer.get("ETag", "").strip('"'),
            sha256=sha256_of(answer.get("ChecksumSHA256", "")),
            modified_at=modified_at,
            version_id=answer.get("VersionId", ""),
            content_type=answer.get("ContentType", ""),
            metadata=answer.get("Metadata", {}),
            retain_until=answer.get("ObjectLockRetainUntilDate"),
        )

    def list_objects(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Yield lists of up to 1,000 objects whose keys begin with `prefix`, in the order of the keys.

        Needs s3:ListBucket. Raises DeliveryError, also if a listing continues without new keys.
        """
        furthest, idle = "", 0
        with self._translate_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.configuration.bucket_name, Prefix=prefix
            )
            for each in pages:
                found = [
                    ListedObject(entry.get("Key", ""), entry.get("Size", 0), entry.get("ETag", "").strip('"'))
                    for entry in each.get("Contents", [])
                ]
                keys = [entry.key for entry in found]
                if not all(keys):
                    raise DeliveryError(diagnoses.NOT_S3, "The store lists an object without a key")
                last = max(keys, default="")
                idle = 0 if last > furthest else idle + 1
                if idle > MOST_IDLE_PAGES:
                    raise DeliveryError(diagnoses.NOT_S3, f"The listing has {idle} consecutive pages without a new key")
                furthest = max(furthest, last)
                yield found

    def stream(
        self, key: str, version_id: str = "", *, size: int, between: tuple[int, int] | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """Yield the content of an object in chunks of at most 1 MiB. Needs s3:GetObject. Raises DeliveryError.

        `between` is a half-open byte range. If the object has another length than `size`, or another ETag than `etag`
        (empty: any), it raises before the first chunk. It never yields more bytes than requested.
        """
        start, end = between or (0, size)
        part: Any = {"Range": f"bytes={start}-{end - 1}"} if between else {}
        with self._translate_errors():
            answer = self.client.get_object(**self._object_parameters(key, version_id), **part)
            with contextlib.closing(answer["Body"]) as body:
                found = answer.get("ETag", "").strip('"')
                # Compared here because not every store supports If-Match.
                if etag and found != etag:
                    raise DeliveryError(errors.OBJECT_CHANGED, f"The ETag is {found}, the receipt says {etag}")
                check_length(answer, start, end, size=size, partial=between is not None)
                left = end - start
                while chunk := body.read(min(1024 * 1024, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise DeliveryError(errors.OBJECT_CHANGED, f"There are more than {end - start:,} bytes")
                    yield chunk
                if left:
                    raise DeliveryError(diagnoses.CONNECTION_LOST, f"The answer ended {left:,} bytes early")

    def presigned_url(self, key: str, version_id: str, *, content_type: str, disposition: str) -> str:
        """Return a URL that downloads the object with these headers, without credentials, for PRESIGNED_SECONDS."""
        parameters = self._object_parameters(key, version_id) | {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
        }
        with self._translate_errors():
            return str(self.client.generate_presigned_url("get_object", parameters, ExpiresIn=PRESIGNED_SECONDS))

    def _object_parameters(self, key: str, version_id: str = "") -> dict[str, Any]:
        named = {"Bucket": self.configuration.bucket_name, "Key": key}
        return named | {"VersionId": version_id} if version_id else named

    def delete(self, key: str) -> None:
        """Delete one object. Needs s3:DeleteObject. Raises DeliveryError."""
        with self._translate_errors():
            self.client.delete_object(**self._object_parameters(key))

    def attempt(self, operation: str, **parameters: Any) -> Attempt:
        """Return the store's answer to a request that it should refuse. Raises DeliveryError if there is no answer.

        `operation` is a boto3 method, such as `delete_object`.
        """
        with self._translate_errors():
            try:
                answer = getattr(self.client, operation)(Bucket=self.configuration.bucket_name, **parameters)
            except self.client.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500 and status != 501:
                    raise
                said = error.response.get("Error", {})
                return Attempt(
                    accepted=False,
                    code=clean_line(str(said.get("Code", status)), 100),
                    message=clean_line(said.get("Message") or ""),
                )
        return Attempt(accepted=True, version_id=answer.get("VersionId", ""))

    def get_bucket_config(self, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """Return a configuration of the bucket, or None if it is not set.

        `operation` is a boto3 method, such as `get_bucket_versioning`. Raises DeliveryError.
        """
        with self._translate_errors():
            try:
                answer: dict[str, Any] = getattr(self.client, operation)(
                    Bucket=self.configuration.bucket_name, **parameters
                )
            except self.client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") in _NOT_CONFIGURED:
                    return None
                raise
            return answer

    def _save(self, name: str, content: Any) -> str:
        raise TypeError("Use put(), which returns the receipt")

    def _put_object(self, upload: Upload, body: BinaryIO, parameters: dict[str, Any]) -> Any:
        body.seek(0)
        if upload.size < botocore_patches.EXPECT_CONTINUE_BYTES:
            return self._put_small(sha256=upload.sha256, Body=body.read(), **parameters)
        return self.client.put_object(
            Bucket=self.configuration.bucket_name,
            Body=botocore_patches.with_known_sha256(body, upload.sha256),
            **parameters,
        )

    @cached_property
    def _put_small(self) -> PutObject:
        return small_put(self.client, self.configuration.bucket_name)

    def _retain_until(self) -> datetime | None:
        """Return the end of the retention, which starts at the delivery; None without Object Lock."""
        if not self.configuration.object_lock_mode:
            return None
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.configuration.retention_days)

    def _receipt_of_existing_object(self, upload: Upload) -> Receipt:
        """Build the receipt of an object stored by an earlier attempt, from a HEAD request if that is permitted."""
        try:
            answer = self.client.head_object(ChecksumMode="ENABLED", **self._object_parameters(upload.key))
        except self.client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (401, 403, 404, 405, 501):
                raise
            return Receipt(upload.key, upload.size, upload.sha256, Integrity.NONE, Condition.EXISTED)
        metadata = answer.get("Metadata", {})
        size = answer.get("ContentLength", -1)
        if size != upload.size or metadata.get("sha256", upload.sha256) != upload.sha256:
            raise DeliveryError(errors.KEY_TAKEN, f"{upload.key} holds {size} bytes")
        etag = answer.get("ETag", "").strip('"')
        return Receipt(
            object_key=upload.key,
            size=upload.size,
            sha256=upload.sha256,
            integrity=integrity_of(
                upload.sha256, upload.md5, etag=etag, checksum=answer.get("ChecksumSHA256", ""), accepted=False
            ),
            condition=Condition.EXISTED,
            version_id=answer.get("VersionId", ""),
            etag=etag,
            retain_until=answer.get("ObjectLockRetainUntilDate"),
        )

    def _create_session(self) -> boto3.Session:
        configured = self.configuration
        if configured.machine_role:
            session = credentials.machine_role_session()
        else:
            session = credentials.access_key_session(configured.access_key_id, configured.secret_access_key.reveal())
        if configured.role_arn:
            session = credentials.assumed_role_session(
                session, configured.role_arn, configured.external_id, self._sts_client
            )
        return boto3.Session(botocore_session=session)

    def _sts_client(self, session: BotocoreSession) -> Any:
        client = credentials.sts_client(
            session,
            region=self.configuration.region,
            endpoint_url=self.configuration.endpoint_url,
            verify=self.verify,
            timeouts=(self.configuration.connect_timeout, self.configuration.read_timeout),
        )
        botocore_patches.harden_client(
            client, allow_private=self.configuration.allow_private, pinned=bool(self.configuration.ca_bundle)
        )
        return client

    def _ca_path(self) -> str:
        """Return the path of the trusted certificates. Never empty, because boto3 would then use AWS_CA_BUNDLE."""
        if not self.configuration.ca_bundle:
            return str(botocore.httpsession.where())
        if not is_readable_pem(self.configuration.ca_bundle):
            raise DeliveryError(diagnoses.CA_BUNDLE_INVALID)
        # urllib3 reads the file for each connection, so the file must exist as long as this object.
        with tempfile.NamedTemporaryFile("w", prefix="anaphora-ca-", suffix=".pem", delete=False) as file:
            file.write(self.configuration.ca_bundle)
        weakref.finalize(self, Path(file.name).unlink, missing_ok=True)
        return file.name

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Convert expected exceptions to DeliveryError; other exceptions are bugs and pass through."""
        try:
            yield
        except DeliveryError:
            raise
        except Exception as error:
            if (explained := explain(error, fallback=likely_diagnosis(self.configuration))) is None:
                raise
            secret = self.configuration.secret_access_key.reveal()
            if secret and secret in explained.detail:
                explained = DeliveryError(explained.diagnosis, explained.detail.replace(secret, MASK))
            raise explained from error


_NOT_CONFIGURED = {
    "NoSuchBucketPolicy",
    "NoSuchPublicAccessBlockConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "ServerSideEncryptionConfigurationNotFoundError",
}
