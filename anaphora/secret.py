"""A secret that only an explicit call reveals. Pages, log lines and tracebacks show dots instead."""

from typing import NoReturn

MASK = "•••"


class Secret:
    """A value that must not be shown. It is not a `str`, so it cannot be printed by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret in plain text. Use it only to sign or to encrypt."""
        return self._text

    def __str__(self) -> str:
        return MASK if self._text else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled, because caches, sessions and messages must not contain it")


class UnreadableSecret(Secret):
    """A secret that no key of FERNET_KEYS decrypts. It keeps the ciphertext, so that saving does not lose it."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: bytes) -> None:
        super().__init__("")
        self.ciphertext = ciphertext

    def __str__(self) -> str:
        return MASK
