"""A secret that only an explicit call reveals. A page, a log line or a traceback that renders it shows dots."""

from typing import NoReturn

MASK = "•••"


class Secret:
    """A value that must not be shown. It is not a `str`, so nothing prints it by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, to sign with and for nothing else."""
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
        raise TypeError("A secret is not pickled: caches, sessions and messages must not hold it")


class UnreadableSecret(Secret):
    """Stands for a secret that no key of FERNET_KEYS decrypts. It keeps the ciphertext, so saving loses nothing."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: bytes) -> None:
        super().__init__("")
        self.ciphertext = ciphertext

    def __str__(self) -> str:
        return MASK
