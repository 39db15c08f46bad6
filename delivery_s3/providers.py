"""The table of S3-compatible providers. To add a provider, add a row.

`conditional_writes` and `sha256_header` say which headers the provider supports. Other stores get both headers; their
answers show whether they support them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provider:
    """One row: the addresses of a provider, its words for the fields, and the headers that it does not support."""

    code: str
    name: str
    endpoint_example: str
    """An example of Custom endpoint; empty if the provider needs none."""
    region_example: str
    endpoint_pattern: str = ""
    """Custom endpoint with the placeholder `{region}`, if it can be built from the region."""
    region_default: str = ""
    """The default region of a server; empty if there is none."""
    addressing_style: str = "path"
    """The style that Addressing style "automatic" uses."""
    conditional_writes: bool = True
    sha256_header: bool = True
    hints: Mapping[str, str] = field(default_factory=dict)
    """What to enter, in the provider's words, by form field: HINTED."""

    def preset(self) -> dict[str, str]:
        """Return the values that the page fills in or shows as examples for this provider."""
        return {
            "endpoint_example": self.endpoint_example,
            "endpoint_pattern": self.endpoint_pattern,
            "region_example": self.region_example,
            "region_default": self.region_default,
        }


HINTED = ("access_key_id", "secret_access_key", "region", "bucket_name", "endpoint_url")

_PROVIDERS = [
    Provider(
        "aws",
        "AWS S3",
        "",
        "eu-central-1",
        addressing_style="virtual",
        hints={
            "access_key_id": "The access key ID of an IAM user: 20 characters that begin with AKIA. Create it in IAM "
            "under Users, Security credentials. To use a role instead, open Role below.",
            "secret_access_key": "The secret access key, which IAM shows once, when the access key is created.",
            "region": "The region of the bucket, for example eu-central-1. Required.",
            "bucket_name": "The name of an existing bucket, without s3:// and not its ARN.",
            "endpoint_url": "Leave empty. Only a VPC endpoint needs its address here.",
        },
    ),
    Provider(
        "minio",
        "MinIO",
        "https://minio.example.com:9000",
        "us-east-1",
        region_default="us-east-1",
        hints={
            "access_key_id": "The access key of a user or a service account of the server (MINIO_ROOT_USER works, but "
            "may do everything).",
            "secret_access_key": "The secret key, which the server shows once, when the access key is created.",
            "region": "us-east-1, unless the server sets another one (MINIO_SITE_REGION).",
            "bucket_name": "The name of an existing bucket: mc mb creates one.",
            "endpoint_url": "The port of the S3 API, for example https://minio.example.com:9000. The web console has "
            "another port (9001).",
        },
    ),
    Provider(
        "spaces",
        "DigitalOcean Spaces",
        "https://fra1.digitaloceanspaces.com",
        "fra1",
        endpoint_pattern="https://{region}.digitaloceanspaces.com",
        addressing_style="virtual",
        hints={
            "access_key_id": "The access key of a Spaces access key, limited to this Space. An API token of "
            "DigitalOcean does not work.",
            "secret_access_key": "The secret key, which DigitalOcean shows once, when the key is created.",
            "region": "The data center of the Space, for example fra1, nyc3 or ams3.",
            "bucket_name": "The name of the Space.",
            "endpoint_url": "https://REGION.digitaloceanspaces.com, without the name of the Space; not its CDN.",
        },
    ),
    # 501 NotImplemented for If-None-Match.
    Provider(
        "b2",
        "Backblaze B2",
        "https://s3.eu-central-003.backblazeb2.com",
        "eu-central-003",
        endpoint_pattern="https://s3.{region}.backblazeb2.com",
        conditional_writes=False,
        hints={
            "access_key_id": "The keyID of an application key. The master application key does not work.",
            "secret_access_key": "The applicationKey, which Backblaze shows once, when the key is created.",
            "region": "The middle part of the endpoint that the page of the bucket shows, for example eu-central-003.",
            "bucket_name": "The name of the bucket, not its Bucket ID.",
            "endpoint_url": "https://s3.REGION.backblazeb2.com, as the page of the bucket shows it under Endpoint.",
        },
    ),
    Provider(
        "other",
        "Other S3-compatible",
        "https://s3.example.com",
        "us-east-1",
        region_default="us-east-1",
        hints={
            "access_key_id": "The access key of an S3 user. Ceph: radosgw-admin user info shows it. Cloudflare R2: the "
            "Access Key ID of an R2 API token. Wasabi: an access key of a user.",
            "secret_access_key": "The secret key that belongs to the access key.",
            "region": "As the provider names it. Ceph: us-east-1 or the zone group. Cloudflare R2: auto. Wasabi: the "
            "region of the bucket. Leave empty for us-east-1.",
            "bucket_name": "The name of an existing bucket.",
            "endpoint_url": "The address of the S3 API, without the bucket. Ceph: https://rgw.example.com. "
            "Cloudflare R2: https://ACCOUNT_ID.r2.cloudflarestorage.com. Wasabi: https://s3.REGION.wasabisys.com.",
        },
    ),
]
PROVIDERS: Mapping[str, Provider] = {provider.code: provider for provider in _PROVIDERS}


def provider_choices() -> list[tuple[str, str]]:
    """Return the providers as choices of a model field."""
    return [(provider.code, provider.name) for provider in PROVIDERS.values()]
