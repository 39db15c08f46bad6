"""One HTTP/1.1 request and its answer on an open connection.

The usual answer to a PUT, status 200 without content, is read here. Every other answer is read by `http.client`, and
the connection is then not used again.
"""

import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read as a whole. The names of headers are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes
    reusable: bool
    """Whether the connection can be used for another request."""


def exchange(connection: socket.socket, head: bytes, body: bytes, max_bytes: int) -> Answer:
    """Send a request and return its answer, of which no more than one byte beyond `max_bytes` of content is read.

    Raises OSError, TimeoutError for the timeout of the socket, or HTTPException.
    """
    try:
        connection.sendall(head + body)
    except (BrokenPipeError, ConnectionResetError) as error:
        # A store may refuse a request before it has read all of it, and close the connection. Its answer says why.
        try:
            return _read_any(connection, b"", max_bytes)
        except (OSError, HTTPException):
            raise error from None
    received = b""
    while b"\r\n\r\n" not in received and len(received) < MAX_HEAD_BYTES:
        more = connection.recv(MAX_HEAD_BYTES)
        if not more:
            raise ConnectionResetError("The connection was closed before an answer")
        received += more
    return _plain(received) or _read_any(connection, received, max_bytes)


def _plain(received: bytes) -> Answer | None:
    """Return the answer if it has status 200, no content and nothing unusual, else None."""
    if not (received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"\r\n\r\n")):
        return None
    headers: dict[str, str] = {}
    for line in received[:-4].decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or name.lower() in headers:
            return None
        headers[name.lower()] = value.strip()
    if headers.get("content-length") != "0" or "transfer-encoding" in headers:
        return None
    return Answer(200, headers, b"", reusable=headers.get("connection", "").lower() in {"", "keep-alive"})


def _read_any(connection: socket.socket, received: bytes, max_bytes: int) -> Answer:
    response = HTTPResponse(_Rest(connection, received), method="PUT")  # type: ignore[arg-type]  # only makefile() is used
    response.begin()
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), value)
    return Answer(response.status, headers, response.read(max_bytes + 1), reusable=False)


class _Rest(io.RawIOBase):
    """Reads the bytes already received first, then from the socket."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self._connection, self._received = connection, received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._received:
            return self._connection.recv_into(buffer)
        number = min(len(buffer), len(self._received))
        buffer[:number] = self._received[:number]
        self._received = self._received[number:]
        return number

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)
