"""The PUT of a small file, without the machinery through which botocore takes every request.

Four fifths of the CPU that an upload of 200 KB takes go into rules, events and headers that are the same for each
report of a bucket. `small_put()` returns a stand-in for `client.put_object` that puts the request together itself: the
same parameters, answers and exceptions, the same guarded connections of the same client.

It may do so only as long as it does what botocore does. When it is made, a sample goes both ways, as far as the
network; unless the two requests are equal, signature included, botocore has changed and its own way is taken.
"""

import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

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
"""The parameters of PutObject that an upload uses, but for Bucket, Key, Body and Metadata."""

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

# Numbers of an attempt among several, of which there are none here.
_LEFT_OUT = {"amz-sdk-invocation-id", "amz-sdk-request", "expect"}


def small_put(client: Any, bucket: str) -> PutObject:
    """Return what puts small files into `bucket`: `client.put_object`, or something quicker that does the same.

    It takes the parameters of `put_object` that uploads use, with Body as bytes, and `sha256`, the body's digest in
    hexadecimal. Raises what `put_object` raises. Safe for many threads.
    """

    def plain(*, sha256: str, **parameters: Any) -> Any:
        return client.put_object(Bucket=bucket, **parameters)

    try:
        if client._endpoint.http_session._proxy_config.proxy_url_for(client.meta.endpoint_url):
            return plain  # it is looked at for each request, see `wire`
        theirs = _caught(client, bucket)
        ours = _SmallPut(client, theirs)
        if ours.prepared_like(theirs):
            return ours
        logger.warning("This release of botocore puts requests together in another way; uploads take longer")
    except (AttributeError, LookupError, TypeError, ValueError):
        logger.warning("Uploads take botocore's own, longer way", exc_info=True)
    return plain


class _NotSent(Exception):  # noqa: N818  # nothing is wrong
    """Raised to keep a request from being sent."""


def _caught(client: Any, bucket: str) -> Any:
    """Return the request that botocore makes of the sample, ready to be sent. Other threads' requests go their way."""
    found = []
    here = threading.get_ident()

    def catch(request: Any, **kwargs: Any) -> None:
        if threading.get_ident() != here:
            return
        found.append(request)
        raise _NotSent

    client.meta.events.register_first("before-send.s3.PutObject", catch)
    try:
        client.put_object(Bucket=bucket, **_SAMPLE)
    except _NotSent:
        pass
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", catch)
    return found[0]


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

    def __call__(self, *, sha256: str, **parameters: Any) -> Mapping[str, Any]:
        path = self._path + quote(parameters["Key"], safe="/~")
        # Once: those of a role change from time to time, and token and key must be of the same.
        credentials = self._credentials()
        headers = self._headers(parameters, sha256, _date(), credentials)
        headers["Authorization"] = self._authorization(path, headers, credentials)
        request = self._request("PUT", self._url + path, headers, parameters["Body"], stream_output=False)
        answer = self._session.send(request)
        if answer.status_code >= 300:
            raise self._refusal(answer)
        return {
            "ETag": answer.headers.get("ETag", ""),
            "VersionId": answer.headers.get("x-amz-version-id", ""),
            "ChecksumSHA256": answer.headers.get("x-amz-checksum-sha256", ""),
            "ResponseMetadata": {"HTTPStatusCode": answer.status_code},
        }

    def prepared_like(self, theirs: Any) -> bool:
        """Tell whether the sample becomes the same request here as there."""
        wanted = {name.lower(): _text(value) for name, value in theirs.headers.items()}
        signature = wanted.pop("authorization")
        credentials = self._credentials()
        made = self._headers(_SAMPLE, _SAMPLE_SHA256, wanted["x-amz-date"], credentials)
        path = self._path + quote(_SAMPLE["Key"], safe="/~")
        return (
            self._url + path == theirs.url
            and {name.lower(): value for name, value in made.items()}
            == {name: value for name, value in wanted.items() if name not in _LEFT_OUT}
            and self._authorization(path, made, credentials) == signature
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
        """Return the value of the header Authorization; AWS, "Signature Version 4", says how it is made."""
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()} | {"host": self._host}
        del signed["user-agent"]  # which a proxy may change
        names = sorted(signed)
        listed = ";".join(names)
        lines = [f"{name}:{signed[name]}" for name in names]
        request = "\n".join(["PUT", path, "", *lines, "", listed, signed["x-amz-content-sha256"]])
        date = signed["x-amz-date"]
        scope = f"{date[:8]}/{self._region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = _signing_key(credentials.secret_key, date[:8], self._region)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        who = f"{credentials.access_key}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={who}, SignedHeaders={listed}, Signature={signature}"

    def _credentials(self) -> Any:
        return self._client._request_signer._credentials.get_frozen_credentials()

    def _refusal(self, answer: Any) -> Exception:
        content = {"headers": answer.headers, "status_code": answer.status_code, "body": answer.content, "context": {}}
        parsed = self._client._response_parser.parse(content, self._operation.output_shape)
        error: Exception = self._client.exceptions.from_code(parsed.get("Error", {}).get("Code"))(parsed, "PutObject")
        return error


def _date() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=256)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
