"""The parameters of a PutObject request, and which of them can be left out if a store refuses them. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from anaphora.deliveries.destinations import Upload, base64_of
from anaphora.deliveries.errors import Diagnosis
from delivery_s3 import diagnoses
from delivery_s3.connection import Connection
from delivery_s3.error_mapping import explain


def put_parameters(connection: Connection, upload: Upload, retain_until: datetime | None) -> dict[str, Any]:
    """Return the parameters of `put_object` for an upload, without Bucket and Body."""
    parameters: dict[str, Any] = {
        "Key": upload.key,
        "ContentLength": upload.size,
        "ContentMD5": base64_of(upload.md5),
        "ContentType": upload.content_type,
        "Metadata": dict(upload.metadata),
    }
    if upload.content_disposition:
        parameters["ContentDisposition"] = upload.content_disposition
    if connection.sha256_header:
        # Ceph ignores the checksum without ChecksumAlgorithm.
        parameters |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": base64_of(upload.sha256)}
    if connection.conditional_writes:
        parameters["IfNoneMatch"] = "*"
    if connection.server_side_encryption:
        parameters["ServerSideEncryption"] = connection.server_side_encryption
    if connection.kms_key_id:
        parameters["SSEKMSKeyId"] = connection.kms_key_id
    if connection.storage_class:
        parameters["StorageClass"] = connection.storage_class
    if retain_until:
        parameters |= {
            "ObjectLockMode": connection.object_lock_mode,
            "ObjectLockRetainUntilDate": retain_until,
        }
    return parameters


def likely_diagnosis(connection: Connection) -> Diagnosis | None:
    """Return the most likely diagnosis if a store refuses a request without giving a reason."""
    if connection.object_lock_mode:
        return diagnoses.OBJECT_LOCK_UNSUPPORTED
    if connection.server_side_encryption:
        return diagnoses.KMS_KEY_UNKNOWN if connection.kms_key_id else diagnoses.ENCRYPTION_UNSUPPORTED
    return diagnoses.STORAGE_CLASS_UNSUPPORTED if connection.storage_class else None


_CHECKSUM_PARAMETERS = frozenset({"ChecksumSHA256", "ChecksumAlgorithm"})


def refused_parameters(error: Any, parameters: Mapping[str, Any]) -> frozenset[str]:
    """Return the optional parameters that caused the error; empty if the cause is something else."""
    explained = explain(error)
    diagnosis = explained.diagnosis if explained else None
    not_implemented = error.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    about_checksum = diagnosis is diagnoses.CHECKSUM_UNSUPPORTED or (
        not_implemented and "IfNoneMatch" not in parameters
    )
    # Cloudflare R2 refuses the checksum header with the first code, Google with the second.
    about_checksum |= error.response.get("Error", {}).get("Code") in {"Unauthorized", "SignatureDoesNotMatch"}
    if about_checksum:
        return _CHECKSUM_PARAMETERS if "ChecksumSHA256" in parameters else frozenset()
    about_condition = diagnosis is diagnoses.CONDITION_UNSUPPORTED or not_implemented
    return frozenset({"IfNoneMatch"}) if about_condition and "IfNoneMatch" in parameters else frozenset()
