"""`Connection`: everything that a request to one bucket needs, as a frozen value. No I/O, and no S3 library."""

from dataclasses import dataclass, field

from delivery_s3.secret import Secret


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
