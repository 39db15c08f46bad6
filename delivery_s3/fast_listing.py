"""Reads the pages of a listing without botocore's machinery, which takes many times as long for 1,000 keys.

Only key, size and ETag of an object are read. What is not as expected is left to botocore, which says what is wrong.
"""

from typing import Any
from xml.etree import ElementTree

EVENT = "before-parse.s3.ListObjectsV2"
"""botocore emits it with an answer that it is about to parse. Should it no longer do so, listings become slower."""

_ROOT = "ListBucketResult"
_NOTHING_LEFT = b"<ListBucketResult/>"


def parse_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **kwargs: Any) -> None:
    """Add what a page says to `customized_response_dict`, and leave nothing of it for botocore to parse."""
    if response_dict["status_code"] != 200:
        return
    try:
        # The answer is bounded and declares no entities: request_bounds.AnswerLimits has seen it.
        page = _page(ElementTree.fromstring(response_dict["body"]))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return
    if page:
        customized_response_dict.update(page)
        response_dict["body"] = _NOTHING_LEFT


def _page(root: ElementTree.Element) -> dict[str, Any]:
    """Return what botocore would, as far as it is needed; empty for another answer. Raises ValueError."""
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
