"""Text that a store answered, made fit to be kept and shown: the one place where it is cleaned and clipped."""

LONGEST_DETAIL = 1000
"""Characters of what an error says."""


def words(text: str, longest: int = LONGEST_DETAIL) -> str:
    """Return `text` on one line, without control characters (a database refuses NUL, a terminal obeys escapes)."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def identifier(text: str, longest: int) -> str:
    """Return `text` if it can be an identifier that a store gave (a version id, an ETag), else nothing.

    One that was clipped or mended would name something else.
    """
    return text if len(text) <= longest and text.isascii() and text.isprintable() else ""
