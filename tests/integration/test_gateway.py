"""Calls over HTTP reach a conductor once, whatever happens to it; on the fake one."""

import asyncio
import base64
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import conductors
import gateways
from gateways import Stand, dna_of, hand_over, opened, orchestrating, payload, route, until
from hivekeeper.gateway import contract
from hivekeeper.holochain import access, transcode
from hivekeeper.holochain.access import Access
from hivekeeper.holochain.app import AppClient
from hivekeeper.holochain.errors import NotSentError
from hivekeeper.model import limits
from hivekeeper.testing.bus import FakeHub
from hivekeeper.testing.conductor import FakeConductor, Fault
from hivekeeper.testing.happs import Call

SOON_S = 0.2
"""A deadline that is to pass."""


class Conductor:
    """A fake one that can be killed, with hApps in it."""

    def __init__(self, folder: Path) -> None:
        self.fake = conductors.fake_conductor()
        self.fake.happs.functions["notes", "wait"] = self._wait
        self.release, self.waiting = asyncio.Event(), 0
        self._folder = folder
        self._run: contextlib.AbstractAsyncContextManager[FakeConductor] | None = None

    async def _wait(self, _: Call) -> str:
        self.waiting += 1
        await self.release.wait()
        return "waited"

    async def start(self) -> None:
        self._run = self.fake.running()
        await self._run.__aenter__()

    async def kill(self) -> None:
        if self._run is not None:
            self.fake.crash()
            await self._run.__aexit__(None, None, None)
            self._run = None

    async def settle(self, app_id: str = "notes") -> Access:
        return await gateways.settle(self.fake.admin_port, app_id, self._folder)

    def calls(self) -> int:
        return self.fake.seen.count("call_zome")


@pytest.fixture
async def conductor(tmp_path: Path) -> AsyncIterator[Conductor]:
    there = Conductor(tmp_path / "access")
    await there.start()
    try:
        yield there
    finally:
        there.release.set()
        await there.kill()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with gateways.standing(tmp_path, route()) as made:
        yield made


async def test_a_call_is_carried_out_and_answered_as_json(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    note = {"title": "Milk", "body": "two litres"}
    created = await stand.client.call(dna, "notes", "create_note", note)
    assert (created.status, created.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert sorted(created.json()) == ["hash", "title"]
    listed = await stand.client.call(dna, "notes", "list_notes")
    assert [each["title"] for each in listed.json()] == ["Milk"]
    echoed = await stand.client.call(dna, "notes", "echo", {"b": 1, "a": [None, 2.5]})
    assert echoed.body == b'{"a":[null,2.5],"b":1}'


async def test_health_needs_nobody(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.stop()
    async with gateways.running(tmp_path, hub) as client:
        assert (await client.ask("/health")).essence == (200, "text/plain; charset=utf-8", b"Ok")


async def test_head_carries_a_call_out_and_keeps_the_answer_to_itself(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    note = payload({"title": "a", "body": "b"})
    target = f"/{dna}/notes/notes/create_note?payload={note}"
    reply = await stand.client.ask(target, method="HEAD")
    assert (reply.status, reply.body, conductor.calls()) == (200, b"", 1)
    assert int(reply.headers["content-length"]) > 0


async def test_all_calls_of_a_happ_share_one_connection(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(stand.client.call(dna, "notes", "echo", number))
            for number in range(50)
        ]
    assert [(await call).json() for call in calls] == list(range(50))
    assert conductor.fake.seen.count("app_info") == 1


async def test_what_a_guest_says_of_itself_stays_inside(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    for fn in ("fail", "no_such_function"):
        reply = await stand.client.call(dna, "notes", fn, "because")
        assert reply.body == contract.FAILED.body


async def test_a_call_that_was_not_sent_waits_until_its_conductor_is_back(
    conductor: Conductor, stand: Stand
) -> None:
    """The token that was known is worth nothing after a restart: the new file brings another."""
    dna = dna_of(await conductor.settle())
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 0
    await conductor.kill()
    async with asyncio.TaskGroup() as group:
        note = {"title": "late", "body": ""}
        waiting = group.create_task(stand.client.call(dna, "notes", "create_note", note))
        await asyncio.sleep(SOON_S)
        await conductor.start()
        await asyncio.sleep(SOON_S)  # a conductor is there now, and hangs up on old tokens
        assert not waiting.done()
        await conductor.settle()
    assert (await waiting).status == 200
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 1


async def test_it_looks_for_new_keys_at_once_when_the_old_ones_fail(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_LOOK_S", 1000)
    dna = dna_of(await conductor.settle())
    async with gateways.standing(tmp_path, route()) as stand:
        for _ in range(2):
            assert (await stand.client.call(dna, "notes", "echo", 1)).json() == 1
            await conductor.kill()
            await conductor.start()
            await conductor.settle()


async def test_a_call_waits_through_a_stop_and_a_start(conductor: Conductor, stand: Stand) -> None:
    """Stopped, a hApp's file is taken back; started again, it is there again."""
    dna = dna_of(await conductor.settle())
    await conductor.kill()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stand.client.call(dna, "notes", "echo", 1))
        await asyncio.sleep(SOON_S)
        file = stand.access / "notes.json"
        kept = file.rename(file.with_suffix(".kept"))
        await asyncio.sleep(2 * limits.GATEWAY_LOOK_S)
        assert (await stand.client.call(dna, "notes", "echo")).status == 404
        kept.rename(file)
        await conductor.start()
        await conductor.settle()
    assert (await waiting).json() == 1


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_connection_that_ends_this_very_moment_is_as_good_as_none(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    dna = dna_of(await conductor.settle())
    assert (await stand.client.call(dna, "notes", "echo", 1)).json() == 1
    send, left = AppClient.call_zome, [times]

    async def fails_at_first(*words: Any, **more: Any) -> bytes:
        if left[0]:
            left[0] -= 1
            raise NotSentError("cannot send: the connection is closing")
        return await send(*words, **more)

    monkeypatch.setattr(AppClient, "call_zome", fails_at_first)
    assert (await stand.client.call(dna, "notes", "echo", 2)).json() == 2
    assert (left, conductor.calls()) == ([0], 2)


async def test_a_call_that_waited_for_its_turn_still_has_all_its_time(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONDUCTOR_REQUESTS", 1)
    monkeypatch.setattr(limits, "GATEWAY_CALL_TIMEOUT_S", 1.0)
    dna = dna_of(await conductor.settle())

    async def nap(_: Call) -> str:
        await asyncio.sleep(0.6)
        return "rested"

    conductor.fake.happs.functions["notes", "nap"] = nap
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(stand.client.call(dna, "notes", "nap")) for _ in range(2)]
    assert [(await call).body for call in calls] == [b'"rested"'] * 2


async def test_a_call_that_finds_no_conductor_in_time_was_not_sent(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_CALL_TIMEOUT_S", SOON_S)
    dna = dna_of(await conductor.settle())
    await conductor.kill()
    before_s = time.monotonic()
    reply = await stand.client.call(dna, "notes", "count_notes")
    assert reply.essence == (502, "application/json", contract.UNREACHABLE.body)
    assert time.monotonic() - before_s >= SOON_S
    await conductor.start()
    await conductor.settle()
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 0


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_call_whose_answer_is_lost_was_made_once_and_is_not_repeated(
    conductor: Conductor, stand: Stand, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    dna = dna_of(await conductor.settle())
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 0
    monkeypatch.setattr(limits, "GATEWAY_CALL_TIMEOUT_S", SOON_S)
    conductor.fake.faults["call_zome"] = fault
    note = {"title": "once", "body": ""}
    reply = await stand.client.call(dna, "notes", "create_note", note)
    assert reply.essence == (500, "application/json", contract.FAILED.body)
    del conductor.fake.faults["call_zome"]
    monkeypatch.undo()
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 1


async def test_who_hangs_up_before_the_call_was_sent_has_not_made_it(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    await conductor.kill()
    note = payload({"title": "never", "body": ""})
    target = f"/{dna}/notes/notes/create_note?payload={note}"
    _, writer = await asyncio.open_connection("127.0.0.1", stand.client.port)
    writer.write(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    await asyncio.sleep(SOON_S)
    writer.close()
    await asyncio.sleep(SOON_S)
    await conductor.start()
    await conductor.settle()
    assert (await stand.client.call(dna, "notes", "count_notes")).json() == 0


async def test_who_hangs_up_after_it_was_sent_has_made_it(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its place until it is answered: the conductor works on it all the same."""
    monkeypatch.setattr(limits, "CONDUCTOR_REQUESTS", 1)
    dna = dna_of(await conductor.settle())
    _, writer = await asyncio.open_connection("127.0.0.1", stand.client.port)
    writer.write(f"GET /{dna}/notes/notes/wait HTTP/1.1\r\n\r\n".encode())
    await until(lambda: conductor.waiting)
    writer.close()
    async with asyncio.TaskGroup() as group:
        second = group.create_task(stand.client.call(dna, "notes", "count_notes"))
        await asyncio.sleep(SOON_S)
        assert not second.done()
        conductor.release.set()
    assert (await second).json() == 0


async def test_calls_beyond_the_bound_are_refused_at_once_and_only_they(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_CALLS_PER_APP", 2)
    dna, other = dna_of(await conductor.settle()), dna_of(await conductor.settle("other"))
    await stand.declare(route(), route("other"))
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(stand.client.call(dna, "notes", "wait")) for _ in range(2)]
        await until(lambda: conductor.waiting == 2)
        third = await stand.client.call(dna, "notes", "echo")
        assert third.essence == (502, "application/json", contract.UNREACHABLE.body)
        assert (await stand.client.call(other, "other", "echo", 1)).json() == 1
        conductor.release.set()
    assert [(await each).json() for each in slow] == ["waited", "waited"]


@contextlib.asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """Listen, and never say anything."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_happ_whose_conductor_is_gone_or_mute_does_not_disturb_another(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    async with mute() as port, asyncio.TaskGroup() as group:
        hand_over(stand.access, opened("gone", conductors.free_port()))
        hand_over(stand.access, opened("mute", port))
        await stand.declare(route(), route("gone"), route("mute"))
        hanging = [
            group.create_task(stand.client.call(gateways.DNA_TEXT, name, "echo"))
            for name in ("gone", "mute")
            for _ in range(20)
        ]
        for number in range(50):
            assert (await stand.client.call(dna, "notes", "echo", number)).json() == number
        assert not any(each.done() for each in hanging)
        for each in hanging:
            each.cancel()


async def test_a_happ_on_another_host_is_out_of_reach_for_now(stand: Stand) -> None:
    await stand.declare(route("far", host="elsewhere"))
    reply = await stand.client.call(gateways.DNA_TEXT, "far", "echo")
    assert reply.essence == (502, "application/json", contract.UNREACHABLE.body)


async def test_what_may_be_called_changes_with_the_routes(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    assert (await stand.client.call(dna, "notes", "echo")).status == 200
    await stand.declare(route(functions=("notes/list_*",)))
    assert (await stand.client.call(dna, "notes", "echo")).json() == {
        "error": "Function echo in zome notes in app notes is not allowed"
    }
    await stand.declare()
    assert (await stand.client.call(dna, "notes", "echo")).body == contract.NOT_LISTED.body


async def test_a_gateway_that_starts_with_nobody_there_serves_what_it_knew(
    conductor: Conductor, tmp_path: Path
) -> None:
    dna = dna_of(await conductor.settle())
    async with gateways.standing(tmp_path, route()) as stand:
        assert (await stand.client.call(dna, "notes", "echo", 1)).json() == 1
    hub = FakeHub()
    hub.stop()
    async with gateways.running(tmp_path, hub) as client:
        assert (await client.call(dna, "notes", "echo", 1)).json() == 1
        hub.start()
        async with orchestrating(hub, route(functions=("no/ne",))):
            await until(lambda: b"no/ne" in (tmp_path / "gateway/routes.json").read_bytes())
            assert (await client.call(dna, "notes", "echo", 1)).status == 403


async def test_without_a_host_agent_beside_it_every_happ_is_elsewhere(tmp_path: Path) -> None:
    async with gateways.standing(tmp_path, route(), with_host=False) as stand:
        assert (await stand.client.call(gateways.DNA_TEXT, "notes", "echo")).status == 502


async def test_when_it_stops_what_is_under_way_is_finished(
    conductor: Conductor, tmp_path: Path
) -> None:
    dna = dna_of(await conductor.settle())
    async with asyncio.TaskGroup() as group:
        async with gateways.standing(tmp_path, route()) as stand:
            call = group.create_task(stand.client.call(dna, "notes", "wait"))
            await until(lambda: conductor.waiting)
            asyncio.get_running_loop().call_later(0.05, conductor.release.set)
        assert (await call).json() == "waited"


async def test_a_request_id_is_repeated_if_it_is_one_and_made_if_not(stand: Stand) -> None:
    given = "Root=1-5759e988/bd862e3fe"
    assert (await stand.client.ask("/health", X_Request_Id=given)).headers[
        "x-request-id"
    ] == given.lower()
    for bad in ("", "two words", "a" * 129, "a\tb", '"'):
        made = (await stand.client.ask("/health", X_Request_Id=bad)).headers["x-request-id"]
        assert made not in ("", bad.lower())
    assert (await stand.client.ask("/nothing")).headers["x-request-id"]


async def test_a_failed_call_is_logged_with_its_id_and_without_secrets(
    conductor: Conductor, stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hivekeeper")
    opens = await conductor.settle()
    dna = dna_of(opens)
    assert (await stand.client.call(dna, "notes", "echo")).status == 200
    secret = "what only they know"
    failed = await stand.client.call(dna, "notes", "fail", "because")
    assert f"request {failed.headers['x-request-id']}: /{dna}/notes/notes/fail" in caplog.text
    await stand.client.ask(f"/{dna}/notes/notes/nothing?payload={payload(secret)}")
    (cell,) = opens.cells.values()
    revoke(conductor.fake)
    await stand.client.call(dna, "notes", "echo")
    (stand.access / "broken.json").write_bytes(access.encode(opens)[:-40])
    await conductor.kill()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(stand.client.call(dna, "notes", "echo"))
        await until(lambda: "cannot connect" in caplog.text and "broken.json" in caplog.text)
        waiting.cancel()
    secrets = [opens.token, cell.credentials.seed, cell.credentials.cap_secret, secret.encode()]
    told = caplog.text.encode()
    for each in secrets:
        for form in (each, base64.b64encode(each), each.hex().encode(), str(list(each)).encode()):
            assert form[:20] not in told
    assert b"cap secret" not in told


def revoke(fake: FakeConductor) -> None:
    for each in fake.happs._grants:
        each.revoked = True


async def test_a_happ_that_is_taken_back_is_gone_but_what_is_under_way_ends_well(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    async with asyncio.TaskGroup() as group:
        call = group.create_task(stand.client.call(dna, "notes", "wait"))
        await until(lambda: conductor.waiting)
        (stand.access / "notes.json").unlink()
        await until_answered(stand, f"/{dna}/notes/notes/echo", 404)
        conductor.release.set()
    assert (await call).json() == "waited"
    await conductor.settle()
    assert (await stand.client.call(dna, "notes", "echo", 1)).json() == 1


async def until_answered(stand: Stand, target: str, status: int) -> None:
    async with asyncio.timeout(gateways.LONG_S):
        while (await stand.client.ask(target)).status != status:
            await asyncio.sleep(0.01)


async def test_a_large_result_comes_whole_and_keeps_nobody_waiting(
    conductor: Conductor, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    dna = dna_of(await conductor.settle())
    transcoding, where = transcode.to_json, []

    def noted(result: bytes) -> bytes:
        where.append(threading.current_thread() is threading.main_thread())
        return transcoding(result)

    monkeypatch.setattr(transcode, "to_json", noted)
    conductor.fake.happs.functions["notes", "large"] = lambda _: b"\xff" * 1_000_000
    reply = await stand.client.call(dna, "notes", "large")
    assert reply.body == b"[" + b"255," * 999_999 + b"255]"
    assert (await stand.client.call(dna, "notes", "echo", 1)).json() == 1
    assert where == [False, True]


GARBAGE = [
    b"\x00\x01\x02\r\n\r\n",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /caf\xc3\xa9 HTTP/1.1\r\n\r\n",
    b"GET /caf\xe9 HTTP/1.1\r\n\r\n",
    b"GET http://x HTTP/1.1\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"FOO / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("data", GARBAGE)
async def test_what_is_no_http_is_a_bad_request_and_harms_nobody(
    stand: Stand, data: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.client.port)
    writer.write(data)
    writer.write_eof()
    answer = gateways.parse(await reader.read())
    writer.close()
    assert answer.status in (0, 400, 404)
    assert (await stand.client.ask("/health")).body == b"Ok"


async def test_a_websocket_is_answered_as_if_it_had_asked_for_a_page(stand: Stand) -> None:
    reply = await stand.client.ask(
        "/health", Upgrade="websocket", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="
    )
    assert reply.essence == (200, "text/plain; charset=utf-8", b"Ok")


async def test_many_requests_on_one_connection_are_answered_in_order(
    conductor: Conductor, stand: Stand
) -> None:
    dna = dna_of(await conductor.settle())
    targets = [f"/{dna}/notes/notes/echo?payload={payload(number)}" for number in range(20)]
    requests = [f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n" for target in targets]
    last = "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
    answers = await stand.client.send("".join([*requests, last]).encode())
    bodies = [each.split(b"HTTP/1.1")[0] for each in answers.split(b"\r\n\r\n")[1:]]
    assert bodies == [*(str(number).encode() for number in range(20)), b"Ok"]
