"""The minimum permissions of an access key, as policies to copy. Pure functions."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """A policy or command to copy, and a title that says where to use it."""

    title: str
    text: str


def grants(
    *, bucket: str, prefix: str, object_lock: bool = False, kms_key_id: str = "", role_arn: str = ""
) -> list[Grant]:
    """Return the minimum permissions, write-only and with read access, as IAM policies and B2 commands."""
    bucket = bucket or "BUCKET"
    assume_role = (
        [Grant("Assume the role: AWS and MinIO policy for the owner of the credentials", _assume_role_policy(role_arn))]
        if role_arn
        else []
    )
    return [
        *assume_role,
        Grant("Write only: AWS and MinIO policy", _iam_policy(bucket, prefix, object_lock, kms_key_id, read=False)),
        Grant(
            "With read access: AWS and MinIO policy", _iam_policy(bucket, prefix, object_lock, kms_key_id, read=True)
        ),
        Grant("Write only: Backblaze B2", _b2_command(bucket, prefix, object_lock, read=False)),
        Grant("With read access: Backblaze B2", _b2_command(bucket, prefix, object_lock, read=True)),
    ]


def _iam_policy(bucket: str, prefix: str, object_lock: bool, kms_key_id: str, *, read: bool) -> str:  # noqa: FBT001
    actions = ["s3:PutObject"]
    if object_lock:
        actions.append("s3:PutObjectRetention")
    if read:
        # Reports are read by the version of their receipt, which in a versioned bucket takes the second one.
        actions += ["s3:GetObject", "s3:GetObjectVersion"]
    statements: list[dict[str, object]] = [
        {"Effect": "Allow", "Action": actions, "Resource": f"arn:aws:s3:::{bucket}/{prefix}*"}
    ]
    if read:
        listing: dict[str, object] = {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
        }
        if prefix:
            listing["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}*"}}
        statements.append(listing)
    if kms_key_id:
        kms_actions = ["kms:GenerateDataKey", "kms:Decrypt"] if read else "kms:GenerateDataKey"
        resource = kms_key_id if kms_key_id.startswith("arn:") else f"arn:aws:kms:*:*:key/{kms_key_id}"
        statements.append({"Effect": "Allow", "Action": kms_actions, "Resource": resource})
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _assume_role_policy(role_arn: str) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


def _b2_command(bucket: str, prefix: str, object_lock: bool, *, read: bool) -> str:  # noqa: FBT001
    capabilities = ["writeFiles"]
    if object_lock:
        capabilities.append("writeFileRetentions")
    if read:
        capabilities += ["readFiles", "listFiles"]
    prefix_option = f" --name-prefix {prefix}" if prefix else ""
    return f"b2 key create --bucket {bucket}{prefix_option} anaphora {','.join(capabilities)}"
