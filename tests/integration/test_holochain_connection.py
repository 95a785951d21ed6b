"""Whatever a conductor does, a request ends, and says whether it was sent."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import conductors
from hivekeeper.holochain import admin, app, connection, wire
from hivekeeper.holochain.connection import Connection, Signals
from hivekeeper.holochain.errors import AnswerLostError, ConductorError, NotSentError
from hivekeeper.model import limits
from hivekeeper.model.errors import UserError
from hivekeeper.testing.conductor import FakeConductor, Fault

SOON_S = 0.2
"""A deadline that is to pass."""
LONG_S = 20.0
"""For what must happen, on a machine that is busy with other things."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeConductor]:
    async with conductors.fake_conductor().running() as conductor:
        yield conductor


@pytest.fixture
async def opened(fake: FakeConductor) -> AsyncIterator[Connection]:
    async with connection.connect("127.0.0.1", fake.admin_port) as made:
        yield made


async def list_apps(opened: Connection, timeout_s: float = LONG_S) -> None:
    await opened.ask(admin.LIST_APPS, admin.ListApps(), timeout_s=timeout_s)


async def until_seen(fake: FakeConductor, requests: int) -> None:
    async with asyncio.timeout(LONG_S):
        while len(fake.seen) < requests:
            await asyncio.sleep(0)


@asynccontextmanager
async def peer(serve_one: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[int]:
    """Let something that is no conductor listen."""
    async with serve(serve_one, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@pytest.mark.parametrize(
    "fault", [Fault.HANG_UP, Fault.NO_DATA, Fault.GARBAGE, Fault.NONSENSE, Fault.OTHER]
)
async def test_an_answer_that_never_comes_whole_is_lost(
    fake: FakeConductor, opened: Connection, fault: Fault
) -> None:
    fake.faults["list_apps"] = fault
    async with asyncio.timeout(LONG_S):
        with pytest.raises(AnswerLostError):
            await list_apps(opened)


async def test_silence_ends_at_the_deadline_and_others_do_not_notice(
    fake: FakeConductor, opened: Connection
) -> None:
    fake.faults["list_apps"] = Fault.SILENCE
    with pytest.raises(AnswerLostError, match=r"none in 0\.2 s"):
        await list_apps(opened, SOON_S)
    assert await opened.ask(admin.LIST_DNAS, None) == []


async def test_after_garbage_the_connection_is_over_and_says_so(
    fake: FakeConductor, opened: Connection
) -> None:
    fake.faults["list_apps"] = Fault.GARBAGE
    with pytest.raises(AnswerLostError, match="no message"):
        await list_apps(opened)
    assert opened.closed
    assert "no message" in await opened.wait_closed()
    with pytest.raises(NotSentError, match="no message"):
        await list_apps(opened)


async def test_who_sends_garbage_is_hung_up_on_at_once() -> None:
    """Not only when whoever holds the connection lets go of it."""
    left = asyncio.Event()

    async def babbles(socket: ServerConnection) -> None:
        await socket.send(b"\xc1")
        await socket.wait_closed()
        left.set()

    async with peer(babbles) as port, connection.connect("127.0.0.1", port):
        async with asyncio.timeout(LONG_S):
            await left.wait()


async def test_when_the_conductor_dies_what_was_sent_is_lost_and_the_rest_was_not_sent(
    fake: FakeConductor, opened: Connection
) -> None:
    fake.faults["list_apps"] = Fault.SILENCE
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(lost(opened), name=f"{each}") for each in range(5)]
        await until_seen(fake, len(waiting))
        fake.crash()
    await opened.wait_closed()
    with pytest.raises(NotSentError):
        await list_apps(opened)
    with pytest.raises(NotSentError, match="cannot connect"):
        async with connection.connect("127.0.0.1", fake.admin_port):
            pass


async def lost(opened: Connection) -> None:
    with pytest.raises(AnswerLostError):
        await list_apps(opened)


async def test_a_cancelled_request_disturbs_no_other(
    fake: FakeConductor, opened: Connection
) -> None:
    fake.faults["list_apps"] = Fault.SILENCE
    async with asyncio.TaskGroup() as group:
        task = group.create_task(list_apps(opened), name="cancelled")
        await until_seen(fake, 1)
        task.cancel()
        assert await opened.ask(admin.LIST_DNAS, None) == []
    assert task.cancelled()
    assert opened._waiting == {}


async def test_no_more_requests_are_under_way_than_a_conductor_takes(
    fake: FakeConductor, opened: Connection
) -> None:
    """One that finds no place in time was not sent."""
    fake.faults["list_apps"] = Fault.SILENCE
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(list_apps(opened), name=f"{each}")
            for each in range(limits.CONDUCTOR_REQUESTS)
        ]
        await until_seen(fake, limits.CONDUCTOR_REQUESTS)
        with pytest.raises(NotSentError, match="too many"):
            await list_apps(opened, SOON_S)
        for task in tasks:
            task.cancel()
    fake.faults.clear()
    await list_apps(opened)


async def test_a_late_answer_is_dropped() -> None:
    """It answers the first request only once there is a second."""
    content = wire.encode(wire.Tagged("apps_listed", []))

    async def late(socket: ServerConnection) -> None:
        requests = [wire.decode_message(await socket.recv(decode=False)) for _ in range(2)]
        numbers = [each.id for each in requests if isinstance(each, wire.Request)]
        for number in (numbers[0], 77, numbers[1]):
            await socket.send(wire.encode(wire.Response(number, content)))
        await socket.wait_closed()

    async with peer(late) as port, connection.connect("127.0.0.1", port) as opened:
        with pytest.raises(AnswerLostError):
            await list_apps(opened, SOON_S)
        await list_apps(opened)


async def test_what_is_larger_than_a_conductor_takes_is_not_sent(
    fake: FakeConductor, opened: Connection
) -> None:
    data = bytes(limits.CONDUCTOR_FRAME_BYTES)
    asked = admin.InstallAppPayload(source=wire.Tagged("bytes", data))
    with pytest.raises(UserError, match="more than"):
        await opened.ask(admin.INSTALL_APP, asked)
    assert fake.seen == []


async def test_an_answer_larger_than_the_limit_ends_the_connection_not_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CONDUCTOR_MESSAGE_BYTES", 1_000)

    async def floods(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(bytes(5_000))
        await socket.wait_closed()

    async with peer(floods) as port, connection.connect("127.0.0.1", port) as opened:
        with pytest.raises(AnswerLostError, match=r"too big|1009"):
            await list_apps(opened)


async def test_a_peer_that_sends_without_end_and_never_reads_is_left() -> None:
    async def babbles(socket: ServerConnection) -> None:
        try:
            while True:
                await socket.send(wire.encode(wire.Signal(b"x" * 1_000)))
        except ConnectionClosed:
            return

    async with (
        asyncio.timeout(LONG_S),
        peer(babbles) as port,
        connection.connect("127.0.0.1", port) as opened,
    ):
        with pytest.raises(AnswerLostError):
            await list_apps(opened, SOON_S)


@asynccontextmanager
async def tcp_peer(answer: bytes, *, then_waits: bool) -> AsyncIterator[int]:
    """Let something that is no websocket accept one connection."""
    served = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if then_waits:
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server, asyncio.timeout(LONG_S):
        yield server.sockets[0].getsockname()[1]
        await served.wait()


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00" * 9_000]
)
async def test_what_is_no_websocket_is_a_conductor_that_is_not_there(answer: bytes) -> None:
    async with tcp_peer(answer, then_waits=False) as port:
        with pytest.raises(NotSentError, match="cannot connect"):
            async with connection.connect("127.0.0.1", port, timeout_s=LONG_S):
                pass


async def test_who_accepts_and_says_nothing_is_given_up_on() -> None:
    async with tcp_peer(b"", then_waits=True) as port:
        with pytest.raises(NotSentError, match="cannot connect"):
            async with connection.connect("127.0.0.1", port, timeout_s=SOON_S):
                pass


async def test_what_the_body_raises_comes_out_as_it_is(fake: FakeConductor) -> None:
    """Not wrapped in a group, with its cause, and with the connection closed."""
    cause = ValueError("why")
    with pytest.raises(UserError, match="mine") as caught:
        async with connection.connect("127.0.0.1", fake.admin_port) as opened:
            raise UserError("mine") from cause
    assert caught.value.__cause__ is cause
    assert opened.closed
    with pytest.raises(NotSentError):
        await list_apps(opened)


async def test_being_cancelled_while_open_closes_it(fake: FakeConductor) -> None:
    ready = asyncio.Event()
    kept: list[Connection] = []

    async def hold() -> None:
        async with connection.connect("127.0.0.1", fake.admin_port) as opened:
            kept.append(opened)
            ready.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hold(), name="holds it open")
        await ready.wait()
        task.cancel()
    assert task.cancelled()
    assert kept[0].closed


async def test_a_failure_that_nobody_waited_for_leaves_no_trace(
    fake: FakeConductor, opened: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    fake.faults["list_apps"] = Fault.SILENCE
    async with asyncio.TaskGroup() as group:
        task = group.create_task(list_apps(opened), name="cancelled in the end")
        await until_seen(fake, 1)
        fake.crash()
        task.cancel()
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_an_app_connection_that_is_not_let_in_was_not_used(fake: FakeConductor) -> None:
    async with connection.connect("127.0.0.1", fake.admin_port) as opened:
        asked = admin.InstallAppPayload(
            source=wire.Tagged("path", str(conductors.NOTES)), installed_app_id="a"
        )
        await opened.ask(admin.INSTALL_APP, asked)
        attach = admin.AttachAppInterface(port=0, allowed_origins="*", installed_app_id="a")
        port = (await opened.ask(admin.ATTACH_APP_INTERFACE, attach)).port
    with pytest.raises(NotSentError, match="token") as caught:
        async with app.connect("127.0.0.1", port, b"wrong token!", clock=conductors.CLOCK):
            pass
    assert "wrong token!" not in str(caught.value)


async def test_signals_keep_the_newest_and_count_what_they_drop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SIGNALS", 3)
    monkeypatch.setattr(limits, "SIGNAL_BYTES", 100)
    signals = Signals()
    signals.put(b"before anybody listens")
    heard = signals.listen()
    for each in range(5):
        signals.put(b"%d" % each)
    signals.put(b"x" * 99)
    signals.end()
    assert [each async for each in heard] == [b"4", b"x" * 99]
    assert signals.dropped == 4


async def test_a_signal_that_nobody_can_read_is_skipped() -> None:
    good = wire.encode(
        wire.Tagged(
            "app", {"cell_id": [b"1" * 39, b"2" * 39], "zome_name": "z", "signal": b"\xc0"}
        )
    )

    async def says(socket: ServerConnection) -> None:
        await socket.recv()
        request = wire.decode_message(await socket.recv(decode=False))
        assert isinstance(request, wire.Request)
        info = {
            "installed_app_id": "a",
            "cell_info": {},
            "status": {"type": "enabled"},
            "agent_pub_key": b"1" * 39,
            "manifest": {},
            "installed_at": 1,
        }
        content = wire.encode(wire.Tagged("app_info", info))
        await socket.send(wire.encode(wire.Response(request.id, content)))
        await socket.recv()
        for signal in [b"\xc1", wire.encode(wire.Tagged("system", {"x": 1})), b"", good]:
            await socket.send(wire.encode(wire.Signal(signal)))
        await socket.wait_closed()

    async with (
        peer(says) as port,
        app.connect("127.0.0.1", port, b"t", clock=conductors.CLOCK) as client,
        asyncio.timeout(LONG_S),
    ):
        signals = client.signals()
        await client.connection.tell(wire.Signal(b"go on"))
        signal = await anext(signals)
        assert msgspec.msgpack.decode(signal.signal) is None


async def test_an_error_carries_the_conductors_own_words(
    fake: FakeConductor, opened: Connection
) -> None:
    with pytest.raises(ConductorError) as caught:
        await opened.ask(admin.ENABLE_APP, admin.AppId("nobody"))
    assert caught.value.request == "enable_app"
    assert caught.value.text.endswith('AppNotInstalled("nobody")')
    assert fake.seen == ["enable_app"]
