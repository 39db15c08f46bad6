import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import pytest

from delivery_s3.plain_exchange import Answer, exchange

HEAD, BODY = b"PUT /b/key HTTP/1.1\r\nHost: s3\r\nContent-Length: 4\r\n\r\n", b"body"


@contextmanager
def answered(*parts: bytes, pause: float = 0, reads: bool = True) -> Iterator[socket.socket]:
    """A connection whose other end reads the request, answers with these parts and closes."""
    here, there = socket.socketpair()
    here.settimeout(5)

    def answer() -> None:
        with there:
            if reads:
                assert there.recv(1000) == HEAD + BODY
            for part in parts:
                there.sendall(part)
                time.sleep(pause)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield here
    finally:
        thread.join()
        here.close()


def answer_of(*parts: bytes, pause: float = 0) -> Answer:
    with answered(*parts, pause=pause) as connection:
        return exchange(connection, HEAD, BODY, 1000)


def test_after_the_usual_answer_the_connection_is_reused() -> None:
    answer = answer_of(b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nx-amz-version-id: 1\r\nContent-Length: 0\r\n\r\n')
    assert answer == Answer(200, {"etag": '"abc"', "x-amz-version-id": "1", "content-length": "0"}, b"", reusable=True)


def test_an_answer_may_come_in_parts() -> None:
    answer = answer_of(b"HTTP/1.1 200 OK\r\nETa", b'g: "abc"\r\nContent-Length: 0\r\n\r', b"\n", pause=0.05)
    assert (answer.headers["etag"], answer.reusable) == ('"abc"', True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 7\r\n\r\n<Error>",
        b"HTTP/1.1 412 Precondition Failed\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<Er\r\n4\r\nror>\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 412 No\r\nContent-Length: 7\r\n\r\n<Error>",
        b"HTTP/1.0 412 No\r\n\r\n<Error>",
    ],
)
def test_an_error_is_read_whole_and_ends_the_connection(answer: bytes) -> None:
    for parts in ([answer], [answer[:30], answer[30:]]):
        found = answer_of(*parts, pause=0.02)
        assert (found.status_code, found.content, found.reusable) == (412, b"<Error>", False)


@pytest.mark.parametrize(
    "headers",
    [b"Connection: close\r\nContent-Length: 0", b"ETag: 1\r\nETag: 2\r\nContent-Length: 0", b"Content-Length: 2"],
)
def test_after_an_unusual_success_the_connection_is_not_used_again(headers: bytes) -> None:
    answer = answer_of(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n")
    assert (answer.status_code, answer.reusable) == (200, False)


def test_no_more_is_read_than_the_limit() -> None:
    assert len(answer_of(b"HTTP/1.1 500 No\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000).content) == 1001


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nETag"])
def test_an_invalid_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises((HTTPException, OSError)):
        answer_of(answer)


def test_an_answer_before_the_end_of_the_request_is_read() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\n<Error>"
    with answered(refusal, reads=False) as connection:
        time.sleep(0.1)
        answer = exchange(connection, HEAD, b"x" * 10_000_000, 1000)
    assert (answer.status_code, answer.content) == (403, b"<Error>")
