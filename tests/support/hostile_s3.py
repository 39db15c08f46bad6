"""A malicious S3 server: it sends false, endless, slow or no answers. Each behaviour is a function in BEHAVIOURS.

A behaviour is called with the connection and the request's method after the request was read, and sends an answer. Only
the client limits the answer, so every behaviour ends when the client closes the connection or the server stops.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.servers import S3Server

Behaviour = Callable[[socket.socket, str], None]
BEHAVIOURS: dict[str, Behaviour] = {}

CONTENT = b"%PDF-1.7 what was archived"
OK = b"HTTP/1.1 200 OK\r\n"
HEAD = b'ETag: "0123456789abcdef0123456789abcdef"\r\nLast-Modified: Sun, 01 Mar 2026 12:00:00 GMT\r\n'


def behaviour(function: Behaviour) -> Behaviour:
    BEHAVIOURS[function.__name__] = function
    return function


def answering(name: str, answer: bytes) -> None:
    """Add a behaviour that sends these bytes and closes the connection."""

    def send(connection: socket.socket, method: str) -> None:
        connection.sendall(answer)

    BEHAVIOURS[name] = send


def flood(connection: socket.socket, start: bytes, block: bytes, seconds: float = 30) -> None:
    connection.sendall(start)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(block)


def drip(connection: socket.socket, start: bytes, seconds: float = 60) -> None:
    connection.sendall(start)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x")
        time.sleep(0.05)


def refusal(status: bytes, code: bytes, message: bytes = b"") -> bytes:
    body = b"<Error><Code>" + code + b"</Code><Message>" + message + b"</Message></Error>"
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def found(headers: bytes, body: bytes = b"") -> bytes:
    return OK + headers + b"\r\n" + body


# Endless answers.


@behaviour
def endless_error(connection: socket.socket, method: str) -> None:
    flood(connection, b"HTTP/1.1 403 Forbidden\r\n\r\n", b"<Error>" * 10_000)


@behaviour
def endless_error_in_chunks(connection: socket.socket, method: str) -> None:
    start = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
    flood(connection, start, b"10000\r\n" + b"y" * 65536 + b"\r\n")


@behaviour
def endless_success(connection: socket.socket, method: str) -> None:
    flood(connection, OK + HEAD + b"\r\n", b"z" * 65536)


@behaviour
def endless_success_in_chunks(connection: socket.socket, method: str) -> None:
    flood(connection, OK + HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"y" * 65536 + b"\r\n")


@behaviour
def endless_headers(connection: socket.socket, method: str) -> None:
    flood(connection, OK, b"X-More: " + b"h" * 1000 + b"\r\n")


@behaviour
def endless_header_line(connection: socket.socket, method: str) -> None:
    flood(connection, OK + b"X-Long: ", b"h" * 65536)


@behaviour
def endless_status_line(connection: socket.socket, method: str) -> None:
    flood(connection, b"HTTP/1.1 200 ", b"O" * 65536)


@behaviour
def endless_hundreds(connection: socket.socket, method: str) -> None:
    flood(connection, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


# Slow answers.


@behaviour
def drips_status_line(connection: socket.socket, method: str) -> None:
    drip(connection, b"HTTP/1.1 200 ")


@behaviour
def drips_headers(connection: socket.socket, method: str) -> None:
    drip(connection, OK + b"X-Slow: ")


@behaviour
def drips_body(connection: socket.socket, method: str) -> None:
    drip(connection, OK + HEAD + b"Content-Length: 26\r\n\r\n"[:-2] + b"\r\n")


@behaviour
def drips_error(connection: socket.socket, method: str) -> None:
    drip(connection, b"HTTP/1.1 503 Slow\r\nContent-Length: 100000\r\n\r\n")


@behaviour
def says_nothing(connection: socket.socket, method: str) -> None:
    time.sleep(30)


# False lengths.

answering("length_negative", found(HEAD + b"Content-Length: -5\r\n", CONTENT))
answering("length_absurd", found(HEAD + b"Content-Length: 99999999999999999999999\r\n", CONTENT))
answering("length_no_number", found(HEAD + b"Content-Length: many\r\n", CONTENT))
answering("length_twice", found(HEAD + b"Content-Length: 5\r\nContent-Length: 26\r\n", CONTENT))
answering("length_too_long", found(HEAD + b"Content-Length: 1000000\r\n", CONTENT))
answering("length_too_short", found(HEAD + b"Content-Length: 3\r\n", CONTENT))
answering("length_missing", found(HEAD, CONTENT))
answering("padded", found(HEAD + b"Content-Length: 126\r\n", CONTENT + b"p" * 100))
answering("forged", found(HEAD + b"Content-Length: 26\r\n", b"%PDF-1.7 what was forged!!"))
answering("forged_and_padded_without_length", found(HEAD, b"%PDF-1.7 what was forged!!" + b"p" * 3_000_000))
answering("chunk_size_negative", found(HEAD + b"Transfer-Encoding: chunked\r\n", b"-1\r\nxx\r\n0\r\n\r\n"))
answering("chunk_size_absurd", found(HEAD + b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nxx"))
answering("chunk_without_end", found(HEAD + b"Transfer-Encoding: chunked\r\n", b"5\r\nabc"))
answering(
    "range_ignored",
    b"HTTP/1.1 206 Partial Content\r\n"
    + HEAD
    + b"Content-Length: 26\r\nContent-Range: bytes 0-25/26\r\n\r\n"
    + CONTENT,
)
answering(
    "range_of_others",
    b"HTTP/1.1 206 Partial\r\n" + HEAD + b"Content-Length: 5\r\nContent-Range: bytes 9-13/999\r\n\r\nwrong",
)

answering("length_a_lie_in_an_error", b"HTTP/1.1 403 No\r\nContent-Length: 5368709120\r\n\r\n<Error>")


@behaviour
def drips_behind_a_huge_length(connection: socket.socket, method: str) -> None:
    drip(connection, OK + HEAD + b"Content-Length: 5368709120\r\n\r\n")


@behaviour
def drips_an_error_behind_a_huge_length(connection: socket.socket, method: str) -> None:
    drip(connection, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5368709120\r\n\r\n")


# Listings.


def listing(inner: bytes, *, more: bytes = b"false") -> bytes:
    body = b"<ListBucketResult><IsTruncated>" + more + b"</IsTruncated>" + inner + b"</ListBucketResult>"
    return found(HEAD + b"Content-Length: %d\r\n" % len(body), body)


answering("list_without_key", listing(b"<Contents><Size>1</Size></Contents>"))
answering("list_of_tags", listing(b"<a/>" * 3_000_000))
_ENTITIES = b"<!DOCTYPE x [<!ENTITY a '" + b"a" * 5_000_000 + b"'>]><ListBucketResult><Prefix>" + b"&a;" * 60
answering(
    "list_entities",
    found(HEAD + b"Connection: close\r\n", _ENTITIES + b"</Prefix></ListBucketResult>"),
)


@behaviour
def list_endless(connection: socket.socket, method: str) -> None:
    token = b"<NextContinuationToken>%d</NextContinuationToken>" % time.monotonic_ns()
    connection.sendall(listing(b"<Contents><Key>z</Key></Contents>" + token, more=b"true"))


# Identifiers and dates.

answering("etag_long", found(b'ETag: "' + b"e" * 5000 + b'"\r\nContent-Length: 0\r\n'))
answering("etag_controls", found(b'ETag: "a\x00b\x1b[2Jc"\r\nContent-Length: 0\r\n'))
answering("etag_missing", found(b"Content-Length: 0\r\n"))
answering("version_id_long", found(HEAD + b"x-amz-version-id: " + b"v" * 5000 + b"\r\nContent-Length: 0\r\n"))
answering("version_id_controls", found(HEAD + b"x-amz-version-id: a\x00b\x07\r\nContent-Length: 0\r\n"))
answering("date_missing", found(b'ETag: "a"\r\nContent-Length: 26\r\n'))
answering("date_absurd", found(b"Content-Length: 26\r\nLast-Modified: Sun, 99 Foo 99999 99:99:99 GMT\r\n"))
answering(
    "retention_absurd", found(HEAD + b"x-amz-object-lock-retain-until-date: 99999-99-99\r\nContent-Length: 26\r\n")
)
answering("checksum_nonsense", found(HEAD + b"x-amz-checksum-sha256: !!!!\r\nContent-Length: 26\r\n", CONTENT))
answering("metadata_controls", found(HEAD + b"x-amz-meta-title: a\x00b\r\nContent-Length: 26\r\n", CONTENT))

# Errors.

answering("error_with_nul", refusal(b"403 Forbidden", b"AccessDenied", b"a\x00b\x1b]0;owned\x07"))
answering("error_code_long", refusal(b"400 Bad", b"C" * 100_000))
answering("error_no_xml", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n<<<>>>&&&")
answering(
    "error_entities",
    b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (n + 1, (b"&a%d;" % n if n else b"&a;") * 10) for n in range(9))
    + b"]><Error><Code>&a9;</Code></Error>",
)
answering("error_deep", b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n" + b"<a>" * 20_000)
answering("error_retry_after_absurd", b"HTTP/1.1 503 Slow\r\nRetry-After: 99999999999999\r\nContent-Length: 0\r\n\r\n")
answering("error_date_absurd", b"HTTP/1.1 403 No\r\nDate: Sun, 01 Jan 99999 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
answering("status_absurd", b"HTTP/1.1 999 Beyond\r\nContent-Length: 0\r\n\r\n")
answering("status_no_number", b"HTTP/1.1 abc Beyond\r\nContent-Length: 0\r\n\r\n")
answering("not_http", b"\x16\x03\x01 this is no HTTP at all\r\n\r\n")
answering("redirect_inside", b"HTTP/1.1 307 T\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n")
answering(
    "success_with_error_body", found(HEAD + b"Connection: close\r\n", b"<Error><Code>InternalError</Code></Error>")
)
answering("hangs_up", b"")


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(10)
        with contextlib.suppress(OSError, ValueError):
            start = b""
            while b"\r\n\r\n" not in start and (more := self.request.recv(65536)):
                start += more
            head, _, body = start.partition(b"\r\n\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            length = int(headers.get(b"content-length", b"0"))
            while len(body) < length and (more := self.request.recv(65536)):
                body += more
            method = head.split(b" ", 1)[0].decode()
            self.server.behaviour(self.request, method)  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False


@contextmanager
def hostile(name: str) -> Iterator[S3Server]:
    """Run the server with one behaviour."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.behaviour = BEHAVIOURS[name]  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield S3Server(f"http://127.0.0.1:{server.server_address[1]}", "KEY", "SECRET", kind="hostile")
        finally:
            server.shutdown()
            thread.join()
