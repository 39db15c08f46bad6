"""Bounds on what a store may do to us: how long a request may last, and how long an answer may be.

Time-outs of sockets bound each wait, not their sum: a store that sends one byte a second keeps a thread for ever. Here
every connection that is in use has a deadline, which grows with what it carries; one thread per process closes the
connections whose deadline has passed. Answers that are read as a whole (errors, listings) have a largest length.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

from anaphora.deliveries.errors import DeliveryError
from delivery_s3 import diagnoses

SLOWEST = 64 * 1024
"""Bytes per second below which a transfer is given up."""

LONGEST_ERROR = 256 * 1024
LONGEST_ANSWER = 16 * 1024**2
"""Bytes. A listing of a thousand keys of 1,024 bytes, all characters escaped, stays below."""

MOST_TAGS = 200_000
"""Of such an answer. A listing of a thousand keys has about twenty for each."""

_ENTITY = b"<!ENTITY"
"""With entities, an answer of some megabytes becomes a text of gigabytes when it is parsed."""


class _Watchdog:
    """Closes connections whose deadline has passed. One thread per process, started by the first connection."""

    def __init__(self) -> None:
        self._deadlines: dict[Any, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any, deadline: float) -> None:
        """Close `connection` at `deadline`, a time of the monotonic clock, unless it is released before."""
        with self._changed:
            self._deadlines[connection] = deadline
            if self._thread is None or not self._thread.is_alive():  # a forked process has no thread of its parent's
                self._thread = threading.Thread(target=self._run, name="request-deadlines", daemon=True)
                self._thread.start()
            self._changed.notify()

    def release(self, connection: Any) -> None:
        """Stop watching a connection."""
        with self._changed:
            self._deadlines.pop(connection, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._deadlines:
                    self._changed.wait()
                now = monotonic()
                for connection, deadline in list(self._deadlines.items()):
                    if deadline <= now:
                        del self._deadlines[connection]
                        _interrupt(connection)
                self._changed.wait(min([*self._deadlines.values(), now + 1]) - now)


def _interrupt(connection: Any) -> None:
    """End whatever waits for a connection: its reads find the end, its writes fail."""
    connection.overdue = True
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # Not close(), which doesn't wake a thread that reads. Of a TLS socket, this is the plain socket's.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


_watchdog = _Watchdog()


class BoundedConnection:
    """A mixin for urllib3's connections: from its first byte to the end of the answer, a request has a deadline."""

    overdue = False
    allowed_seconds: float
    """Without what is carried."""

    def connect(self) -> None:
        """Connect; the handshake of TLS has a deadline too."""
        _watchdog.watch(self, monotonic() + self.allowed_seconds)
        self._in_time(super().connect)  # type: ignore[misc]

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> Any:
        """Send a request. The deadline counts from now."""
        self.overdue = False
        length = int(next((value for name, value in (headers or {}).items() if name.lower() == "content-length"), 0))
        _watchdog.watch(self, monotonic() + self.allowed_seconds + length / SLOWEST)
        return self._in_time(super().request, method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """Return the answer, not yet read, with the time to read it."""
        response = self._in_time(super().getresponse)  # type: ignore[misc]
        length = response.headers.get("Content-Length", "")
        # Who reads it compares the length with what is expected first; one of more than a PUT may carry is a lie.
        number = int(length) if length.isdecimal() and len(length) < 14 else 0
        _watchdog.watch(self, monotonic() + self.allowed_seconds + min(number, 5 * 1024**3) / SLOWEST)
        if response.status >= 300:
            _bound(response, LONGEST_ERROR)
        else:
            _bound(response, LONGEST_ANSWER)
        return response

    def _in_time(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if self.overdue:
                raise TimeoutError(f"The request took longer than {self.allowed_seconds:.0f} seconds") from error
            raise


class BoundedPool:
    """A mixin for urllib3's pools: a connection that comes back has met its deadline."""

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            _watchdog.release(connection)
        super()._put_conn(connection)  # type: ignore[misc]


def _bound(response: Any, longest: int) -> None:
    """Let `response` be read as a whole up to so many bytes. Reading it in parts is its reader's to bound."""
    read_all = response.stream

    def stream(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        # At once: the time to read it was given by the length that it claims.
        if (response.length_remaining or 0) > longest:
            response.close()
            raise DeliveryError(diagnoses.NOT_S3, f"The answer is longer than {longest:,} bytes")
        total, tags, end = 0, 0, b""
        for chunk in read_all(*args, **kwargs):
            total += len(chunk)
            tags += chunk.count(b"<")
            if total > longest or tags > MOST_TAGS:
                response.close()
                raise DeliveryError(
                    diagnoses.NOT_S3, f"The answer is longer than {longest:,} bytes or {MOST_TAGS:,} tags"
                )
            if _ENTITY in end + chunk:
                response.close()
                raise DeliveryError(diagnoses.NOT_S3, "The answer declares entities, which S3 does not")
            end = chunk[-len(_ENTITY) :]
            yield chunk

    response.stream = stream
