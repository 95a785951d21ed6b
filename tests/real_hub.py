"""A real nats-server for a test: on a free port, in the test's folder, gone when the test is."""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hivekeeper.adapters import keys, nats, nats_server
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.adapters.nats_server import Hub
from hivekeeper.model.ids import HostId
from hivekeeper.ports import Bus
from hivekeeper.wire import authority
from hivekeeper.wire.authority import User

ALPHA, BETA = HostId("alpha"), HostId("beta")
START_S = 20.0
"""How long a test waits for the server on a machine that is busy with other things."""
_OWN = (authority.ORCHESTRATOR, authority.GATEWAY, authority.JOINER, authority.SYSTEM)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealHub:
    """A hub with two hosts and their edges, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        program = nats_server.find_program(path=os.defpath)
        self.hub = Hub(RealDisk(), folder / "hub", program=program, port=self.port)
        names = (ALPHA, BETA)
        members = [make(name) for name in names for make in (authority.host, authority.edge)]
        self.seeds = {user: keys.new_seed() for user in members}
        self.server: subprocess.Popen[bytes] | None = None

    def members(self) -> dict[User, str]:
        """Return the public keys of hosts and edges."""
        return {user: keys.public_key(seed) for user, seed in self.seeds.items()}

    def seed(self, user: User) -> str:
        """Return what `user` proves itself with."""
        return self.hub.seed(user) if user in _OWN else self.seeds[user]

    async def start(self) -> None:
        """Start the server, and wait until it listens."""
        self.server = self._spawn()
        async with asyncio.timeout(START_S):
            while not await self._listens():
                assert self.server.poll() is None, (self.folder / "hub.log").read_text()
                await asyncio.sleep(0.005)

    def kill(self) -> None:
        """Kill -9."""
        if self.server is not None:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()
            self.server = None

    def connect(self, user: User) -> AbstractAsyncContextManager[Bus]:
        """Be `user` while the context lasts."""
        return nats.connect(self.hub.url, user, self.seed(user), name=f"test {user.name}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self.folder / "hub.log").open("ab") as log:
            return subprocess.Popen(self.hub.command(), stderr=log, start_new_session=True)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


async def started(folder: Path) -> RealHub:
    """Return a hub that runs, with all its hosts and edges let in; to be killed in the end."""
    real = RealHub(folder)
    real.hub.prepare()
    try:
        await real.start()
        await real.hub.admit(real.members())
    except BaseException:
        real.kill()
        raise
    return real
