"""What one connection may take is bounded: its size, its time, and its number."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from gateways import LONG_S, Client, parse
from hivekeeper.aio import asgi, bounded

SOON_S = 0.1
"""A deadline that is to pass."""


LARGE = 32 * 1024 * 1024
"""More than a socket holds."""


async def slow_application(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Take its time; `/large` is answered with much."""
    await asyncio.sleep(3 * SOON_S)
    body = b"a" * LARGE if scope["path"] == "/large" else b"here"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        async with asgi.serve(slow_application, [listening]):
            yield Client(listening.getsockname()[1])


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nname",
        b"GET / HTTP/1.1\r\nname: ",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ntrailer: ",
    ],
)
async def test_what_has_no_end_is_refused(client: Client, begin: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(begin)
    await asyncio.sleep(SOON_S)
    writer.write(b"a" * (bounded.HEAD_BYTES + 1))
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert parse(answer).headers["connection"] == "close"


async def test_a_head_just_below_the_bound_is_read(client: Client) -> None:
    reply = await client.ask("/" + "a" * (bounded.HEAD_BYTES - 100))
    assert reply.body.endswith(b"here\r\n0\r\n\r\n")


async def test_a_long_body_is_no_head(client: Client) -> None:
    body = b"a" * 4 * bounded.HEAD_BYTES
    head = f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    answers = await client.send(head.encode() + body + last)
    assert answers.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\na: b\r\n"])
async def test_who_does_not_come_to_the_point_is_hung_up_on(
    begin: bytes, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr(bounded, "HEAD_WITHIN_S", SOON_S)
    assert await client.send(begin) == b""


async def test_nor_does_a_byte_now_and_then_help(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr(bounded, "HEAD_WITHIN_S", SOON_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /")
    async with asyncio.timeout(LONG_S):
        with suppress(ConnectionError):  # a byte may meet an end that we have not seen yet
            while not reader.at_eof():
                writer.write(b"a")
                with suppress(TimeoutError):
                    async with asyncio.timeout(SOON_S / 5):
                        assert await reader.read(1) == b""
    writer.close()


async def test_an_answer_and_the_time_between_requests_may_take_longer(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr(bounded, "HEAD_WITHIN_S", SOON_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(3 * SOON_S)
    writer.close()


async def test_who_comes_on_top_is_hung_up_on_and_the_others_are_served(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr(bounded, "CONNECTIONS", 2)
    pairs = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(3)]
    for _, writer in pairs:
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    answers = [await reader.read() for reader, _ in pairs]
    for _, writer in pairs:
        writer.close()
    assert [bool(answer) for answer in answers] == [True, True, False]


@pytest.mark.parametrize("seconds", [SOON_S, LONG_S])
async def test_an_answer_that_is_not_read_is_dropped_in_the_end(
    monkeypatch: pytest.MonkeyPatch, client: Client, seconds: float
) -> None:
    monkeypatch.setattr(bounded, "READ_WITHIN_S", seconds)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
    writer.write(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(10 * SOON_S)
    size = 0
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            size += len(data)
    writer.close()
    assert (size > LARGE) == (seconds == LONG_S)
