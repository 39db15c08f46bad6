"""`Connection`: the settings of requests to one bucket, as a frozen value. No I/O, and no S3 library."""

from dataclasses import dataclass, field

from anaphora.secret import Secret


@dataclass(frozen=True)
class Connection:
    """The settings of requests to one bucket. Equal connections can share one client."""

    access_key_id: str
    secret_access_key: Secret = field(repr=False)
    """Access key ID and secret are empty with `machine_role`."""
    region: str
    bucket_name: str
    endpoint_url: str = ""
    """Empty for AWS S3."""
    machine_role: bool = False
    """Whether to sign with the credentials of boto3's default chain."""
    role_arn: str = ""
    """A role to assume with these credentials; empty for none."""
    external_id: str = ""
    """The external ID that the trust policy of the role may require."""
    addressing_style: str = "path"
    ca_bundle: str = field(default="", repr=False)
    """PEM. The only trusted certificates; if empty, the authorities bundled with botocore."""
    server_side_encryption: str = ""
    kms_key_id: str = ""
    object_lock_mode: str = ""
    retention_days: int = 0
    storage_class: str = ""
    conditional_writes: bool = True
    sha256_header: bool = True
    connect_timeout: float = 10
    """Seconds."""
    read_timeout: float = 60
    """Seconds."""
    max_uploads: int = 1
    """Number of threads that use the client concurrently."""
    allow_private: bool = True
    """Whether connections to loopback and private addresses are allowed."""
