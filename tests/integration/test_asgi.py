"""An ASGI application on our own sockets: answers while it is to, stops within its time."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from hivekeeper.aio import asgi


class Application:
    """Answers `/slow` once it is released, all else at once."""

    def __init__(self) -> None:
        self.asked, self.release, self.cancelled = asyncio.Event(), asyncio.Event(), False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        del receive
        if scope["path"] == "/slow":
            self.asked.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})


@pytest.fixture(autouse=True)
def no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends here ends because it was told to."""
    monkeypatch.setattr(asgi, "_TICK_S", 3600.0)


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def url(sock: socket.socket, path: str = "/") -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}{path}"


async def get(address: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        return await answer.text()


async def test_it_answers_while_the_context_lasts_and_not_after(bound: socket.socket) -> None:
    address = url(bound)
    async with asgi.serve(Application(), [bound]):
        assert await get(address) == "here"
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(address)


async def test_signals_stay_with_whoever_had_them(bound: socket.socket) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with asgi.serve(Application(), [bound]):
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


async def test_an_error_of_the_body_comes_out_as_it_is(bound: socket.socket) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with asgi.serve(Application(), [bound]):
            raise ValueError("mine")


async def test_a_request_under_way_is_finished_before_it_ends(bound: socket.socket) -> None:
    app = Application()
    async with asyncio.TaskGroup() as group:
        async with asgi.serve(app, [bound]):
            asking = group.create_task(get(url(bound, "/slow")))
            await app.asked.wait()
            asyncio.get_running_loop().call_later(0.01, app.release.set)
        assert await asking == "here"


async def test_a_request_that_takes_too_long_is_cut_off(bound: socket.socket) -> None:
    app = Application()
    async with asyncio.TaskGroup() as group:
        async with asgi.serve(app, [bound], stop_within_s=0):
            asking = group.create_task(get(url(bound, "/slow")))
            await app.asked.wait()
        assert await asking == "Internal Server Error"
    assert app.cancelled


async def test_cancelled_it_still_ends_in_order(bound: socket.socket) -> None:
    app, entered = Application(), asyncio.Event()

    async def service() -> None:
        async with asgi.serve(app, [bound]):
            entered.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(service())
        await entered.wait()
        asking = group.create_task(get(url(bound, "/slow")))
        await app.asked.wait()
        asyncio.get_running_loop().call_later(0.01, app.release.set)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await asking == "here"
    assert bound.fileno() == -1
