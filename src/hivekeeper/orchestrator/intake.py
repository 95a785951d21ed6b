"""Reports of hosts: stored, then acknowledged.

What came while one commit was under way is the next one, of many hosts together, and after each
comes a rest as long as the work: however much hosts have to say, half of the time is for
everybody else. Believes a host only about what it was told to do.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.wake import Wake
from hivekeeper.core import lifecycle
from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Phase, Report
from hivekeeper.model.errors import HiveError, PermissionRefusedError
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.orchestrator import records
from hivekeeper.orchestrator.fleet import Fleet, Kept, Write
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.records import Heard
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.ports import Clock
from hivekeeper.wire import messages
from hivekeeper.wire.messages import ReportMessage

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
_REPORT_BYTES: Final = limits.RECORD_BYTES // 4
_ERROR_CHARACTERS: Final = 16_384
"""Kept of an error: a whole one with its context, but no flood."""


@dataclass(frozen=True, slots=True, eq=False)
class _Letter:
    """A report that somebody waits to be told is stored."""

    host: HostId
    message: ReportMessage
    stored: asyncio.Future[None]


class Intake:
    """Takes reports.

    Args:
        look: Told of which workloads something may have to be done.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        hearing: Hearing,
        teller: Teller,
        clock: Clock,
        look: Callable[[set[WorkloadName]], None],
    ) -> None:
        self._fleet, self._hearing, self._teller, self._clock = fleet, hearing, teller, clock
        self._look = look
        self._complaints = Complaints(log, "reports")
        self._waiting: list[_Letter] = []
        self._wake = Wake()

    async def take(self, host: HostId, message: ReportMessage) -> None:
        """Return once `message` is stored; one that was stored before is not stored again.

        Raises:
            PermissionRefusedError: The host has left.
            TransientError: It could not be stored; the host says it again.
        """
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append(_Letter(host, message, stored))
        self._wake.set()
        await stored

    async def run(self) -> None:
        """Store what waits, for ever."""
        while True:
            if not self._waiting:
                await self._wake.wait(_IDLE_S)
                continue
            began_s = self._clock.now_s()
            await self._store(self._next())
            await asyncio.sleep(self._clock.now_s() - began_s)

    def _next(self) -> list[_Letter]:
        """Return letters for one commit, one a host, the longest waiting first."""
        batch: dict[HostId, _Letter] = {}
        room = limits.COMMIT_CHANGES
        for letter in self._waiting:
            most = _most_writes(letter.message)
            if letter.host in batch or letter.stored.done():
                continue
            if batch and most > room:
                break
            batch[letter.host], room = letter, room - most
        taken = set(batch.values())
        self._waiting = [
            each for each in self._waiting if each not in taken and not each.stored.done()
        ]
        return list(batch.values())

    async def _store(self, batch: list[_Letter]) -> None:
        try:
            async with self._fleet.turn():
                fresh = [letter for letter in batch if self._is_fresh(letter)]
                writes = [write for letter in fresh for write in self._writes(letter)]
                if writes:
                    await self._fleet.commit(writes[: limits.COMMIT_CHANGES])
        except HiveError as error:
            self._complaints.say(str(error))
            for letter in batch:
                _settle(letter, error)
            return
        for letter in batch:
            _settle(letter, None)
        reports = [report for letter in fresh for report in letter.message.reports]
        self._look({each.workload for each in reports if each.phase is Phase.GONE})

    def _is_fresh(self, letter: _Letter) -> bool:
        """Whether it is to be stored; one who has left is told so."""
        host = self._fleet.hosts.get(letter.host)
        if host is None or host.left_at is not None:
            _settle(
                letter, PermissionRefusedError(f"cannot take a report: {letter.host} has left")
            )
            return False
        heard = self._fleet.heard.get(letter.host)
        return heard is None or letter.message.number > heard.number

    def _writes(self, letter: _Letter) -> Iterator[Write]:
        """Yield what to store, what may be left out last."""
        fleet, host, message = self._fleet, letter.host, letter.message
        yield fleet.heard.put(host, Heard(number=message.number))
        known = {kept.value.workload: kept for kept in fleet.allocations_on(host)}
        said = {report.workload: report for report in message.reports if report.workload in known}
        told = []
        for name, report in said.items():
            before = fleet.report(known[name].value)
            if report != before:
                yield fleet.reports.put(records.placed(host, name), _bounded(report))
                told.append((known[name], before, report))
        if message.complete:
            for name in known.keys() - said.keys():
                if fleet.report(known[name].value) is not None:
                    yield fleet.reports.drop(records.placed(host, name))
        for each in told:
            yield from self._tell(*each)

    def _tell(
        self, allocation: Kept[Allocation], before: Report | None, report: Report
    ) -> Iterator[Write]:
        word = lifecycle.word(self._hearing.facts(allocation, report))
        event = self._teller.report(allocation.value, before, report, word)
        if event is not None:
            yield event


def _most_writes(message: ReportMessage) -> int:
    """Return how many writes storing `message` takes at most: for each report, and an event."""
    forgotten = limits.ALLOCATIONS_PER_HOST if message.complete else 0
    return 1 + 2 * len(message.reports) + forgotten


def _bounded(report: Report) -> Report:
    """Return `report` as it is stored: no host fills the store with words."""
    if len(report.error) > _ERROR_CHARACTERS:
        report = replace(report, error=report.error[:_ERROR_CHARACTERS])
    if len(messages.encode(report)) > _REPORT_BYTES:
        report = replace(report, facts={}, hint="", doing="", ports={})
    return report


def _settle(letter: _Letter, error: HiveError | None) -> None:
    if letter.stored.done():
        return
    if error is None:
        letter.stored.set_result(None)
    else:
        letter.stored.set_exception(error)
