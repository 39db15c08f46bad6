"""Cleans and truncates text from external systems, so that it can be stored and displayed safely."""

MAX_DETAIL_LENGTH = 1000
"""Maximum number of characters of an error detail."""


def clean_line(text: str, max_length: int = MAX_DETAIL_LENGTH) -> str:
    """Return `text` on one line, without control characters, truncated to `max_length` characters.

    PostgreSQL rejects NUL, and terminals interpret escape sequences.
    """
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= max_length else f"{line[: max_length - 1]}…"


def valid_identifier(text: str, max_length: int) -> str:
    """Return `text` if it is a valid identifier from a store (a version id, an ETag), else an empty string.

    Identifiers are never truncated or corrected, because the result would identify something else.
    """
    return text if len(text) <= max_length and text.isascii() and text.isprintable() else ""
