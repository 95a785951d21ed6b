"""Which host serves which hApp, and which functions of it may be called.

Asked for on a timer and when woken; kept in memory, and on disk for when nobody can be asked. What
was last known holds until something newer is: a gateway needs nobody to go on.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.wake import Wake
from hivekeeper.gateway.functions import Functions
from hivekeeper.model import limits
from hivekeeper.model.errors import HiveError, TransientError
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.ports import Bus, Clock, Disk
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import RoutesReply

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One workload that serves a hApp."""

    workload: WorkloadName
    host: HostId
    functions: Functions


class Routes:
    """All ways to all hApps, as far as is known.

    Args:
        bus: To the orchestrator.
        disk: Keeps them.
        file: Where.
        clock: For jitter.
    """

    def __init__(self, bus: Bus, disk: Disk, file: Path, clock: Clock) -> None:
        self._bus, self._disk, self._file, self._clock = bus, disk, file, clock
        self._wake = Wake()
        self._known: RoutesReply | None = None
        self._kept: RoutesReply | None = None
        self._ways: dict[str, list[Way]] = {}
        self._complaints = Complaints(log, "routes")

    def ways(self, app_id: str) -> Sequence[Way]:
        """Return the workloads that serve a hApp; none if nobody declared it."""
        return self._ways.get(app_id, ())

    def load(self) -> None:
        """Begin with what is on disk."""
        try:
            data = self._disk.read(self._file)
            if data is not None:
                self._kept = messages.decode(data, RoutesReply)
                self._take(self._kept)
        except HiveError as error:
            self._complaints.say(f"{self._file}: {error}")

    async def follow(self) -> None:
        """Keep up with what the orchestrator says, until cancelled."""
        async with self._bus.subscribe(subjects.ROUTES_WAKE, lambda _: self._wake.set()):
            while True:
                await self._ask()
                jitter = 0.8 + 0.4 * self._clock.random()
                await self._wake.wait(limits.GATEWAY_ROUTES_S * jitter)

    async def _ask(self) -> None:
        try:
            data = await self._bus.request(
                subjects.ROUTES, b"", timeout_s=limits.REQUEST_TIMEOUT_S
            )
            reply = messages.decode(data, RoutesReply)
            if reply != self._known:
                self._take(reply)
            if reply != self._kept:
                await asyncio.to_thread(self._disk.write, self._file, messages.encode(reply))
                self._kept = reply
            self._complaints.forget()
        except TransientError as error:
            self._complaints.say(f"{error}; what was last known holds")
        except HiveError as error:
            self._complaints.say(str(error))

    def _take(self, reply: RoutesReply) -> None:
        ways: dict[str, list[Way]] = {}
        for route in reply.routes:
            way = Way(
                workload=route.workload,
                host=HostId(route.host),
                functions=Functions(route.functions),
            )
            ways.setdefault(route.app_id, []).append(way)
        self._known, self._ways = reply, ways
