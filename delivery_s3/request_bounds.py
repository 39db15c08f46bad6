"""Limits the duration of requests and the size of answers.

A socket timeout limits each wait, not their sum: a store that sends one byte per second would block a thread forever.
Here, every connection in use has a deadline that depends on the size of its request or answer. One thread per process
closes the connections whose deadline has passed. Answers that are read as a whole (errors, listings) have a maximum
size.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from time import monotonic
from typing import Any

from anaphora.deliveries.errors import DeliveryError
from delivery_s3 import diagnoses, plain_exchange
from delivery_s3.plain_exchange import Answer

MIN_BYTES_PER_SECOND = 64 * 1024
"""Bytes per second. Slower transfers are aborted."""

MAX_ERROR_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 16 * 1024**2
"""Bytes. A listing of 1,000 keys of 1,024 bytes, with all characters escaped, is smaller."""

MAX_TAGS = 200_000
"""XML tags in one answer. A listing of 1,000 keys has about twenty tags per key."""

_ENTITY = b"<!ENTITY"
"""Refused: with XML entities, an answer of a few megabytes can expand to gigabytes when it is parsed."""


CHECK_SECONDS = 1.0
"""How often the deadlines are checked while requests run."""


class _Watchdog:
    """Closes connections whose deadline has passed. One thread per process, started by the first connection.

    It is woken early only for a deadline before its next check, because each wake-up slows down all threads.
    """

    def __init__(self) -> None:
        self._deadlines: dict[Any, float] = {}
        self._changed = threading.Condition()
        self._next_check = 0.0
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any, deadline: float) -> None:
        """Shut `connection` down at `deadline` (monotonic clock), unless it is released before."""
        with self._changed:
            self._deadlines[connection] = deadline
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._thread = threading.Thread(target=self._run, name="request-deadlines", daemon=True)
                self._thread.start()
            elif deadline < self._next_check:
                self._changed.notify()

    def release(self, connection: Any) -> None:
        with self._changed:
            self._deadlines.pop(connection, None)

    def _run(self) -> None:
        idle = False
        while True:
            with self._changed:
                now = monotonic()
                for connection, deadline in list(self._deadlines.items()):
                    if deadline <= now:
                        del self._deadlines[connection]
                        _shut_down(connection)
                if idle and not self._deadlines:
                    self._next_check = float("inf")
                    self._changed.wait()
                    idle = False
                    continue
                idle = not self._deadlines
                self._next_check = min([*self._deadlines.values(), now + CHECK_SECONDS])
                self._changed.wait(self._next_check - now)


def _shut_down(connection: Any) -> None:
    """Shut a connection down, so that threads that wait for it are woken: reads return, writes fail."""
    connection.overdue = True
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # close() would not wake a thread that reads. For a TLS socket, this shuts the TCP socket down.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


_watchdog = _Watchdog()


class BoundedConnection:
    """A mixin for urllib3 connections: each request has a deadline, from its first byte to the end of the answer."""

    overdue = False
    sock: socket.socket | None
    allowed_seconds: float
    """Seconds for a request and an answer without content; content adds time by MIN_BYTES_PER_SECOND."""

    def connect(self) -> None:
        """Connect. The deadline includes the TLS handshake."""
        _watchdog.watch(self, monotonic() + self.allowed_seconds)
        self._call_with_deadline(super().connect)  # type: ignore[misc]

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> Any:
        """Send a request. Its deadline starts now."""
        self.overdue = False
        length = int(next((value for name, value in (headers or {}).items() if name.lower() == "content-length"), 0))
        _watchdog.watch(self, monotonic() + self.allowed_seconds + length / MIN_BYTES_PER_SECOND)
        return self._call_with_deadline(super().request, method, url, body=body, headers=headers, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """Return the unread answer. Extends the deadline by the time to read it."""
        response = self._call_with_deadline(super().getresponse)  # type: ignore[misc]
        length = response.headers.get("Content-Length", "")
        # The reader checks the length first. A length above the limit of one PUT cannot be true.
        number = int(length) if length.isdecimal() and len(length) < 14 else 0
        _watchdog.watch(self, monotonic() + self.allowed_seconds + min(number, 5 * 1024**3) / MIN_BYTES_PER_SECOND)
        if response.status >= 300:
            _limit_size(response, MAX_ERROR_BYTES)
        else:
            _limit_size(response, MAX_ANSWER_BYTES)
        return response

    def exchange(self, head: bytes, body: bytes) -> Answer:
        """Send a prepared request on this open connection and return the answer, within the same bounds.

        Skips urllib3 and http.client, which take as long as all the rest of an upload. Raises DeliveryError. Unless the
        answer says otherwise, the connection can be used again; `Answer.reusable` tells.
        """
        self.overdue = False
        _watchdog.watch(self, monotonic() + self.allowed_seconds + len(body) / MIN_BYTES_PER_SECOND)
        try:
            answer: Answer = self._call_with_deadline(plain_exchange.exchange, self.sock, head, body, MAX_ERROR_BYTES)
        except TimeoutError as error:
            raise DeliveryError(diagnoses.READ_TIMEOUT, str(error)) from error
        except (OSError, HTTPException) as error:
            raise DeliveryError(diagnoses.CONNECTION_LOST, str(error) or type(error).__name__) from error
        AnswerLimits(MAX_ERROR_BYTES).add(answer.content)
        return answer

    def _call_with_deadline(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            if self.overdue:
                raise TimeoutError(f"The request took longer than {self.allowed_seconds:.0f} seconds") from error
            raise


class BoundedPool:
    """A mixin for urllib3 pools: a connection that returns to the pool is no longer watched."""

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            _watchdog.release(connection)
        super()._put_conn(connection)  # type: ignore[misc]


def _limit_size(response: Any, max_bytes: int) -> None:
    """Limit the size of `response` if it is read as a whole. A reader of parts limits its size itself."""
    read_all = response.stream

    def stream(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        # Checked first, because the deadline was calculated from the claimed length.
        if (response.length_remaining or 0) > max_bytes:
            response.close()
            raise DeliveryError(diagnoses.NOT_S3, f"The answer is longer than {max_bytes:,} bytes")
        limits = AnswerLimits(max_bytes)
        for chunk in read_all(*args, **kwargs):
            try:
                limits.add(chunk)
            except DeliveryError:
                response.close()
                raise
            yield chunk

    response.stream = stream


class AnswerLimits:
    """Checks the parts of an answer that is read as a whole."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._total, self._tags, self._tail = max_bytes, 0, 0, b""

    def add(self, chunk: bytes) -> None:
        """Count a part. Raises DeliveryError if the answer is too long or declares entities."""
        self._total += len(chunk)
        self._tags += chunk.count(b"<")
        if self._total > self._max_bytes or self._tags > MAX_TAGS:
            raise DeliveryError(
                diagnoses.NOT_S3, f"The answer is longer than {self._max_bytes:,} bytes or {MAX_TAGS:,} tags"
            )
        if _ENTITY in self._tail + chunk:
            raise DeliveryError(diagnoses.NOT_S3, "The answer declares entities, which S3 does not")
        self._tail = chunk[-len(_ENTITY) :]
