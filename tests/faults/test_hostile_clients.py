# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Clients that send rubbish, too much, too slowly, or do not read: refused or cut off, while others are served.

One server in a process of its own; each test ends by asking it again what it was asked at the start.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from .processes import Resrank, wait_for

pytestmark = pytest.mark.slow

TIMEOUT_S = 3  # of the server's requests, bodies and headers
BODY_BYTES = 200_000
QUESTION = {"query": "how do I parse a date?", "documents": ["Bread needs yeast.", "Use strptime.", "Paris."]}
HOSTILE = {
    "half JSON": b'{"query": "a", "documents": ["b"',
    "JSON after JSON": b'{"query": "a", "documents": ["b"]}{"query": "c"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 30_000,
    "deep document": b'{"query": "a", "documents": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "huge number": b'{"query": "a", "documents": ["b"], "top_n": ' + b"9" * 100_000 + b"}",
    "huge exponent": b'{"query": "a", "documents": ["b"], "top_n": 1e99999}',
    "lone surrogate": b'{"query": "\\ud83d", "documents": ["b"]}',
    "surrogates the wrong way round": b'{"query": "\\udc4d\\ud83d", "documents": ["b"]}',
    "overlong UTF-8": b'{"query": "\xc0\xaf", "documents": ["b"]}',
    "Latin-1": '{"query": "é", "documents": ["b"]}'.encode("latin-1"),
    "UTF-16 with a mark": '{"query": 5}'.encode("utf-16"),
    "zeros": bytes(1_000),
    "the same key often": b'{"query": "a", ' + b'"documents": 5, ' * 5_000 + b'"documents": []',
    "not a number": b'{"query": NaN, "documents": Infinity}',
    "wrong types everywhere": b'{"query": [{}], "documents": {"0": "a"}, "top_n": "1", "rank_fields": 5}',
    "too many documents": json.dumps({"query": "a", "documents": ["b"] * 30_000}).encode(),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94.",
}
ODD_TEXTS = (
    "\u0000",
    "\u202e\u2066\u200d\ufeff",
    "Z" + "\u0301" * 3_000,
    "\U0010ffff",
    "\ufffe",
    "a\u2028b",
    "﷽" * 500,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_mini_checkpoint) -> Iterator[Resrank]:
    folder = tmp_path_factory.mktemp("hostile")
    arguments = ["serve", "--port", "0", "--rerank-only", "--model", str(tiny_mini_checkpoint), "--dtype", "float32"]
    limits = ["--timeout", str(TIMEOUT_S), "--max-body-mb", str(BODY_BYTES / 1024 / 1024)]
    process = Resrank([*arguments, *limits], folder).ready()
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def serves_as_before(server) -> Iterator[None]:
    expected = ask(server)
    yield
    assert ask(server) == expected
    assert server.exit_code is None
    assert "Traceback" not in server.log


def ask(server: Resrank) -> list[int]:
    response = httpx.post(f"{server.url}/rerank", json=QUESTION, timeout=30)
    assert response.status_code == 200, response.text
    return [result["index"] for result in response.json()["results"]]


@contextmanager
def asking(server: Resrank) -> Iterator[list[float]]:
    """Somebody who asks all the time; how long the answers took."""
    stop, seconds = threading.Event(), []

    def run() -> None:
        while not stop.is_set() or len(seconds) < 3:
            started = time.monotonic()
            ask(server)
            seconds.append(time.monotonic() - started)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


@contextmanager
def connection(server: Resrank) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connected:
        yield connected


def head(length: int, path: str = "/rerank") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def end_of(connected: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    received = b""
    try:
        while part := connected.recv(65_536):
            received += part
    except ConnectionError:
        pass
    return received


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/search", "/v1/ask"])
def test_hostile_bodies_are_refused(server, name, path):
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{server.url}{path}", content=HOSTILE[name], headers=headers, timeout=30)
    assert 400 <= response.status_code < 500, response.text
    assert set(json.loads(response.text)) == {"error"}


def test_random_bytes_are_refused(server):
    chance = random.Random(6)
    valid = json.dumps(QUESTION).encode()
    statuses = set()
    for _ in range(100):
        content = bytearray(valid)
        for _ in range(chance.randrange(1, 6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        headers = {"Content-Type": "application/json"}
        response = httpx.post(f"{server.url}/rerank", content=bytes(content), headers=headers, timeout=30)
        statuses.add(response.status_code)
        json.loads(response.text)
    assert statuses <= {200, 400, 422}
    assert len(statuses) >= 2


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_odd_unicode_is_ranked(server, text):
    body = {"query": text or "a", "documents": [text, f"a {text} b", "plain"]}
    response = httpx.post(f"{server.url}/rerank", json=body, timeout=30)
    assert response.status_code in (200, 422), response.text  # 422: what is blank to Python
    if response.status_code == 200:
        assert sorted(result["index"] for result in response.json()["results"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS client
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: a\r\n" * 100_000,
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["tls", "garbage", "version", "negative", "two lengths", "chunks", "headers", "path"],
)
def test_what_is_no_http_is_cut_off(server, content):
    with asking(server), connection(server) as connected:
        try:
            connected.sendall(content)
        except ConnectionError:
            return  # cut off while it sent
        received = end_of(connected)
    assert received == b"" or received.startswith(b"HTTP/1.1 4"), received[:200]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_oversized_bodies_are_cut_off_before_they_are_there(server, declared):
    with asking(server), connection(server) as connected:
        if declared:
            connected.sendall(head(10**12) + b"[" * 1_000)
        else:
            start = b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            connected.sendall(start)
            try:
                for _ in range(BODY_BYTES // 10_000 + 5):
                    connected.sendall(b"2710\r\n" + b"[" * 10_000 + b"\r\n")
            except ConnectionError:
                pass
        assert b"HTTP/1.1 413" in connected.recv(1_000)


def test_slow_headers_are_cut_off(server):
    with asking(server), connection(server) as connected:
        connected.sendall(b"POST /rerank HTTP/1.1\r\nHost: localhost\r\n")
        started = time.monotonic()
        connected.settimeout(0.5)
        cut_off = False
        while not cut_off and time.monotonic() - started < 60:
            try:
                connected.sendall(b"X-Slow: a\r\n")
                cut_off = connected.recv(1_000) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                cut_off = True
    assert cut_off


def test_slow_bodies_are_cut_off(server):
    with asking(server), connection(server) as connected:
        connected.sendall(head(1_000))
        connected.settimeout(0.3)
        received = b""
        until = time.monotonic() + 60
        while not received and time.monotonic() < until:
            connected.sendall(b" ")
            try:
                received = connected.recv(1_000)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408"), received


def test_many_slow_clients_hold_nobody_up(server):
    host, port = server.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(200)]
    try:
        for number, connected in enumerate(slow):
            connected.sendall(head(500) + b"{" if number % 2 else b"POST /rerank HTTP/1.1\r\nHost:")
        with asking(server):
            time.sleep(1)
    finally:
        for connected in slow:
            connected.close()


def test_clients_that_never_read_hold_nobody_up(server):
    body = json.dumps({"query": "a", "documents": ["word " * 30] * 900, "return_documents": True}).encode()
    with connection(server) as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connected.settimeout(2)
        sent = 0
        try:
            for _ in range(30):  # one after another on one connection, no answer read
                connected.sendall(head(len(body)) + body)
                sent += 1
        except (TimeoutError, ConnectionError):
            pass
        assert sent
        with asking(server):
            time.sleep(1)
        wait_for(lambda: in_flight(server) <= 1)


def test_clients_that_leave_at_once_leave_nothing_behind(server):
    body = json.dumps({"query": "a", "documents": ["word " * 30] * 200}).encode()
    with asking(server):
        for _ in range(20):
            with connection(server) as connected:
                connected.sendall(head(len(body)) + body)
    wait_for(lambda: in_flight(server) == 0)


def in_flight(server: Resrank) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("resrank_requests_in_flight"))
