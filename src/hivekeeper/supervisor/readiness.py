"""Waits until a program shows that it is ready, in the way that its spec names.

Whoever waits sets the deadline: nothing here gives up, or decides what a late program deserves.
Connects to loopback only.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from hivekeeper.model import limits
from hivekeeper.model.policy import HttpProbe, Port, Readiness

FIRST_POLL_S: Final = 0.005
LAST_POLL_S: Final = 0.25
"""Looked at often while a fast start is possible, then less: after a tenth of the time waited."""

PROBE_TIMEOUT_S: Final = 5.0
"""A program that accepts a connection and then says nothing is asked anew."""

LOOPBACK: Final = ("127.0.0.1", "::1")

BLOCK_BYTES: Final = limits.MIB
"""Read of a log before others have their turn."""

GOOD: Final = range(200, 400)
"""The HTTP statuses of a program that is ready."""

_CREDENTIALS: Final = struct.Struct("3i")
"""What the kernel says of a sender: pid, uid, gid."""


async def shown(
    readiness: Readiness,
    *,
    log: Path,
    notify: socket.socket | None,
    belongs: Callable[[int], bool],
) -> None:
    """Return once the program is ready.

    Args:
        readiness: How it shows that.
        log: The file of this run's output.
        notify: Where it says so, if that is the way (`listen`).
        belongs: Whether a process is one of the program's.
    """
    if readiness.log is not None:
        await said(log, readiness.log)
    elif readiness.tcp is not None:
        await accepts(readiness.tcp)
    elif readiness.http is not None:
        await answers(readiness.http)
    else:
        assert notify is not None, "whoever starts it listens first"
        await notified(notify, belongs)


async def said(log: Path, text: str) -> None:
    """Return once `text` is in the log; read from its beginning, so that nothing is missed."""
    sought, offset, rest = text.encode(), 0, b""
    async for _ in _polls():
        while block := _read(log, offset):
            offset += len(block)
            if sought in rest + block:
                return
            rest = (rest + block)[-len(sought) :]
            await asyncio.sleep(0)


async def accepts(port: Port) -> None:
    """Return once something accepts connections on `port`."""
    async for _ in _polls():
        for host in LOOPBACK:
            with contextlib.suppress(OSError):  # among them TimeoutError
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return


async def answers(probe: HttpProbe) -> None:
    """Return once a GET is answered with 2xx or 3xx."""
    async for _ in _polls():
        for host in LOOPBACK:
            with contextlib.suppress(OSError, ValueError):  # no answer, or none in HTTP
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    if await _get(host, probe) in GOOD:
                        return


def listen(name: str) -> socket.socket:
    """Return a socket for sd_notify, bound in the abstract namespace; NOTIFY_SOCKET is `@name`.

    No file, so no folder that a program's user could not reach, no limit on its path, and no rest.
    Raises `OSError`.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listening.bind(f"\0{name}")
    except OSError:
        listening.close()
        raise
    return listening


async def notified(listening: socket.socket, belongs: Callable[[int], bool]) -> None:
    """Return once a process that belongs to the program has sent READY=1."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, heard.set)
    try:
        while True:
            await heard.wait()
            heard.clear()
            while (message := _receive(listening)) is not None:
                pid, lines = message
                if b"READY=1" in lines and belongs(pid):
                    return
    finally:
        loop.remove_reader(listening)


def _receive(listening: socket.socket) -> tuple[int, list[bytes]] | None:
    """Return the sender's pid and what it says; there is no room for files sent along."""
    try:
        data, extra, _, _ = listening.recvmsg(4096, socket.CMSG_LEN(_CREDENTIALS.size))
    except BlockingIOError:
        return None
    for level, kind, value in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return _CREDENTIALS.unpack(value)[0], data.split(b"\n")
    return 0, []


async def _get(host: str, probe: HttpProbe) -> int:
    """Return the status of the answer; raises `OSError` or `ValueError` if there is none."""
    reader, writer = await asyncio.open_connection(host, probe.port, limit=4096)
    try:
        request = f"GET {probe.path} HTTP/1.1\r\nHost: localhost:{probe.port}\r\n"
        writer.write(f"{request}User-Agent: hivekeeper\r\nConnection: close\r\n\r\n".encode())
        protocol, status, *_ = (await reader.readline()).split(maxsplit=2)
        if not protocol.startswith(b"HTTP/"):
            raise ValueError("not HTTP")
        return int(status)
    finally:
        writer.close()


def _read(log: Path, offset: int) -> bytes:
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, BLOCK_BYTES, offset)
    finally:
        os.close(fd)


async def _polls() -> AsyncIterator[None]:
    """Yield when it is time to look: at once, then again and again."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        yield
        waited_s = loop.time() - began_s
        await asyncio.sleep(min(max(waited_s / 10, FIRST_POLL_S), LAST_POLL_S))
