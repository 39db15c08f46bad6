"""Builds the instructions in an evidence package: one page of plain text as a PDF, so that any viewer can open it.

The PDF is written without a library because the layout is fixed and takes forty lines. pdfium, which renders previews,
cannot be used here: it is not thread-safe and may crash.
"""

from collections.abc import Iterator
from textwrap import wrap

WIDTH, HEIGHT = 595, 842
"""Points: A4."""

_LEFT, _TOP, _LEADING = 50, 780, 13.5


_MARKS = {"# ": ("F2", 16, 60), "## ": ("F2", 11, 90), "    ": ("F3", 8, 104), "": ("F1", 9.5, 105)}
"""By the prefix of a line: font, font size, and the number of characters after which the line is wrapped."""


def page(text: str) -> bytes:
    """Return a PDF with one page. Lines begin with # (the title), ## (a heading), four spaces (code) or neither.

    Characters that Latin-1 lacks become ?.
    """
    parts, top = ["BT"], float(_TOP)
    for mark, line in _lines(text):
        font, size, _ = _MARKS[mark]
        top -= _LEADING + (8 if mark == "## " else 0)
        parts.append(f"/{font} {size} Tf 1 0 0 1 {_LEFT} {top:.1f} Tm ({_escaped(line)}) Tj")
    content = "\n".join([*parts, "ET"]).encode("latin-1")
    fonts = " ".join(f"/F{number} {number + 4} 0 R" for number in (1, 2, 3))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents 4 0 R"
        f" /Resources << /Font << {fonts} >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        *(
            f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()
            for name in ("Helvetica", "Helvetica-Bold", "Courier")
        ),
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    start = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return body + start + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.strip().splitlines():
        mark = next(each for each in _MARKS if line.startswith(each))
        for part in wrap(line.removeprefix(mark), _MARKS[mark][2], break_on_hyphens=False):
            yield mark, part


def _escaped(text: str) -> str:
    plain = "".join(each if each.isprintable() else " " for each in text)
    latin = plain.encode("latin-1", "replace").decode("latin-1")
    return latin.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
