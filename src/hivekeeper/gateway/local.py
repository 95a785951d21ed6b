"""A hApp on the gateway's own host: one connection to its app interface, kept and renewed.

The connection is opened when a call needs it, and again when it has ended. A conductor that
restarts forgets its tokens, so what opens the connection (`Access`) is replaced from outside.
Calls wait for a connection, and for a place on it, within their time. What was sent is never sent
again. Talks to no admin interface, and reads no files.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hivekeeper.aio.beside import beside
from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.news import News
from hivekeeper.aio.wake import Wake
from hivekeeper.gateway.contract import ZomeCall
from hivekeeper.gateway.targets import HungUp
from hivekeeper.holochain import app
from hivekeeper.holochain.access import Access
from hivekeeper.holochain.app import AppClient
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.errors import NotSentError
from hivekeeper.holochain.hashes import DnaHash
from hivekeeper.holochain.signing import Signer
from hivekeeper.model import limits
from hivekeeper.model.errors import HiveError
from hivekeeper.model.ids import WorkloadName
from hivekeeper.ports import Clock

log = logging.getLogger(__name__)

_LOOPBACK: Final = "127.0.0.1"
_RETRY_S: Final = 0.1
"""Only while calls wait, and on this machine: a refused connection costs next to nothing."""


class LocalApp:
    """One hApp; its connection lives in `group`.

    Args:
        workload: Whose hApp it is, for people.
        group: Where tasks may be started.
        clock: For signed calls.
        look: Called when the connection could not be opened: perhaps `Access` is outdated.
    """

    def __init__(
        self,
        workload: WorkloadName,
        group: asyncio.TaskGroup,
        clock: Clock,
        look: Callable[[], object],
    ) -> None:
        self._name = f"the hApp of {workload}"
        self._group, self._clock, self._look = group, clock, look
        self._access: Access | None = None
        self._cells: dict[DnaHash, tuple[CellId, Signer]] = {}
        self._client: AppClient | None = None
        self._holder: asyncio.Task[None] | None = None
        self._news = News()
        self._renewed = Wake()
        self._calls = 0
        self._places = asyncio.Semaphore(limits.CONDUCTOR_REQUESTS)
        self._complaints = Complaints(log, self._name)

    def update(self, access: Access | None) -> None:
        """Take what opens the hApp from now on; None: nothing does.

        A connection that is open stays so, and calls under way on it are not disturbed.
        """
        self._access = access
        self._cells = {
            each.cell.dna_hash: (each.cell, Signer(each.credentials))
            for each in (access.cells.values() if access else ())
        }
        self._renewed.set()
        self._news.tell()

    def serves(self, call: ZomeCall) -> bool:
        """Return whether `call` names this hApp and one of its DNAs."""
        return (
            self._access is not None
            and self._access.installed_app_id == call.app_id
            and call.dna_hash in self._cells
        )

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._calls == 0

    def close(self) -> None:
        """Let go of the connection; to be called when idle."""
        if self._holder is not None:
            self._holder.cancel()

    async def call(self, call: ZomeCall, argument: bytes, hung_up: HungUp) -> bytes:
        """See `targets.Target`."""
        if self._calls >= limits.GATEWAY_CALLS_PER_APP:
            raise NotSentError(f"cannot call {self._name}: {self._calls} calls are under way")
        self._calls += 1
        try:
            if self._client is not None and not self._places.locked():
                with suppress(NotSentError):  # it ended this very moment: then as all others
                    async with self._places:
                        return await self._send(self._client, call, argument)
            return await self._send_in_turn(call, argument, hung_up)
        finally:
            self._calls -= 1

    async def _send_in_turn(self, call: ZomeCall, argument: bytes, hung_up: HungUp) -> bytes:
        """Send it once there is a connection and a place on it, if somebody still cares."""
        try:
            async with (
                asyncio.timeout(limits.GATEWAY_CALL_TIMEOUT_S) as waiting,
                beside(_cut_short(waiting, hung_up), name="hang-up"),
                self._places,
            ):
                until = waiting.when()
                while True:
                    client = await self._open()
                    waiting.reschedule(None)  # once sent, all the time there is is the answer's
                    try:
                        return await self._send(client, call, argument)
                    except NotSentError:
                        waiting.reschedule(until)
        except TimeoutError as error:
            raise NotSentError(f"cannot call {self._name}: no connection in time") from error

    async def _send(self, client: AppClient, call: ZomeCall, argument: bytes) -> bytes:
        cell, signer = self._cell(call)
        return await client.call_zome(
            signer, cell, call.zome, call.fn, argument, timeout_s=limits.GATEWAY_CALL_TIMEOUT_S
        )

    def _cell(self, call: ZomeCall) -> tuple[CellId, Signer]:
        found = self._cells.get(call.dna_hash)
        if found is None:
            raise NotSentError(f"cannot call {self._name}: it is not that DNA's any more")
        return found

    async def _open(self) -> AppClient:
        """Return a connection that is open, waiting for one as long as it takes."""
        while self._client is None or self._client.connection.closed:
            if self._access is not None and self._holder is None:
                holding = self._hold(self._access)
                self._holder = self._group.create_task(holding, name=f"calls {self._name}")
            await self._news.wait()
        return self._client

    async def _hold(self, access: Access) -> None:
        """Open the connection and keep it until it ends."""
        try:
            async with app.connect(
                _LOOPBACK, access.app_port, access.token, clock=self._clock
            ) as client:
                self._client = client
                self._complaints.forget()
                self._news.tell()
                await client.connection.wait_closed()
        except HiveError as error:
            self._complaints.say(str(error))
            self._look()
            await self._renewed.wait(_RETRY_S)
        finally:
            self._client = self._holder = None
            self._news.tell()


async def _cut_short(waiting: asyncio.Timeout, hung_up: HungUp) -> None:
    """End the waiting when nobody cares for the answer; too late once the call is sent."""
    await hung_up()
    if waiting.when() is not None and not waiting.expired():
        waiting.reschedule(asyncio.get_running_loop().time())
