"""The one place where an error of boto3, of botocore or of the network becomes a DeliveryError.

`explain()` goes by S3's error codes and by the names of exception classes, so that this module needs none of
those libraries and does no input or output. To teach the product a new failure, add a row to the catalogue
in `diagnosis` and name it in S3_CODES or EXCEPTIONS.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from delivery_s3.diagnoses import DeliveryError, Fix

S3_CODES: Mapping[str, str] = {
    "AccessDenied": "access_denied",
    "AccessForbidden": "access_denied",
    "UnauthorizedAccess": "access_denied",
    "AllAccessDisabled": "account_problem",
    "AccountProblem": "account_problem",
    "NotSignedUp": "account_problem",
    "UserSuspended": "account_problem",
    "InvalidAccessKeyId": "invalid_access_key",
    "InvalidClientTokenId": "invalid_access_key",
    "SignatureDoesNotMatch": "wrong_secret",
    "InvalidSecurity": "invalid_access_key",
    "ExpiredToken": "expired_token",
    "InvalidToken": "expired_token",
    "TokenRefreshRequired": "expired_token",
    "CredentialsNotSupported": "access_denied",
    "RequestTimeTooSkewed": "clock_skew",
    "RequestExpired": "clock_skew",
    "NoSuchBucket": "bucket_not_found",
    "InvalidBucketName": "settings_invalid",
    "InvalidBucketState": "request_refused",
    "AuthorizationHeaderMalformed": "wrong_region",
    "IllegalLocationConstraintException": "wrong_region",
    "InvalidRegionName": "wrong_region",
    "PermanentRedirect": "redirected",
    "TemporaryRedirect": "redirected",
    "Redirect": "redirected",
    "InvalidURI": "settings_invalid",
    "InvalidHostHeader": "settings_invalid",
    "KMS.DisabledException": "kms_key_unknown",
    "KMS.InvalidKeyUsageException": "kms_key_unknown",
    "KMS.InvalidStateException": "kms_key_unknown",
    "KMS.KMSInvalidStateException": "kms_key_unknown",
    "KMS.NotFoundException": "kms_key_unknown",
    "KMS.AccessDeniedException": "kms_denied",
    "InvalidEncryptionAlgorithmError": "encryption_unsupported",
    "ServerSideEncryptionConfigurationNotFoundError": "encryption_unsupported",
    "ObjectLockConfigurationNotFoundError": "object_lock_unsupported",
    "InvalidRetentionPeriod": "retention_refused",
    "InvalidStorageClass": "storage_class_unsupported",
    "NotImplemented": "request_refused",
    "MethodNotAllowed": "not_s3",
    "InvalidRequest": "request_refused",
    "InvalidArgument": "request_refused",
    "MalformedXML": "request_refused",
    "MissingContentLength": "checksum_unsupported",
    "QuotaExceeded": "quota_exceeded",
    "XMinioStorageFull": "quota_exceeded",
    "InsufficientCapacity": "quota_exceeded",
    "EntityTooLarge": "too_large",
    "KeyTooLongError": "settings_invalid",
    "MetadataTooLarge": "metadata_too_large",
    "SlowDown": "throttled",
    "ServiceUnavailable": "throttled",
    "Busy": "throttled",
    "TooManyRequests": "throttled",
    "TooManyRequestsException": "throttled",
    "RequestLimitExceeded": "throttled",
    "BandwidthLimitExceeded": "throttled",
    "Throttling": "throttled",
    "ThrottlingException": "throttled",
    "InternalError": "server_error",
    "InternalServerError": "server_error",
    "RequestTimeout": "connection_lost",
    "IncompleteBody": "connection_lost",
    "BadDigest": "digest_mismatch",
    "InvalidDigest": "digest_mismatch",
    "XAmzContentSHA256Mismatch": "digest_mismatch",
    "XAmzContentChecksumMismatch": "digest_mismatch",
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
    "PreconditionFailed": "key_taken",
}
"""Error codes that stores answer a PUT with (Amazon S3 API reference, "List of error codes", and measured)."""

EXCEPTIONS: Mapping[str, str] = {
    "ConnectTimeoutError": "connection_timeout",
    "ReadTimeoutError": "read_timeout",
    "ProxyConnectionError": "proxy_failed",
    "EndpointConnectionError": "host_unreachable",
    "SSLError": "tls_failed",
    "ConnectionClosedError": "connection_lost",
    "ResponseStreamingError": "connection_lost",
    "IncompleteReadError": "connection_lost",
    "HTTPClientError": "connection_lost",
    "ConnectionError": "connection_lost",
    "ResponseParserError": "not_s3",
    "EventStreamError": "not_s3",
    "NoCredentialsError": "credentials_missing",
    "PartialCredentialsError": "credentials_missing",
    "CredentialRetrievalError": "credentials_missing",
    "NoAuthTokenError": "credentials_missing",
    "TokenRetrievalError": "credentials_missing",
    "MetadataRetrievalError": "credentials_missing",
    "SSOError": "credentials_missing",
    "LoginError": "credentials_missing",
    "RefreshWithMFAUnsupportedError": "credentials_missing",
    "ParamValidationError": "settings_invalid",
    "ValidationError": "settings_invalid",
    "BaseEndpointResolverError": "settings_invalid",
    "EndpointProviderError": "settings_invalid",
    "InvalidEndpointConfigurationError": "settings_invalid",
    "InvalidDNSNameError": "settings_invalid",
    "InvalidHostLabelError": "settings_invalid",
    "InvalidS3AddressingStyleError": "settings_invalid",
    "UnsupportedS3ArnError": "settings_invalid",
    "UnsupportedS3ConfigurationError": "settings_invalid",
    "UnsupportedS3AccesspointConfigurationError": "settings_invalid",
    "UnsupportedS3ControlArnError": "settings_invalid",
    "UnsupportedS3ControlConfigurationError": "settings_invalid",
    "UnsupportedOutpostResourceError": "settings_invalid",
    "ServiceNotInRegionError": "settings_invalid",
    "UnknownRegionError": "settings_invalid",
    "SuspiciousOperation": "settings_invalid",
    "LocationParseError": "settings_invalid",
    "ProfileNotFound": "ambient_configuration",
    "ConfigParseError": "ambient_configuration",
    "ConfigNotFound": "ambient_configuration",
    "DataNotFoundError": "ambient_configuration",
    "ApiVersionNotFoundError": "ambient_configuration",
    "InvalidConfigError": "ambient_configuration",
    "InvalidChecksumConfigError": "ambient_configuration",
    "InvalidDefaultsMode": "ambient_configuration",
    "InvalidProxiesConfigError": "proxy_failed",
    "InvalidRetryConfigurationError": "ambient_configuration",
    "InvalidRetryModeError": "ambient_configuration",
    "InvalidIMDSEndpointError": "ambient_configuration",
    "InvalidIMDSEndpointModeError": "ambient_configuration",
    "InvalidS3UsEast1RegionalEndpointConfigError": "ambient_configuration",
    "InvalidSTSRegionalEndpointsConfigError": "ambient_configuration",
    "InvalidEndpointDiscoveryConfigurationError": "ambient_configuration",
    "UnknownCredentialError": "ambient_configuration",
    "UnknownTokenProviderError": "ambient_configuration",
    "UnknownSignatureVersionError": "ambient_configuration",
    "UnsupportedSignatureVersionError": "ambient_configuration",
    "ChecksumError": "digest_mismatch",
    "FlexibleChecksumError": "digest_mismatch",
    "UnseekableStreamError": "local_copy_unreadable",
    "BotoCoreError": "unknown",
}
"""Names of exception classes of botocore and below. The most special class that has a row counts."""

_CAUSES: Mapping[str, str] = {
    "NameResolutionError": "host_not_found",
    "gaierror": "host_not_found",
    "ConnectionRefusedError": "connection_refused",
    # urllib3's, for a host name; not to be confused with ssl's, whose class has another name.
    "CertificateError": "certificate_wrong_host",
}
"""Names of exceptions inside a more general one that say more than it does."""

_VERIFY_CODES: Mapping[int, str] = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "certificate_self_signed",
    19: "certificate_unknown_issuer",
    20: "certificate_unknown_issuer",
    21: "certificate_unknown_issuer",
    62: "certificate_wrong_host",
    64: "certificate_wrong_host",
}
"""OpenSSL's verification results (X509_V_ERR_… in openssl/x509_vfy.h)."""


_PLAIN_HTTP = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's words for an answer that begins with letters where a TLS record should."""


def explain(error: Exception, *, asked_for: str = "", now: datetime | None = None) -> DeliveryError | None:
    """Return what `error` means as a DeliveryError, or None for an error that this catalogue must not hide.

    `asked_for` is the code of what a store that refuses a request without saying why most likely objects to.
    `now` (aware) is this machine's time when the answer came, to tell a clock that differs from the store's.
    """
    if isinstance(error, DeliveryError):
        return error
    inner = next((cause for cause in _chain(error) if isinstance(cause, DeliveryError)), None)
    if inner is not None:
        return inner
    names = [cls.__name__ for cls in type(error).__mro__]
    if "ClientError" in names:
        operation = getattr(error, "operation_name", "")
        return _explain_answer(getattr(error, "response", {}), operation, asked_for, now or datetime.now(UTC))
    code = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), None)
    if code is None:
        # The only plain ValueError on this path is botocore's, for an endpoint that isn't an address.
        return DeliveryError("settings_invalid", _line(error)) if isinstance(error, ValueError) else None
    return DeliveryError(_refined(code, error), _line(error))


def _explain_answer(response: Mapping[str, Any], operation: str, asked_for: str, now: datetime) -> DeliveryError:
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    s3_code, message = str(error.get("Code") or ""), str(error.get("Message") or "")
    status = int(metadata.get("HTTPStatusCode", 0))
    headers = metadata.get("HTTPHeaders", {})
    code = _code_of_answer(s3_code, status, message)
    if operation == "AssumeRole" and code in _ROLE_REFUSED:
        code = "role_denied"
    if code == "request_refused" and not message and asked_for:
        code = asked_for
    detail = f"HTTP status {status}" if s3_code in {"", str(status)} else f"{status} {s3_code}"
    detail += f": {message}" if message else ""
    fix = None
    if code in {"wrong_region", "redirected"} and (region := _region(headers, error)):
        code, detail = "wrong_region", f"{detail} The bucket is in {region}."
        fix = Fix("region", region, f"Set Region to {region}")
    ahead = _seconds_ahead(headers.get("date"), now)
    if code in _BY_A_WRONG_CLOCK and abs(ahead) > 900:
        code = "clock_skew"  # several stores call it something else
    if code == "clock_skew" and ahead:
        side = "ahead of" if ahead > 0 else "behind"
        detail = f"{detail} This machine's clock is {abs(ahead):.0f} s {side} the store's."
    if request_id := metadata.get("RequestId"):
        detail = f"{detail} (request {request_id})"
    return DeliveryError(
        code, " ".join(detail.split()), fix=fix, retry_after=_retry_after(headers.get("retry-after"), now)
    )


def _retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110: a number of them, or a date); 0 for none."""
    if value and value.strip().isdecimal():
        return float(value)
    return max(0.0, -_seconds_ahead(value, now))


def _region(headers: Mapping[str, str], error: Mapping[str, Any]) -> str:
    """Return the bucket's region as far as the answer names it: in a header, or as what was expected."""
    return str(headers.get("x-amz-bucket-region") or error.get("Region") or "")


def _code_of_answer(s3_code: str, status: int, message: str) -> str:
    lowered = message.lower()
    for codes, words, code in _TELLING_WORDS:
        if s3_code in codes and any(word in lowered for word in words):
            return code
    if s3_code in S3_CODES:
        return S3_CODES[s3_code]
    if s3_code.startswith("KMS."):
        return "kms_key_unknown"
    return _code_of_status(status, plain=s3_code in {"", str(status)})


_BY_A_WRONG_CLOCK = frozenset({"access_denied", "wrong_secret", "expired_token", "unknown"})
# The token service's words for a role that isn't there or doesn't trust whoever asks.
_ROLE_REFUSED = frozenset({"access_denied", "explicit_deny", "not_s3", "unknown", "request_refused"})
_DENIED = frozenset({"AccessDenied"})
_REFUSED = frozenset({"InvalidRequest", "InvalidArgument", "NotImplemented"})
_TELLING_WORDS = [
    (_DENIED, ("kms:",), "kms_denied"),
    (_DENIED, ("explicit deny",), "explicit_deny"),
    (_DENIED, ("time skew", "timeskew", "time too skewed"), "clock_skew"),
    (frozenset({"InvalidAccessKeyId"}), ("kms",), "kms_key_unknown"),  # Ceph's word for it
    (_REFUSED, ("object lock", "objectlock"), "object_lock_unsupported"),
    (_REFUSED, ("retain", "retention"), "retention_refused"),
    (_REFUSED, ("storage class", "storageclass"), "storage_class_unsupported"),
    (_REFUSED, ("conditional", "if-none-match"), "condition_unsupported"),
    (_REFUSED, ("kms",), "kms_key_unknown"),
    (_REFUSED, ("encrypt", "sse"), "encryption_unsupported"),
    (_REFUSED, ("checksum",), "checksum_unsupported"),
]
"""What stores call by one and the same error code, told apart by words in the message, the first match first."""


def _code_of_status(status: int, *, plain: bool) -> str:
    """Diagnose an answer by its status. `plain`: its body wasn't S3's, so a proxy or another server spoke."""
    if status == 429:
        return "throttled"
    if status == 413:
        return "too_large"
    if status == 507:
        return "quota_exceeded"
    if status == 503:
        return "throttled"
    if status == 501 and plain:
        return "not_s3"
    if status >= 500:
        return "server_error"
    if 300 <= status < 400:
        return "redirected"
    return "not_s3" if plain else "unknown"


def _refined(code: str, error: Exception) -> str:
    """Look into an error that has several causes for the one that it has."""
    if code not in {"host_unreachable", "tls_failed"}:
        return code
    for cause in _chain(error):
        for cls in type(cause).__mro__:
            if cls.__name__ in _CAUSES:
                return _CAUSES[cls.__name__]
        if getattr(cause, "reason", None) in _PLAIN_HTTP:
            return "http_expected"
        if code == "tls_failed" and (verify_code := getattr(cause, "verify_code", 0)):
            return _VERIFY_CODES.get(verify_code, code)
    return code


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what caused it, however the libraries in between have wrapped it; each once."""
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__, getattr(current, "reason", None)]
        inner += [*getattr(current, "kwargs", {}).values(), *current.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def _seconds_ahead(date: str | None, now: datetime) -> float:
    """Return how far this machine's clock is ahead of the store's, by the answer's Date header; 0 if it has none."""
    try:
        return (now - parsedate_to_datetime(date or "")).total_seconds()
    except (TypeError, ValueError):
        return 0


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
