"""A separate bucket for each test on a real S3 server, and a plain boto3 client to check its content."""

import os
import uuid
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tests.support.servers import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@cache
def raw_client(server: S3Server) -> "S3Client":
    """Return a plain boto3 client. It is cached, because creating one takes longer than most tests."""
    session = boto3.Session(
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
    )
    return session.client(
        "s3",
        endpoint_url=server.endpoint,
        verify=os.environ.get("TEST_S3_CA") if server.ca_bundle else None,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


class Bucket:
    """A bucket of one test, with methods to check its content independently of the code under test."""

    def __init__(self, server: S3Server, **settings: Any) -> None:
        self.server = server
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.client = raw_client(server)
        self.client.create_bucket(Bucket=self.name, **settings)
        if server.folder:
            # rclone now and then answers 500 when two uploads make the same new folder at the same time.
            for prefix in ("", "new/", "second/", "reports/", "reports/finance/"):
                (server.folder / self.name / prefix / "sales" / "2026" / "03" / "01").mkdir(parents=True)

    def keys(self) -> list[str]:
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def read(self, key: str) -> bytes:
        with closing(self.client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
            content: bytes = body.read()
            return content
