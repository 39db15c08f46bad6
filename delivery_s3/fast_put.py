"""Sends the PUT of a small file without most of botocore's request processing.

80 % of the CPU time of a 200 KB upload is spent on rules, events and headers that are the same for all reports of a
bucket. `small_put()` returns a replacement for `client.put_object` that builds and signs the request itself. It has the
same parameters, answers and exceptions, and uses the same hardened connections of the same client.

When it is created, it builds one sample request itself and one with botocore, without sending them. If the two requests
are not equal, including their signatures, botocore has changed, and `client.put_object` is used instead.
"""

import contextlib
import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from queue import Empty
from typing import Any
from urllib.parse import quote, urlsplit

from urllib3.util.connection import is_connection_dropped

logger = logging.getLogger(__name__)

PutObject = Callable[..., Mapping[str, Any]]

_HEADERS = {
    "ContentLength": "Content-Length",
    "ContentMD5": "Content-MD5",
    "ContentType": "Content-Type",
    "ContentDisposition": "Content-Disposition",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "IfNoneMatch": "If-None-Match",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "StorageClass": "x-amz-storage-class",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
}
"""The headers of the PutObject parameters that uploads use, except Bucket, Key, Body and Metadata."""

_SAMPLE: Mapping[str, Any] = {
    "Key": "a b/ä+~=%.pdf",
    "Body": b"sample",
    "Metadata": {"filename": "%C3%A4", "dashboard": "sales"},
    "ContentLength": 6,
    "ContentMD5": "XoSHFoJGVhBZPOmIe1xqvw==",
    "ContentType": "text/csv; charset=utf-8",
    "ContentDisposition": "inline; filename=\"a  b.csv\"; filename*=UTF-8''a%20%20b.csv",
    "ChecksumAlgorithm": "SHA256",
    "ChecksumSHA256": "r1tDk6EvcJ5h5REDEbhHGi9ZbN4BWI4H1Y5U4zTwXqc=",
    "IfNoneMatch": "*",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "key",
    "StorageClass": "STANDARD_IA",
    "ObjectLockMode": "GOVERNANCE",
    "ObjectLockRetainUntilDate": datetime(2026, 3, 1, 12, tzinfo=UTC),
}
_SAMPLE_SHA256 = hashlib.sha256(b"sample").hexdigest()

# Headers that botocore adds for retries and for Expect: 100-continue, which are not used here.
_IGNORED_HEADERS = {"amz-sdk-invocation-id", "amz-sdk-request", "expect"}


def small_put(client: Any, bucket: str) -> PutObject:
    """Return a function that puts small files into `bucket`: `_SmallPut`, or `client.put_object` as a fallback.

    The function takes the parameters of `put_object` that uploads use, with Body as bytes, and `sha256`, the
    hexadecimal digest of the body. It raises the exceptions of `put_object`. Thread-safe.
    """

    def put_with_botocore(*, sha256: str, **parameters: Any) -> Any:
        return client.put_object(Bucket=bucket, **parameters)

    try:
        if client._endpoint.http_session._proxy_config.proxy_url_for(client.meta.endpoint_url):
            return put_with_botocore  # `botocore_patches` checks the endpoint of each proxied request
        botocore_request = _capture_botocore_request(client, bucket)
        small_put_object = _SmallPut(client, botocore_request)
        if small_put_object.builds_same_request(botocore_request):
            return small_put_object
        logger.warning("This release of botocore builds requests differently; uploads take longer")
    except (AttributeError, LookupError, TypeError, ValueError):
        logger.warning("Uploads use botocore's put_object and take longer", exc_info=True)
    return put_with_botocore


class _NotSent(Exception):  # noqa: N818  # not an error
    """Raised to stop a request before it is sent."""


def _capture_botocore_request(client: Any, bucket: str) -> Any:
    """Return the request that botocore builds from the sample. Requests of other threads are not affected."""
    captured = []
    this_thread = threading.get_ident()

    def capture(request: Any, **kwargs: Any) -> None:
        if threading.get_ident() != this_thread:
            return
        captured.append(request)
        raise _NotSent

    client.meta.events.register_first("before-send.s3.PutObject", capture)
    try:
        client.put_object(Bucket=bucket, **_SAMPLE)
    except _NotSent:
        pass
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", capture)
    return captured[0]


class _SmallPut:
    def __init__(self, client: Any, sample: Any) -> None:
        self._client = client
        self._session = client._endpoint.http_session
        self._region = client.meta.region_name
        self._agent = client.meta.config.user_agent
        self._request = type(sample)
        self._operation = client.meta.service_model.operation_model("PutObject")
        address = urlsplit(sample.url)
        self._host = address.netloc
        self._path = address.path.removesuffix(quote(_SAMPLE["Key"], safe="/~"))
        self._url = f"{address.scheme}://{address.netloc}"
        self._pool = self._session._manager.connection_from_url(self._url)

    def __call__(self, *, sha256: str, **parameters: Any) -> Mapping[str, Any]:
        path = self._path + quote(parameters["Key"], safe="/~")
        # Read once: role credentials are renewed, and the token and the keys must belong together.
        credentials = self._credentials()
        headers = self._headers(parameters, sha256, _amz_date(), credentials)
        headers["Authorization"] = self._authorization(path, headers, credentials)
        answer = self._send(path, headers, parameters["Body"])
        if answer.status_code >= 300:
            raise self._client_error(answer)
        return {
            "ETag": answer.headers.get("etag", ""),
            "VersionId": answer.headers.get("x-amz-version-id", ""),
            "ChecksumSHA256": answer.headers.get("x-amz-checksum-sha256", ""),
            "ResponseMetadata": {"HTTPStatusCode": answer.status_code},
        }

    def _send(self, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        """Send the request on an idle connection, otherwise by botocore, which opens one and puts it into the pool."""
        connection = self._idle_connection()
        if connection is None:
            request = self._request("PUT", self._url + path, headers, body, stream_output=False)
            return self._session.send(request)
        lines = [f"PUT {path} HTTP/1.1", f"Host: {self._host}", *(f"{name}: {headers[name]}" for name in headers)]
        if any(character in line for line in lines for character in "\r\n"):
            raise ValueError("A header has a line break")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        reusable = False
        try:
            answer = connection.exchange(head, body)
            reusable = answer.reusable
            return answer
        finally:
            if not reusable:
                connection.close()
            self._pool._put_conn(connection)

    def _idle_connection(self) -> Any:
        """Take an open connection from the pool, or None."""
        with contextlib.suppress(Empty):
            connection = self._pool.pool.get_nowait()
            if connection is not None and not connection.is_closed and not is_connection_dropped(connection):
                return connection
            self._pool._put_conn(connection)
        return None

    def builds_same_request(self, botocore_request: Any) -> bool:
        """Return whether the sample request is equal to the one that botocore has built."""
        expected = {name.lower(): _as_text(value) for name, value in botocore_request.headers.items()}
        signature = expected.pop("authorization")
        credentials = self._credentials()
        headers = self._headers(_SAMPLE, _SAMPLE_SHA256, expected["x-amz-date"], credentials)
        path = self._path + quote(_SAMPLE["Key"], safe="/~")
        return (
            self._url + path == botocore_request.url
            and {name.lower(): value for name, value in headers.items()}
            == {name: value for name, value in expected.items() if name not in _IGNORED_HEADERS}
            and self._authorization(path, headers, credentials) == signature
        )

    def _headers(self, parameters: Mapping[str, Any], sha256: str, date: str, credentials: Any) -> dict[str, str]:
        headers = {"User-Agent": self._agent, "X-Amz-Content-SHA256": sha256, "X-Amz-Date": date}
        for name, value in parameters.items():
            if header := _HEADERS.get(name):
                headers[header] = value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)
        for name, value in parameters["Metadata"].items():
            headers[f"x-amz-meta-{name}"] = value
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        return headers

    def _authorization(self, path: str, headers: Mapping[str, str], credentials: Any) -> str:
        """Return the Authorization header, as AWS documents in "Signature Version 4"."""
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()} | {"host": self._host}
        del signed["user-agent"]  # a proxy may change it
        names = sorted(signed)
        signed_names = ";".join(names)
        lines = [f"{name}:{signed[name]}" for name in names]
        request = "\n".join(["PUT", path, "", *lines, "", signed_names, signed["x-amz-content-sha256"]])
        date = signed["x-amz-date"]
        scope = f"{date[:8]}/{self._region}/s3/aws4_request"
        string_to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = _signing_key(credentials.secret_key, date[:8], self._region)
        signature = hmac.digest(key, string_to_sign.encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed_names}, Signature={signature}"

    def _credentials(self) -> Any:
        return self._client._request_signer._credentials.get_frozen_credentials()

    def _client_error(self, answer: Any) -> Exception:
        content = {"headers": answer.headers, "status_code": answer.status_code, "body": answer.content, "context": {}}
        parsed = self._client._response_parser.parse(content, self._operation.output_shape)
        error: Exception = self._client.exceptions.from_code(parsed.get("Error", {}).get("Code"))(parsed, "PutObject")
        return error


def _amz_date() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=256)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
