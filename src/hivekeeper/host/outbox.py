"""What a host has to say: the newest report of each workload, repeated until it is stored.

One message at a time, with all that has changed; a newer report replaces an older one that was not
sent yet.
"""

import logging
from typing import Final

from hivekeeper.aio.wake import Wake
from hivekeeper.model import limits
from hivekeeper.model.allocation import Report
from hivekeeper.model.errors import TransientError, UserError
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.ports import Bus, Clock
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import ReportMessage, ReportReply

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_LIVES: Final = 2**32
"""Messages a life of the agent may send.

Report numbers grow over its restarts without a write for each.
"""
_BATCH_BYTES: Final = limits.MESSAGE_BYTES * 3 // 4


class Outbox:
    """Reports on their way.

    Args:
        life: How often the agent began on this host, this time included.
    """

    def __init__(self, host: HostId, bus: Bus, clock: Clock, *, life: int) -> None:
        self._host, self._bus, self._clock = host, bus, clock
        self._number = life * _LIVES
        self._waiting: dict[WorkloadName, Report] = {}
        self._wake = Wake()

    def put(self, report: Report) -> None:
        """Have `report` told, instead of what was not told yet of the same workload."""
        self._waiting[report.workload] = report
        self._wake.set()

    async def run(self) -> None:
        """Send what waits, again and again until it is stored."""
        while True:
            if not self._waiting:
                await self._wake.wait(limits.RECONCILE_S)
                continue
            batch = self._batch()
            if await self._send(batch):
                self._waiting = {
                    name: report
                    for name, report in self._waiting.items()
                    if batch.get(name) is not report
                }
            else:
                await self._wake.wait(_RETRY_S * (1 + self._clock.random()))

    def _batch(self) -> dict[WorkloadName, Report]:
        """As many as fit one message, the longest waiting first."""
        batch: dict[WorkloadName, Report] = {}
        size = 0
        for name, report in self._waiting.items():
            size += len(messages.encode(report))
            if batch and (size > _BATCH_BYTES or len(batch) == limits.ALLOCATIONS_PER_HOST):
                break
            batch[name] = report
        return batch

    async def _send(self, batch: dict[WorkloadName, Report]) -> bool:
        self._number += 1
        message = ReportMessage(number=self._number, reports=tuple(batch.values()))
        try:
            answer = await self._bus.request(
                subjects.report(self._host),
                messages.encode(message),
                timeout_s=limits.REQUEST_TIMEOUT_S,
            )
            return messages.decode(answer, ReportReply).number == self._number
        except TransientError as error:
            log.debug("report %d: %s", self._number, error)
        except UserError as error:
            log.warning("report %d was refused: %s", self._number, error)
        return False
