"""Parses the pages of a listing instead of botocore, whose parser takes many times as long for 1,000 keys.

Only key, size and ETag of objects are read. Botocore parses unexpected responses, and reports what is wrong.
"""

from typing import Any
from xml.etree import ElementTree

EVENT = "before-parse.*.ListObjectsV2"
"""Botocore emits it before it parses a response. With `*` instead of `s3`, `parse_page()` runs before botocore's search
for errors with status 200, which parses the response, too. If a version emits no such event, or in another order,
listings are slower but correct."""

_ROOT = "ListBucketResult"
_NOTHING_LEFT = b"<ListBucketResult/>"


def parse_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **kwargs: Any) -> None:
    """Add the content of a page to `customized_response_dict`, and leave botocore an empty page to parse."""
    if response_dict["status_code"] != 200:
        return
    try:
        # request_bounds.AnswerLimits has limited the response and refused entities.
        page = _page(ElementTree.fromstring(response_dict["body"]))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return
    if page:
        customized_response_dict.update(page)
        response_dict["body"] = _NOTHING_LEFT


def _page(root: ElementTree.Element) -> dict[str, Any]:
    """Return the members of botocore's result that are used; empty for another response. Raises ValueError."""
    if not root.tag.endswith(_ROOT):
        return {}
    namespace = root.tag.removesuffix(_ROOT)
    if any(tag.rpartition("}")[0] != namespace.rstrip("}") for tag in {each.tag for each in root}):
        return {}
    key, size, etag = f"{namespace}Key", f"{namespace}Size", f"{namespace}ETag"
    page: dict[str, Any] = {
        "IsTruncated": root.findtext(f"{namespace}IsTruncated") == "true",
        "Contents": [
            {"Key": each.findtext(key, ""), "Size": int(each.findtext(size, "0")), "ETag": each.findtext(etag, "")}
            for each in root.iterfind(f"{namespace}Contents")
        ],
    }
    for name in ("NextContinuationToken", "EncodingType"):
        if (text := root.findtext(f"{namespace}{name}")) is not None:
            page[name] = text
    return page
