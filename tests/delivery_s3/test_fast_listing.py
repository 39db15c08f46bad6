"""A page of a listing says the same as botocore reads from it, and what is odd is left to botocore."""

from functools import cache
from typing import Any

import botocore.handlers
import botocore.parsers
import botocore.session
import pytest

from delivery_s3 import fast_listing
from delivery_s3.storage import S3Destination
from tests.support.buckets import Bucket
from tests.support.factories import make_connection

ENTRY = b"<Contents><Key>a&amp;b%2Fc \xc3\xa4</Key><LastModified>2026-03-01T06:00:00.000Z</LastModified>"
ENTRY += b"<ETag>&quot;e1&quot;</ETag><Size>5</Size><Owner><ID>1</ID><DisplayName>Key</DisplayName></Owner></Contents>"
TOKEN = b"<NextContinuationToken>a/b=</NextContinuationToken>"


def page(inner: bytes, attributes: bytes = b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"') -> bytes:
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult'
        + attributes
        + b">"
        + inner
        + b"</ListBucketResult>"
    )


@cache
def shape() -> Any:
    return botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape


def by_botocore(body: bytes, status: int = 200) -> dict[str, Any]:
    answer = {"headers": {}, "status_code": status, "body": body}
    found: dict[str, Any] = botocore.parsers.create_parser("rest-xml").parse(answer, shape())
    return found


@pytest.mark.parametrize(
    "attributes", [b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b"", b' xmlns="urn:other"']
)
@pytest.mark.parametrize(
    "inner",
    [
        b"",
        ENTRY,
        b"<Name>b</Name><Prefix/><KeyCount>2</KeyCount>" + ENTRY + b"\n" + ENTRY,
        b"<IsTruncated>true</IsTruncated>" + TOKEN + ENTRY,
        b"<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>" + ENTRY,
        b"<Contents><Key>k</Key></Contents><Contents><Size>1</Size></Contents><Contents/>",
        b"<Contents><Key/><Size>1</Size><ETag/></Contents><NextContinuationToken/>",
        b"<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes><!-- remark -->" + ENTRY,
    ],
)
def test_it_reads_what_botocore_reads(inner: bytes, attributes: bytes) -> None:
    body = page(inner, attributes)
    answer: dict[str, Any] = {"status_code": 200, "body": body}
    expected, found = by_botocore(body), dict[str, Any]()
    fast_listing.parse_page(answer, found)
    found = by_botocore(answer["body"]) | found  # as botocore does
    for name in ("NextContinuationToken", "EncodingType"):
        assert found.get(name) == expected.get(name)
    assert found["IsTruncated"] == expected.get("IsTruncated", False)
    assert [(each["Key"], each["Size"], each["ETag"]) for each in found["Contents"]] == [
        (each.get("Key", ""), each.get("Size", 0), each.get("ETag", "")) for each in expected.get("Contents", [])
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"<ListBucketResult>", 200),
        (b"no XML", 200),
        (b"<Error><Code>InternalError</Code></Error>", 200),
        (b"<ListBucketResults/>", 200),
        (page(b"<Contents><Key>k</Key><Size>many</Size></Contents>"), 200),
        (page(b"<Contents><Key>k</Key><Size/></Contents>"), 200),
        (page(ENTRY.replace(b"<Contents>", b'<Contents xmlns="urn:other">')), 200),
        (page(ENTRY.replace(b"<Contents>", b'<Contents xmlns="urn:other">'), b""), 200),
        (page(ENTRY), 500),
        (page(ENTRY), 301),
    ],
)
def test_what_is_odd_is_left_to_botocore(body: bytes, status: int) -> None:
    answer, found = {"status_code": status, "body": body}, dict[str, Any]()
    fast_listing.parse_page(answer, found)
    assert (answer["body"], found) == (body, {})


def test_the_destination_reads_listings_by_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, botocore emits the event no longer, or parses first: listings are right, and slower."""
    names = ["a/1 +&.txt", "a/2 %41.txt", "a/ä.txt"]
    for name in names:
        bucket.client.put_object(Bucket=bucket.name, Key=name, Body=name.encode())
    pages: list[Any] = []
    read = fast_listing._page

    def watch(root: Any) -> Any:
        pages.append(root)
        return read(root)

    left: list[bytes] = []
    find_error = vars(botocore.handlers)["_looks_like_special_case_error"]

    def watch_botocore(status: int, body: bytes) -> Any:
        left.append(body)
        return find_error(status, body)

    monkeypatch.setattr(fast_listing, "_page", watch)
    monkeypatch.setattr(botocore.handlers, "_looks_like_special_case_error", watch_botocore)
    destination = S3Destination(make_connection(bucket.server, bucket.name))
    (found,) = destination.list_objects("a/")
    assert left == [fast_listing._NOTHING_LEFT]
    assert [each.key for each in found] == names
    assert [each.size for each in found] == [len(name.encode()) for name in names]
    assert [each.etag for each in found] == [
        bucket.client.head_object(Bucket=bucket.name, Key=name)["ETag"].strip('"') for name in names
    ]
    assert len(pages) == 1
