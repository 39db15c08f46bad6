"""What a text file's bytes say, in whatever encoding a common program wrote it."""

import codecs

from charset_normalizer import from_bytes

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Marks at the beginning; the first that fits counts (that of UTF-16 begins that of UTF-32)."""

_SAMPLE = 32 * 1024
"""Bytes that tell an encoding."""

_WESTERN = 0.25
"""A text has fewer bytes beyond ASCII than this, as a share, if it is in Windows' Western European code."""


def decode(data: bytes) -> str:
    """Return `data` as text. It may be cut in the middle of a character; what can't be read becomes U+FFFD.

    A mark at the beginning counts, then UTF-8, then what the bytes resemble most. Whether it is text at all is for the
    caller to tell.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and error.reason == "unexpected end of data":
            return data[: error.start].decode()
    return data.decode(_resembled(data[:_SAMPLE]), "replace")


def _resembled(sample: bytes) -> str:
    beyond = sum(byte > 0x7F for byte in sample)
    if beyond < _WESTERN * len(sample):
        # The few signs of a Western text resemble many encodings; this one has them all.
        try:
            sample.decode("cp1252")
        except UnicodeDecodeError:
            pass
        else:
            return "cp1252"
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"
