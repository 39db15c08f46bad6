import datetime
import socket
import ssl
from typing import Any

import botocore.exceptions
import botocore.parsers
import pytest
from botocore.exceptions import ClientError

from anaphora.deliveries.errors import DIAGNOSES, DeliveryError
from delivery_s3 import diagnoses, error_mapping
from delivery_s3.error_mapping import explain

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)


def answer(code: str, message: str = "", status: int = 400, **headers: str) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers, "RequestId": "req-1"},
    }
    return ClientError(response, "PutObject")


def code_of(error: Exception) -> str:
    explained = explain(error, now=NOW)
    assert explained is not None
    return explained.diagnosis.code


def subclasses(cls: type) -> set[type]:
    inner: list[type] = type.__subclasses__(cls)
    return {cls}.union(*(subclasses(each) for each in inner))


# Exceptions that botocore raises only for features that uploads do not use.
_NEVER_ON_A_PUT = {
    "AliasConflictParameterError", "AwsChunkedWrapperError", "BotoCoreError", "CapacityNotAvailableError",
    "InvalidExpressionError", "MD5UnavailableError", "MissingDependencyException", "MissingParametersError",
    "OperationNotPageableError", "PaginationError", "StubAssertionError", "StubResponseError",
    "UnStubbedResponseError", "UnknownClientMethodError", "UnknownServiceStyle", "UnsupportedServiceProtocolsError",
    "WaiterConfigError", "WaiterError", "CSMError", "BotoCoreWarning",
}  # fmt: skip


def botocore_exceptions() -> list[type]:
    here = {cls for cls in subclasses(botocore.exceptions.BotoCoreError) if cls.__module__ == "botocore.exceptions"}
    return sorted((cls for cls in here if cls.__name__ not in _NEVER_ON_A_PUT), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", botocore_exceptions(), ids=lambda cls: cls.__name__)
def test_every_exception_of_botocore_has_an_entry(cls: type[Exception]) -> None:
    found = [
        error_mapping.EXCEPTIONS[each.__name__] for each in cls.__mro__ if each.__name__ in error_mapping.EXCEPTIONS
    ]
    assert found, cls
    assert found[0] is not diagnoses.UNKNOWN, f"{cls.__name__} needs a row in EXCEPTIONS"


def test_every_row_refers_to_an_entry_of_the_catalogue() -> None:
    tables: list[Any] = [
        error_mapping.S3_CODES,
        error_mapping.EXCEPTIONS,
        error_mapping._CAUSES,
        error_mapping._VERIFY_CODES,
    ]
    assert {each for table in tables for each in table.values()} <= set(DIAGNOSES.values())
    assert {each for _, _, each in error_mapping._MESSAGE_WORDS} <= set(DIAGNOSES.values())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (answer("AccessDenied", "Access Denied", 403), "access_denied"),
        (answer("AccessDenied", "… with an explicit deny in a resource-based policy", 403), "explicit_deny"),
        (answer("AccessDenied", "not authorized to perform: kms:GenerateDataKey on …", 403), "kms_denied"),
        (answer("InvalidAccessKeyId", "", 403), "invalid_access_key"),
        (answer("SignatureDoesNotMatch", "", 403), "wrong_secret"),
        (answer("NoSuchBucket", "", 404), "bucket_not_found"),
        (answer("PermanentRedirect", "", 301), "redirected"),
        (answer("PermanentRedirect", "", 301, **{"x-amz-bucket-region": "eu-west-1"}), "wrong_region"),
        (answer("SlowDown", "", 503), "throttled"),
        (answer("429", "Too Many Requests", 429), "throttled"),
        (answer("503", "Service Unavailable", 503), "throttled"),
        (answer("502", "Bad Gateway", 502), "server_error"),
        (answer("InternalError", "", 500), "server_error"),
        (answer("SomethingNew", "", 500), "server_error"),
        (answer("405", "Method Not Allowed", 405), "not_s3"),
        (answer("501", "Unsupported method ('PUT')", 501), "not_s3"),
        (answer("413", "Request Entity Too Large", 413), "too_large"),
        (answer("507", "Insufficient Storage", 507), "quota_exceeded"),
        (answer("307", "Temporary Redirect", 307), "redirected"),
        (answer("NotImplemented", "Conditional object PUTs are not supported", 501), "condition_unsupported"),
        (answer("InvalidRequest", "Bucket is missing Object Lock Configuration", 400), "object_lock_unsupported"),
        (answer("InvalidArgument", "The retain until date must be in the future!", 400), "retention_refused"),
        (answer("InvalidArgument", "Unknown storage class", 400), "storage_class_unsupported"),
        (answer("KMS.UnrecognizedException", "", 400), "kms_key_unknown"),
        (answer("BadDigest", "", 400), "digest_mismatch"),
        (answer("NeverHeardOf", "what is this", 418), "unknown"),
        (ValueError("Invalid endpoint: x"), "settings_invalid"),
        (botocore.parsers.ResponseParserError("no XML"), "not_s3"),
    ],
    ids=str,
)
def test_each_failure_has_its_own_diagnosis(error: Exception, code: str) -> None:
    assert code_of(error) == code


def test_the_detail_contains_status_code_and_request_id() -> None:
    explained = explain(answer("NeverHeardOf", "what\nis this", 418))
    assert explained is not None
    assert explained.detail == "418 NeverHeardOf: what is this (request req-1)"


def test_clock_skew_is_measured() -> None:
    explained = explain(answer("RequestTimeTooSkewed", "", 403, date="Sun, 01 Mar 2026 11:40:00 GMT"), now=NOW)
    assert explained is not None
    assert explained.diagnosis.code == "clock_skew"
    assert "1200 s ahead of the store's" in explained.detail


def test_clock_skew_explains_an_access_denied() -> None:
    date = "Sun, 01 Mar 2026 14:00:00 GMT"
    assert code_of(answer("AccessDenied", "", 400, date=date)) == "clock_skew"
    assert code_of(answer("AccessDenied", "", 403, date="Sun, 01 Mar 2026 12:01:00 GMT")) == "access_denied"


# Amazon S3 API reference, "Error responses": the errors that apply to PUT or to its signature.
COMMON_S3_CODES = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "ConditionalRequestConflict",
    "CredentialsNotSupported",
    "EntityTooLarge",
    "ExpiredToken",
    "IllegalLocationConstraintException",
    "IncompleteBody",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidArgument",
    "InvalidBucketName",
    "InvalidBucketState",
    "InvalidDigest",
    "InvalidEncryptionAlgorithmError",
    "InvalidRequest",
    "InvalidSecurity",
    "InvalidStorageClass",
    "InvalidToken",
    "InvalidURI",
    "KMS.DisabledException",
    "KMS.InvalidStateException",
    "KMS.NotFoundException",
    "KeyTooLongError",
    "MetadataTooLarge",
    "MethodNotAllowed",
    "MissingContentLength",
    "NoSuchBucket",
    "NotImplemented",
    "NotSignedUp",
    "OperationAborted",
    "PermanentRedirect",
    "PreconditionFailed",
    "Redirect",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "TemporaryRedirect",
    "TokenRefreshRequired",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
    "QuotaExceeded",
    "Throttling",
    "RequestExpired",
]


@pytest.mark.parametrize("code", COMMON_S3_CODES)
def test_every_common_error_code_of_s3_has_an_entry(code: str) -> None:
    assert code in error_mapping.S3_CODES


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120), ("Sun, 01 Mar 2026 12:00:30 GMT", 30), ("soon", 0), ("-5", 0), (None, 0)]
)
def test_retry_after_can_be_a_number_or_a_date(header: str | None, seconds: int) -> None:
    headers = {"retry-after": header} if header else {}
    explained = explain(answer("SlowDown", "", 503, **headers), now=NOW)
    assert explained is not None
    assert explained.retry_after == seconds


def test_a_bucket_s_region_is_named() -> None:
    explained = explain(answer("AuthorizationHeaderMalformed", "", 400, **{"x-amz-bucket-region": "eu-west-1"}))
    assert explained is not None
    assert explained.diagnosis.code == "wrong_region"
    assert "eu-west-1" in explained.detail


def connection_error(reason: Exception) -> Exception:
    class NewConnectionError(Exception):
        pass

    error = NewConnectionError()
    error.__cause__ = reason
    return botocore.exceptions.EndpointConnectionError(endpoint_url="http://x", error=error)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (socket.gaierror(-2, "Name or service not known"), "host_not_found"),
        (ConnectionRefusedError(111, "Connection refused"), "connection_refused"),
        (OSError(113, "No route to host"), "host_unreachable"),
    ],
)
def test_a_failed_connection_is_diagnosed_by_its_cause(reason: Exception, code: str) -> None:
    assert code_of(connection_error(reason)) == code


@pytest.mark.parametrize(
    ("verify_code", "code"),
    [*((number, each.code) for number, each in error_mapping._VERIFY_CODES.items()), (99, "tls_failed")],
)
def test_each_certificate_error_has_its_own_diagnosis(verify_code: int, code: str) -> None:
    reason = ssl.SSLCertVerificationError("certificate verify failed")
    reason.verify_code = verify_code
    assert code_of(botocore.exceptions.SSLError(endpoint_url="https://x", error=reason)) == code


def test_a_bug_has_no_diagnosis() -> None:
    assert explain(KeyError("x")) is None
    assert explain(TypeError("x")) is None


def test_a_delivery_error_is_returned_unchanged() -> None:
    error = DeliveryError(diagnoses.UNKNOWN)
    assert explain(error) is error
