"""Converts exceptions of boto3, botocore and the network to DeliveryError.

`explain()` uses S3 error codes and the names of exception classes, so that this module does not import these libraries.
To add a failure, define its diagnosis in `diagnoses` and add it to S3_CODES or EXCEPTIONS. No I/O.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from anaphora.deliveries import errors
from anaphora.deliveries.errors import DeliveryError, Diagnosis, Fix
from delivery_s3 import diagnoses

S3_CODES: Mapping[str, Diagnosis] = {
    "AccessDenied": diagnoses.ACCESS_DENIED,
    "AccessForbidden": diagnoses.ACCESS_DENIED,
    "UnauthorizedAccess": diagnoses.ACCESS_DENIED,
    "AllAccessDisabled": diagnoses.ACCOUNT_PROBLEM,
    "AccountProblem": diagnoses.ACCOUNT_PROBLEM,
    "NotSignedUp": diagnoses.ACCOUNT_PROBLEM,
    "UserSuspended": diagnoses.ACCOUNT_PROBLEM,
    "InvalidAccessKeyId": diagnoses.INVALID_ACCESS_KEY,
    "InvalidClientTokenId": diagnoses.INVALID_ACCESS_KEY,
    "SignatureDoesNotMatch": diagnoses.WRONG_SECRET,
    "InvalidSecurity": diagnoses.INVALID_ACCESS_KEY,
    "ExpiredToken": diagnoses.EXPIRED_TOKEN,
    "InvalidToken": diagnoses.EXPIRED_TOKEN,
    "TokenRefreshRequired": diagnoses.EXPIRED_TOKEN,
    "CredentialsNotSupported": diagnoses.ACCESS_DENIED,
    "RequestTimeTooSkewed": diagnoses.CLOCK_SKEW,
    "RequestExpired": diagnoses.CLOCK_SKEW,
    "NoSuchBucket": diagnoses.BUCKET_NOT_FOUND,
    "InvalidBucketName": diagnoses.SETTINGS_INVALID,
    "InvalidBucketState": diagnoses.REQUEST_REFUSED,
    "AuthorizationHeaderMalformed": diagnoses.WRONG_REGION,
    "IllegalLocationConstraintException": diagnoses.WRONG_REGION,
    "InvalidRegionName": diagnoses.WRONG_REGION,
    "PermanentRedirect": diagnoses.REDIRECTED,
    "TemporaryRedirect": diagnoses.REDIRECTED,
    "Redirect": diagnoses.REDIRECTED,
    "InvalidURI": diagnoses.SETTINGS_INVALID,
    "InvalidHostHeader": diagnoses.SETTINGS_INVALID,
    "KMS.DisabledException": diagnoses.KMS_KEY_UNKNOWN,
    "KMS.InvalidKeyUsageException": diagnoses.KMS_KEY_UNKNOWN,
    "KMS.InvalidStateException": diagnoses.KMS_KEY_UNKNOWN,
    "KMS.KMSInvalidStateException": diagnoses.KMS_KEY_UNKNOWN,
    "KMS.NotFoundException": diagnoses.KMS_KEY_UNKNOWN,
    "KMS.AccessDeniedException": diagnoses.KMS_DENIED,
    "InvalidEncryptionAlgorithmError": diagnoses.ENCRYPTION_UNSUPPORTED,
    "ServerSideEncryptionConfigurationNotFoundError": diagnoses.ENCRYPTION_UNSUPPORTED,
    "ObjectLockConfigurationNotFoundError": diagnoses.OBJECT_LOCK_UNSUPPORTED,
    "InvalidRetentionPeriod": diagnoses.RETENTION_REFUSED,
    "InvalidStorageClass": diagnoses.STORAGE_CLASS_UNSUPPORTED,
    "NotImplemented": diagnoses.REQUEST_REFUSED,
    "MethodNotAllowed": diagnoses.NOT_S3,
    "InvalidRequest": diagnoses.REQUEST_REFUSED,
    "InvalidArgument": diagnoses.REQUEST_REFUSED,
    "MalformedXML": diagnoses.REQUEST_REFUSED,
    "MissingContentLength": diagnoses.CHECKSUM_UNSUPPORTED,
    "QuotaExceeded": diagnoses.QUOTA_EXCEEDED,
    "XMinioStorageFull": diagnoses.QUOTA_EXCEEDED,
    "InsufficientCapacity": diagnoses.QUOTA_EXCEEDED,
    "EntityTooLarge": diagnoses.TOO_LARGE,
    "KeyTooLongError": diagnoses.SETTINGS_INVALID,
    "MetadataTooLarge": diagnoses.METADATA_TOO_LARGE,
    "SlowDown": diagnoses.THROTTLED,
    "ServiceUnavailable": diagnoses.THROTTLED,
    "Busy": diagnoses.THROTTLED,
    "TooManyRequests": diagnoses.THROTTLED,
    "TooManyRequestsException": diagnoses.THROTTLED,
    "RequestLimitExceeded": diagnoses.THROTTLED,
    "BandwidthLimitExceeded": diagnoses.THROTTLED,
    "Throttling": diagnoses.THROTTLED,
    "ThrottlingException": diagnoses.THROTTLED,
    "InternalError": diagnoses.SERVER_ERROR,
    "InternalServerError": diagnoses.SERVER_ERROR,
    "RequestTimeout": diagnoses.CONNECTION_LOST,
    "IncompleteBody": diagnoses.CONNECTION_LOST,
    "BadDigest": errors.DIGEST_MISMATCH,
    "InvalidDigest": errors.DIGEST_MISMATCH,
    "XAmzContentSHA256Mismatch": errors.DIGEST_MISMATCH,
    "XAmzContentChecksumMismatch": errors.DIGEST_MISMATCH,
    "ConditionalRequestConflict": diagnoses.CONFLICT,
    "OperationAborted": diagnoses.CONFLICT,
    "PreconditionFailed": errors.KEY_TAKEN,
}
"""Error codes of answers to PUT (Amazon S3 API reference, "List of error codes", and observed)."""

EXCEPTIONS: Mapping[str, Diagnosis] = {
    "ConnectTimeoutError": diagnoses.CONNECTION_TIMEOUT,
    "ReadTimeoutError": diagnoses.READ_TIMEOUT,
    "ProxyConnectionError": diagnoses.PROXY_FAILED,
    "EndpointConnectionError": diagnoses.HOST_UNREACHABLE,
    "SSLError": diagnoses.TLS_FAILED,
    "ConnectionClosedError": diagnoses.CONNECTION_LOST,
    "ResponseStreamingError": diagnoses.CONNECTION_LOST,
    "IncompleteReadError": diagnoses.CONNECTION_LOST,
    "HTTPClientError": diagnoses.CONNECTION_LOST,
    "ConnectionError": diagnoses.CONNECTION_LOST,
    "ResponseParserError": diagnoses.NOT_S3,
    "EventStreamError": diagnoses.NOT_S3,
    "NoCredentialsError": diagnoses.CREDENTIALS_MISSING,
    "PartialCredentialsError": diagnoses.CREDENTIALS_MISSING,
    "CredentialRetrievalError": diagnoses.CREDENTIALS_MISSING,
    "NoAuthTokenError": diagnoses.CREDENTIALS_MISSING,
    "TokenRetrievalError": diagnoses.CREDENTIALS_MISSING,
    "MetadataRetrievalError": diagnoses.CREDENTIALS_MISSING,
    "SSOError": diagnoses.CREDENTIALS_MISSING,
    "LoginError": diagnoses.CREDENTIALS_MISSING,
    "RefreshWithMFAUnsupportedError": diagnoses.CREDENTIALS_MISSING,
    "ParamValidationError": diagnoses.SETTINGS_INVALID,
    "ValidationError": diagnoses.SETTINGS_INVALID,
    "BaseEndpointResolverError": diagnoses.SETTINGS_INVALID,
    "EndpointProviderError": diagnoses.SETTINGS_INVALID,
    "InvalidEndpointConfigurationError": diagnoses.SETTINGS_INVALID,
    "InvalidDNSNameError": diagnoses.SETTINGS_INVALID,
    "InvalidHostLabelError": diagnoses.SETTINGS_INVALID,
    "InvalidS3AddressingStyleError": diagnoses.SETTINGS_INVALID,
    "UnsupportedS3ArnError": diagnoses.SETTINGS_INVALID,
    "UnsupportedS3ConfigurationError": diagnoses.SETTINGS_INVALID,
    "UnsupportedS3AccesspointConfigurationError": diagnoses.SETTINGS_INVALID,
    "UnsupportedS3ControlArnError": diagnoses.SETTINGS_INVALID,
    "UnsupportedS3ControlConfigurationError": diagnoses.SETTINGS_INVALID,
    "UnsupportedOutpostResourceError": diagnoses.SETTINGS_INVALID,
    "ServiceNotInRegionError": diagnoses.SETTINGS_INVALID,
    "UnknownRegionError": diagnoses.SETTINGS_INVALID,
    "SuspiciousOperation": diagnoses.SETTINGS_INVALID,
    "LocationParseError": diagnoses.SETTINGS_INVALID,
    "ProfileNotFound": diagnoses.AMBIENT_CONFIGURATION,
    "ConfigParseError": diagnoses.AMBIENT_CONFIGURATION,
    "ConfigNotFound": diagnoses.AMBIENT_CONFIGURATION,
    "DataNotFoundError": diagnoses.AMBIENT_CONFIGURATION,
    "ApiVersionNotFoundError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidConfigError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidChecksumConfigError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidDefaultsMode": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidProxiesConfigError": diagnoses.PROXY_FAILED,
    "InvalidRetryConfigurationError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidRetryModeError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidIMDSEndpointError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidIMDSEndpointModeError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidS3UsEast1RegionalEndpointConfigError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidSTSRegionalEndpointsConfigError": diagnoses.AMBIENT_CONFIGURATION,
    "InvalidEndpointDiscoveryConfigurationError": diagnoses.AMBIENT_CONFIGURATION,
    "UnknownCredentialError": diagnoses.AMBIENT_CONFIGURATION,
    "UnknownTokenProviderError": diagnoses.AMBIENT_CONFIGURATION,
    "UnknownSignatureVersionError": diagnoses.AMBIENT_CONFIGURATION,
    "UnsupportedSignatureVersionError": diagnoses.AMBIENT_CONFIGURATION,
    "ChecksumError": errors.DIGEST_MISMATCH,
    "FlexibleChecksumError": errors.DIGEST_MISMATCH,
    "UnseekableStreamError": errors.LOCAL_COPY_UNREADABLE,
    "BotoCoreError": diagnoses.UNKNOWN,
}
"""Names of exception classes of botocore and the libraries below it. The most specific class with a row counts."""

_CAUSES: Mapping[str, Diagnosis] = {
    "NameResolutionError": diagnoses.HOST_NOT_FOUND,
    "gaierror": diagnoses.HOST_NOT_FOUND,
    "ConnectionRefusedError": diagnoses.CONNECTION_REFUSED,
    # urllib3's, for a host name; not to be confused with ssl's, whose class has another name.
    "CertificateError": diagnoses.CERTIFICATE_WRONG_HOST,
}
"""Names of exceptions that, as the cause of a more general one, allow a more specific diagnosis."""

_VERIFY_CODES: Mapping[int, Diagnosis] = {
    9: diagnoses.CERTIFICATE_NOT_YET_VALID,
    10: diagnoses.CERTIFICATE_EXPIRED,
    18: diagnoses.CERTIFICATE_SELF_SIGNED,
    19: diagnoses.CERTIFICATE_UNKNOWN_ISSUER,
    20: diagnoses.CERTIFICATE_UNKNOWN_ISSUER,
    21: diagnoses.CERTIFICATE_UNKNOWN_ISSUER,
    62: diagnoses.CERTIFICATE_WRONG_HOST,
    64: diagnoses.CERTIFICATE_WRONG_HOST,
}
"""OpenSSL's verification results (X509_V_ERR_… in openssl/x509_vfy.h)."""


_PLAIN_HTTP = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for an answer that is not TLS, for example plain HTTP."""


def explain(
    error: Exception, *, fallback: Diagnosis | None = None, now: datetime | None = None
) -> DeliveryError | None:
    """Return `error` as a DeliveryError, or None if it is a bug, which a diagnosis must not hide.

    `fallback` is the diagnosis for a store that refuses a request without giving a reason.
    `now` (aware) is the time of this machine when it received the answer, to detect clock skew.
    """
    if isinstance(error, DeliveryError):
        return error
    inner = next((cause for cause in _causes(error) if isinstance(cause, DeliveryError)), None)
    if inner is not None:
        return inner
    names = [cls.__name__ for cls in type(error).__mro__]
    if "ClientError" in names:
        operation = getattr(error, "operation_name", "")
        return _explain_answer(getattr(error, "response", {}), operation, fallback, now or datetime.now(UTC))
    diagnosis = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), None)
    if diagnosis is None and "Invalid timestamp" in str(error):
        return DeliveryError(diagnoses.NOT_S3, _one_line(error))  # botocore raises this for an invalid date
    if diagnosis is None:
        # botocore raises a plain ValueError only for an invalid endpoint.
        return DeliveryError(diagnoses.SETTINGS_INVALID, _one_line(error)) if isinstance(error, ValueError) else None
    return DeliveryError(_refine(diagnosis, error), _one_line(error))


def _explain_answer(
    response: Mapping[str, Any], operation: str, fallback: Diagnosis | None, now: datetime
) -> DeliveryError:
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    s3_code, message = str(error.get("Code") or ""), str(error.get("Message") or "")
    status = int(metadata.get("HTTPStatusCode", 0))
    headers = metadata.get("HTTPHeaders", {})
    diagnosis = _diagnosis_of_answer(s3_code, status, message)
    if operation == "AssumeRole" and diagnosis in _ROLE_REFUSED:
        diagnosis = diagnoses.ROLE_DENIED
    if diagnosis == diagnoses.REQUEST_REFUSED and not message and fallback:
        diagnosis = fallback
    detail = f"HTTP status {status}" if s3_code in {"", str(status)} else f"{status} {s3_code}"
    detail += f": {message}" if message else ""
    fix = None
    if diagnosis in {diagnoses.WRONG_REGION, diagnoses.REDIRECTED} and (region := _region(headers, error)):
        diagnosis, detail = diagnoses.WRONG_REGION, f"{detail} The bucket is in {region}."
        fix = Fix("region", region, f"Set Region to {region}")
    ahead = _seconds_ahead(headers.get("date"), now)
    if diagnosis in _POSSIBLE_CLOCK_SKEW and abs(ahead) > 900:
        diagnosis = diagnoses.CLOCK_SKEW  # several stores use another error code for it
    if diagnosis == diagnoses.CLOCK_SKEW and ahead:
        side = "ahead of" if ahead > 0 else "behind"
        detail = f"{detail} This machine's clock is {abs(ahead):.0f} s {side} the store's."
    if request_id := metadata.get("RequestId"):
        detail = f"{detail} (request {request_id})"
    return DeliveryError(
        diagnosis, " ".join(detail.split()), fix=fix, retry_after=_retry_after(headers.get("retry-after"), now)
    )


def _retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds of a Retry-After header (RFC 9110: a number or a date); 0 if there is none."""
    if value and value.strip().isdecimal():
        return float(value)
    return max(0.0, -_seconds_ahead(value, now))


def _region(headers: Mapping[str, str], error: Mapping[str, Any]) -> str:
    """Return the region of the bucket from a header or the error of the answer; empty if unknown."""
    return str(headers.get("x-amz-bucket-region") or error.get("Region") or "")


def _diagnosis_of_answer(s3_code: str, status: int, message: str) -> Diagnosis:
    lowered = message.lower()
    for codes, words, diagnosis in _MESSAGE_WORDS:
        if s3_code in codes and any(word in lowered for word in words):
            return diagnosis
    if s3_code in S3_CODES:
        return S3_CODES[s3_code]
    if s3_code.startswith("KMS."):
        return diagnoses.KMS_KEY_UNKNOWN
    return _diagnosis_of_status(status, plain=s3_code in {"", str(status)})


_POSSIBLE_CLOCK_SKEW = frozenset(
    {diagnoses.ACCESS_DENIED, diagnoses.WRONG_SECRET, diagnoses.EXPIRED_TOKEN, diagnoses.UNKNOWN}
)
# What STS answers if the role does not exist or its trust policy does not allow the caller.
_ROLE_REFUSED = frozenset(
    {diagnoses.ACCESS_DENIED, diagnoses.EXPLICIT_DENY, diagnoses.NOT_S3, diagnoses.UNKNOWN, diagnoses.REQUEST_REFUSED}
)
_DENIED_CODES = frozenset({"AccessDenied"})
_REFUSED_CODES = frozenset({"InvalidRequest", "InvalidArgument", "NotImplemented"})
_MESSAGE_WORDS = [
    (_DENIED_CODES, ("kms:",), diagnoses.KMS_DENIED),
    (_DENIED_CODES, ("explicit deny",), diagnoses.EXPLICIT_DENY),
    (_DENIED_CODES, ("time skew", "timeskew", "time too skewed"), diagnoses.CLOCK_SKEW),
    (
        frozenset({"InvalidAccessKeyId"}),
        ("kms",),
        diagnoses.KMS_KEY_UNKNOWN,
    ),  # Ceph answers this for an unknown KMS key
    (_REFUSED_CODES, ("object lock", "objectlock"), diagnoses.OBJECT_LOCK_UNSUPPORTED),
    (_REFUSED_CODES, ("retain", "retention"), diagnoses.RETENTION_REFUSED),
    (_REFUSED_CODES, ("storage class", "storageclass"), diagnoses.STORAGE_CLASS_UNSUPPORTED),
    (_REFUSED_CODES, ("conditional", "if-none-match"), diagnoses.CONDITION_UNSUPPORTED),
    (_REFUSED_CODES, ("kms",), diagnoses.KMS_KEY_UNKNOWN),
    (_REFUSED_CODES, ("encrypt", "sse"), diagnoses.ENCRYPTION_UNSUPPORTED),
    (_REFUSED_CODES, ("checksum",), diagnoses.CHECKSUM_UNSUPPORTED),
]
"""Refines error codes that have several causes by words in the message. The first match is used."""


def _diagnosis_of_status(status: int, *, plain: bool) -> Diagnosis:
    """Return the diagnosis for an HTTP status. `plain`: the body is not an S3 error, so it may come from a proxy."""
    if status == 429:
        return diagnoses.THROTTLED
    if status == 413:
        return diagnoses.TOO_LARGE
    if status == 507:
        return diagnoses.QUOTA_EXCEEDED
    if status == 503:
        return diagnoses.THROTTLED
    if status == 501 and plain:
        return diagnoses.NOT_S3
    if status >= 500:
        return diagnoses.SERVER_ERROR
    if 300 <= status < 400:
        return diagnoses.REDIRECTED
    return diagnoses.NOT_S3 if plain else diagnoses.UNKNOWN


def _refine(diagnosis: Diagnosis, error: Exception) -> Diagnosis:
    """Return a more specific diagnosis from the causes of an error, if there is one."""
    if diagnosis not in {diagnoses.HOST_UNREACHABLE, diagnoses.TLS_FAILED}:
        return diagnosis
    for cause in _causes(error):
        for cls in type(cause).__mro__:
            if cls.__name__ in _CAUSES:
                return _CAUSES[cls.__name__]
        if getattr(cause, "reason", None) in _PLAIN_HTTP:
            return diagnoses.HTTP_EXPECTED
        if diagnosis == diagnoses.TLS_FAILED and (verify_code := getattr(cause, "verify_code", 0)):
            return _VERIFY_CODES.get(verify_code, diagnosis)
    return diagnosis


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes once each, including those that libraries keep in attributes and arguments."""
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
    """Return how many seconds this machine's clock is ahead of the Date header of an answer; 0 without one."""
    try:
        return (now - parsedate_to_datetime(date or "")).total_seconds()
    except (TypeError, ValueError):
        return 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
