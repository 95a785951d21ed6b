"""The host agent: makes one host match its document, with or without anyone else there.

Level-triggered: what it obeys is the document on its disk, what it compares with is what the
keeper
holds; messages only make it look sooner. It takes orders from nobody but in answers to its own
requests.
"""

import asyncio
import logging
from typing import Final

from hivekeeper.aio.wake import Wake
from hivekeeper.core import documents
from hivekeeper.host import logs
from hivekeeper.host.outbox import Outbox
from hivekeeper.host.worker import Surroundings, Worker
from hivekeeper.model import ids, limits
from hivekeeper.model.errors import HiveError, TransientError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.program import ProgramStatus
from hivekeeper.ports import Bus
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import DocumentReply, DocumentRequest

log = logging.getLogger(__name__)

_KEEPER_RETRY_S: Final = 0.2
"""The keeper is back within a second, if it goes at all."""


class Agent:
    """One host.

    Args:
        host: Which one.
        bus: To the orchestrator, as this host's own user.
        around: What its workers share.
        outbox: Where their reports go.
    """

    def __init__(self, host: HostId, bus: Bus, around: Surroundings, outbox: Outbox) -> None:
        self._host, self._bus, self._around, self._outbox = host, bus, around, outbox
        self._wake = Wake()
        self._workers: dict[WorkloadName, Worker] = {}
        self._programs: dict[WorkloadName, ProgramStatus] | None = None
        self._poll_s = limits.HOST_POLL_S
        self._document = around.memory.document()

    async def run(self) -> None:
        """Serve until cancelled."""
        wake, logs_of = subjects.wake(self._host), subjects.logs(self._host)
        async with (
            self._bus.subscribe(wake, lambda _: self._wake.set()),
            self._bus.serve(
                logs_of, logs.answer(self._around.memory.folders, lambda: self._programs or {})
            ),
            asyncio.TaskGroup() as self._group,
        ):
            self._group.create_task(self._watch_programs(), name="programs")
            self._group.create_task(self._follow_document(), name="document")
            self._group.create_task(self._outbox.run(), name="outbox")

    async def _watch_programs(self) -> None:
        """Hand each worker what the keeper says, all of it again after each silence."""
        while True:
            try:
                await self._look_at_all()
                async for status in self._around.supervisor.changes():
                    self._observe(status)
            except TransientError as error:
                log.debug("keeper: %s", error)
            await asyncio.sleep(_KEEPER_RETRY_S)

    async def _look_at_all(self) -> None:
        held = await self._around.supervisor.status()
        self._programs = {name: each for each in held if (name := _workload(each)) is not None}
        for name, worker in self._workers.items():
            worker.observe(self._programs.get(name))
        self._obey_document()

    def _observe(self, status: ProgramStatus) -> None:
        name = _workload(status)
        if name is None or self._programs is None:
            return
        self._programs[name] = status
        if name in self._workers:
            self._workers[name].observe(status)

    async def _follow_document(self) -> None:
        """Ask for what is new, now and then and when woken."""
        while True:
            try:
                await self._fetch()
            except TransientError as error:
                log.debug("document: %s", error)
            except HiveError as error:
                log.warning("document: %s", error)
            await self._wake.wait(self._poll_s * (0.8 + 0.4 * self._around.clock.random()))

    async def _fetch(self) -> None:
        had = self._document
        request = DocumentRequest(
            cluster=had.cluster if had else "",
            epoch=had.epoch if had else 0,
            since=had.version if had else Sequence(0),
        )
        answer = await self._bus.request(
            subjects.document(self._host),
            messages.encode(request),
            timeout_s=limits.REQUEST_TIMEOUT_S,
        )
        reply = messages.decode(answer, DocumentReply)
        self._poll_s = reply.poll_s
        document = documents.merge(
            had, reply.document, complete=reply.complete, withdrawn=reply.withdrawn
        )
        if document != had:
            self._around.memory.keep_document(document)
            self._document = document
            self._obey_document()
            self._wake.set()  # tells the orchestrator at once that it is stored

    def _obey_document(self) -> None:
        """Give each worker its order; begin with those that are new here.

        Not before the keeper was heard: who does not know what runs would clean up under its feet.
        """
        document = self._document
        if document is None or self._programs is None:
            return
        for name in document.orders.keys() - self._workers.keys():
            self._begin(name)
        for name, worker in self._workers.items():
            worker.obey(document.orders.get(name))

    def _begin(self, name: WorkloadName) -> None:
        assert self._programs is not None, "workers begin once the keeper was heard"
        worker = Worker(name, self._around)
        worker.observe(self._programs.get(name))
        self._workers[name] = worker
        self._group.create_task(self._keep_on(name, worker), name=f"workload {name}")

    async def _keep_on(self, name: WorkloadName, worker: Worker) -> None:
        await worker.run()
        del self._workers[name]


def _workload(status: ProgramStatus) -> WorkloadName | None:
    prefix = ids.workload_program(WorkloadName(""))
    return WorkloadName(status.id.removeprefix(prefix)) if status.id.startswith(prefix) else None
