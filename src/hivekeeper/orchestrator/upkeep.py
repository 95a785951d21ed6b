"""Loops on a timer: who has fallen silent, and what is kept only for a time.

What counts as silent is decided by `Hearing`, what is told of it by `Teller`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from hivekeeper.aio.complaints import Complaints
from hivekeeper.core import lifecycle
from hivekeeper.model import limits
from hivekeeper.model.allocation import Actual
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import HostId
from hivekeeper.orchestrator.fleet import Fleet, Write
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.ports import Clock

log = logging.getLogger(__name__)

_LIVENESS_S: Final = 1.0
_PRUNE_S: Final = 60.0


class Liveness:
    """Notices hosts that fall silent or are heard of again, and tells it.

    Args:
        look: Told that other hosts may be chosen than before.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        hearing: Hearing,
        teller: Teller,
        clock: Clock,
        look: Callable[[], None],
    ) -> None:
        self._fleet, self._hearing, self._teller = fleet, hearing, teller
        self._clock, self._look = clock, look
        self._silent: frozenset[HostId] = frozenset()
        self._looked_s = clock.now_s()

    async def run(self) -> None:
        """Look about once a second, for ever."""
        complaints = Complaints(log, "liveness")
        while True:
            try:
                await self.look()
            except TransientError as error:
                complaints.say(str(error))
            await asyncio.sleep(_LIVENESS_S * (0.8 + 0.4 * self._clock.random()))

    async def look(self) -> None:
        """Compare who is silent with who was."""
        now_s = self._clock.now_s()
        if now_s - self._looked_s > self._hearing.lost_after_s / 2:
            self._hearing.begin_anew()  # we were suspended, or starved: nobody could be heard
        self._looked_s = now_s
        hosts = self._fleet.present_hosts()
        silent = self._hearing.silent(hosts)
        changed = (silent ^ self._silent) & hosts.keys()
        for host in sorted(changed):
            await self._tell(host, silent=host in silent)
        self._silent = silent
        if changed:
            self._look()

    async def _tell(self, host: HostId, *, silent: bool) -> None:
        async with self._fleet.turn():
            writes = list(self._events(host, silent=silent))
            if writes:
                await self._fleet.commit(writes)

    def _events(self, host: HostId, *, silent: bool) -> Iterator[Write]:
        lost_after_s = self._hearing.lost_after_s
        for kept in self._fleet.allocations_on(host):
            facts = self._hearing.facts(kept, self._fleet.report(kept.value))
            if lifecycle.word(facts) is not Actual.UNINSTALLED:
                event = self._teller.silence(kept.value, silent=silent, lost_after_s=lost_after_s)
                if event is not None:
                    yield event


class Pruning:
    """Removes what is kept for a time: events, invitations, answers to requests with a key."""

    def __init__(self, *, fleet: Fleet, clock: Clock) -> None:
        self._fleet, self._clock = fleet, clock

    async def run(self) -> None:
        """Look about once a minute, for ever."""
        while True:
            try:
                await self.prune()
            except TransientError as error:
                log.warning("pruning: %s", error)
            await asyncio.sleep(_PRUNE_S * (0.8 + 0.4 * self._clock.random()))

    async def prune(self) -> None:
        """Remove what is due."""
        while True:
            async with self._fleet.turn():
                due = list(self._due())[: limits.COMMIT_CHANGES]
                if not due:
                    return
                await self._fleet.commit(due)

    def _due(self) -> Iterator[Write]:
        fleet, now = self._fleet, self._clock.now()
        for key, invitation in fleet.invitations.kept.items():
            if invitation.value.expires_at <= now:
                yield fleet.invitations.drop(key)
        surplus = len(fleet.remembered.kept) - limits.IDEMPOTENCY_KEYS
        for number, (key, remembered) in enumerate(fleet.remembered.kept.items()):
            if number < surplus or remembered.value.until <= now:
                yield fleet.remembered.drop(key)
        surplus = len(fleet.events.kept) - limits.EVENTS_KEPT
        for _, key in zip(range(surplus), fleet.events.kept, strict=False):
            yield fleet.events.drop(key)
