"""What is known of S3-compatible providers, as a table: to add one, add a row.

`conditional_writes` and `sha256_header` say what a request to the provider may carry. "Unknown" stores get
both, and what they answer tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """One row: how a provider is addressed and what it is known not to take."""

    code: str
    name: str
    endpoint_example: str
    """What Custom endpoint looks like there; empty where it stays empty."""
    region_example: str
    endpoint_pattern: str = ""
    """Custom endpoint with `{region}` in the region's place, where the one follows from the other."""
    region_default: str = ""
    """What Region is there unless somebody has set up another."""
    addressing_style: str = "path"
    """What Addressing style "automatic" means there."""
    conditional_writes: bool = True
    sha256_header: bool = True

    def preset(self) -> dict[str, str]:
        """Return what the page fills in and shows when this provider is chosen."""
        return {
            "endpoint_example": self.endpoint_example,
            "endpoint_pattern": self.endpoint_pattern,
            "region_example": self.region_example,
            "region_default": self.region_default,
        }


_PROVIDERS = [
    Provider("aws", "AWS S3", "", "eu-central-1", addressing_style="virtual"),
    Provider("minio", "MinIO", "https://minio.example.com:9000", "us-east-1", region_default="us-east-1"),
    Provider(
        "spaces",
        "DigitalOcean Spaces",
        "https://fra1.digitaloceanspaces.com",
        "fra1",
        endpoint_pattern="https://{region}.digitaloceanspaces.com",
        addressing_style="virtual",
    ),
    # 501 NotImplemented for If-None-Match.
    Provider(
        "b2",
        "Backblaze B2",
        "https://s3.eu-central-003.backblazeb2.com",
        "eu-central-003",
        endpoint_pattern="https://s3.{region}.backblazeb2.com",
        conditional_writes=False,
    ),
    Provider("other", "Other S3-compatible", "https://s3.example.com", "us-east-1", region_default="us-east-1"),
]
PROVIDERS: Mapping[str, Provider] = {provider.code: provider for provider in _PROVIDERS}


def provider_choices() -> list[tuple[str, str]]:
    """Return the providers as choices of a field."""
    return [(provider.code, provider.name) for provider in PROVIDERS.values()]
