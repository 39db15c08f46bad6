"""The table of S3-compatible providers. To add a provider, add a row.

`conditional_writes` and `sha256_header` say which headers the provider supports. Other stores get both headers; their
answers show whether they support them.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """One row: the addresses of a provider and the headers that it does not support."""

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

    def preset(self) -> dict[str, str]:
        """Return the values that the page fills in or shows as examples for this provider."""
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
    """Return the providers as choices of a model field."""
    return [(provider.code, provider.name) for provider in PROVIDERS.values()]
