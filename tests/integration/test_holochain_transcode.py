"""Holochain's own gateway, asked for the same call, answers in the same bytes.

The real `hc-http-gw` calls our fake conductor: so the fake is one that it can use, too.
"""

import asyncio
import base64
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

import conductors
from hivekeeper.holochain import admin, connection, hashes, transcode
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import HiveError

pytestmark = pytest.mark.conductor

LONG_S = 20.0
Get = Callable[[bytes | None], Awaitable[tuple[int, bytes]]]
VALUES: list[Any] = [None, True, -1, 2**64 - 1, 1.0, 1e16, 5e-324, 'a"\\/\n\x7f\u2028😀', [], {}]
VALUES += [b"\x00\xff", {"b": [b"\x01"], "a": {}}]
RESULTS = [
    *map(msgspec.msgpack.encode, VALUES),
    b"\xca" + struct.pack(">f", 0.1),
    b"\xcb" + struct.pack(">d", float("nan")),
    b"\x81\x01\x02",  # a number as key
    b"\x81\xc4\x01a\x02",  # bytes as key
    b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
    b"\xc1",
    b"\x92\x01",
]
ARGUMENTS = [
    b"null",
    b'{"b": 1, "a": [1.0, -5, 1e40]}',
    b"[1e400]",
    b"18446744073709551616",
    b'"\\ud800"',
    b"[" * 127 + b"]" * 127,
    b"[" * 128 + b"]" * 128,
    b"",
    b" 1 ",
    b"1 2",
    b"NaN",
    b'"\xff"',
    b'{"a":1,"a":2}',
    '"ä\\u00e4"'.encode(),
]


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[Get, dict[str, Any]]]:
    """Yield what asks the real gateway for `notes/echo`, and what the zome is to answer."""
    program = conductors.real_program().with_name("hc-http-gw")
    if not program.exists():
        pytest.skip("there is no hc-http-gw beside the conductor")
    fake = conductors.fake_conductor()
    says: dict[str, Any] = {}
    fake.happs.functions["notes", "echo"] = lambda call: says.get("result", call.argument)
    port = conductors.free_port()
    async with fake.running(), connection.connect("127.0.0.1", fake.admin_port) as opened:
        source = Tagged("path", str(conductors.NOTES))
        payload = admin.InstallAppPayload(source=source, installed_app_id="notes")
        info = await opened.ask(admin.INSTALL_APP, payload)
        await opened.ask(admin.ENABLE_APP, admin.AppId("notes"))
        dna = hashes.text(info.provisioned()["notes"].dna_hash)
        environ = {
            "HC_GW_ADMIN_WS_URL": f"ws://127.0.0.1:{fake.admin_port}",
            "HC_GW_ALLOWED_APP_IDS": "notes",
            "HC_GW_ALLOWED_FNS_notes": "*",
            "HC_GW_PORT": str(port),
        }
        gateway = start(program, environ, tmp_path / "log")
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                await until_up(session)

                async def get(argument: bytes | None) -> tuple[int, bytes]:
                    coded = None if argument is None else base64.urlsafe_b64encode(argument)
                    query = {} if coded is None else {"payload": coded.decode()}
                    async with session.get(f"/{dna}/notes/notes/echo", params=query) as answer:
                        return answer.status, await answer.read()

                yield get, says
        finally:
            gateway.kill()
            gateway.wait()


def start(program: Path, environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([program], env=environ, stdout=file, stderr=file)


async def until_up(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                async with session.get("/health"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


async def test_results_are_the_same_there_and_here(asked: tuple[Get, dict[str, Any]]) -> None:
    get, says = asked
    for packed in RESULTS:
        says["result"] = msgspec.Raw(packed)
        status, theirs = await get(None)
        assert (status, theirs if status == 200 else b"") == ours_of(packed), packed


async def test_arguments_are_the_same_there_and_here(asked: tuple[Get, dict[str, Any]]) -> None:
    get, _ = asked
    for argument in ARGUMENTS:
        status, theirs = await get(argument)
        try:
            ours = ours_of(transcode.to_msgpack(argument))
        except HiveError:
            ours = (400, b"")
        assert (status, theirs if status == 200 else b"") == ours, argument


def ours_of(packed: bytes) -> tuple[int, bytes]:
    try:
        return 200, transcode.to_json(packed)
    except HiveError:
        return 500, b""
