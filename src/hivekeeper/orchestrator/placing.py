"""The loop that gives every workload its allocations, and wakes the hosts that have news.

Compares all of them now and then, and those that somebody named at once; what to do is decided in
`core.placement`. Each commit is a turn of its own, so that users' writes come in between.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.wake import Wake
from hivekeeper.core import placement
from hivekeeper.core.placement import Candidate, Plan
from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Order, Workload
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.model.manifest import Kind
from hivekeeper.orchestrator import documents, records
from hivekeeper.orchestrator.fleet import Fleet, Write
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.orchestrator.view import View
from hivekeeper.ports import Bus, Clock
from hivekeeper.wire import subjects

log = logging.getLogger(__name__)

_BATCH_WRITES: Final = 500
"""Of one commit, about: few enough that a user's write does not wait long behind it."""
_BATCH_WORKLOADS: Final = 1_000
"""Looked at in one turn: about ten milliseconds' worth."""


@dataclass(slots=True)
class _Batch:
    """What one commit is to hold."""

    hosts: dict[HostId, Candidate]
    writes: list[Write] = field(default_factory=list)
    orders_bytes: dict[HostId, int] = field(default_factory=dict)
    """By host whose document changes, how much that is."""
    gone: dict[HostId, list[WorkloadName]] = field(default_factory=dict)
    routes: bool = False
    """Whether a gateway may have to call somewhere else."""


class Placement:
    """Gives every workload its allocations, and wakes the hosts that have something new to do."""

    def __init__(
        self, *, fleet: Fleet, view: View, hearing: Hearing, teller: Teller, bus: Bus, clock: Clock
    ) -> None:
        self._fleet, self._view, self._hearing, self._teller = fleet, view, hearing, teller
        self._bus, self._clock = bus, clock
        self._asked: set[WorkloadName] = set()
        self._all = True
        self._wake = Wake()

    def look(self, names: set[WorkloadName]) -> None:
        """Look at these workloads soon."""
        if names:
            self._asked |= names
            self._wake.set()

    def look_at_all(self) -> None:
        """Look at all workloads soon."""
        self._all = True
        self._wake.set()

    async def run(self) -> None:
        """Place what is to be placed, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._remind(), name="placement, timer")
            group.create_task(self._serve(), name="placement")

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(limits.RECONCILE_S * (0.8 + 0.4 * self._clock.random()))
            self.look_at_all()

    async def _serve(self) -> None:
        complaints = Complaints(log, "placement")
        while True:
            names = set(self._fleet.workloads.kept) if self._all else self._asked
            self._asked, self._all = set(), False
            try:
                await self.place(WorkloadName(name) for name in sorted(names))
            except TransientError as error:
                complaints.say(str(error))
                await asyncio.sleep(error.retry_after_s)
                self.look_at_all()
            await self._wake.wait(limits.RECONCILE_S)

    async def place(self, names: Iterable[WorkloadName]) -> None:
        """Store what these workloads' allocations are to be, and wake the hosts concerned."""
        waiting = deque(names)
        while waiting:
            async with self._fleet.turn():
                batch = self._plan(waiting)
                if batch.writes:
                    await self._fleet.commit(batch.writes)
            for host in batch.orders_bytes:
                await self._bus.publish(subjects.wake(host), b"")
            if batch.routes:
                await self._bus.publish(subjects.ROUTES_WAKE, b"")
            await asyncio.sleep(0)

    def _plan(self, waiting: deque[WorkloadName]) -> _Batch:
        """Take from `waiting` as much as fits one commit."""
        batch = _Batch(hosts=self._view.candidates())
        for _ in range(min(len(waiting), _BATCH_WORKLOADS)):
            workload = self._fleet.workloads.get(waiting[0])
            if workload is not None:
                plan = self._plan_one(workload, batch.hosts)
                if not self._fits(batch, plan):
                    break
                self._add(batch, workload, plan)
            waiting.popleft()
            if len(batch.writes) >= _BATCH_WRITES:
                break
        for host in batch.orders_bytes:
            gone, fetched = batch.gone.get(host, []), self._hearing.fetched(host)
            batch.writes.append(documents.bump(self._fleet, host, gone, fetched=fetched))
        return batch

    def _plan_one(self, workload: Workload, hosts: dict[HostId, Candidate]) -> Plan:
        allocations = [kept.value for kept in self._fleet.allocations_of(workload.name)]
        reports = {each.host: self._fleet.report(each) for each in allocations}
        said = {host: report for host, report in reports.items() if report is not None}
        manifest = self._fleet.manifest(workload)
        return placement.plan(workload, manifest, allocations, said, hosts)

    def _fits(self, batch: _Batch, plan: Plan) -> bool:
        """Whether each host can still be told in one reply (`documents`)."""
        return all(
            batch.orders_bytes.get(each.host, 0) + self._size(each) <= documents.ORDERS_BYTES
            for each in plan.put
            if batch.orders_bytes.get(each.host)
        )

    def _size(self, allocation: Allocation) -> int:
        manifest = self._fleet.manifest(allocation)
        return documents.size(Order(allocation=allocation, manifest=manifest))

    def _add(self, batch: _Batch, workload: Workload, plan: Plan) -> None:
        fleet = self._fleet
        here = {kept.value.host for kept in fleet.allocations_of(workload.name)}
        for each in plan.put:
            size = batch.orders_bytes.get(each.host, 0) + self._size(each)
            batch.orders_bytes[each.host] = size
            batch.writes.append(
                fleet.allocations.put(records.placed(each.host, each.workload), each)
            )
            if each.host not in here:
                self._tell(batch, workload, "placed", plan.because, each.host)
                host = batch.hosts[each.host]
                batch.hosts[each.host] = replace(host, allocations=host.allocations + 1)
        for host_id in plan.drop:
            batch.orders_bytes.setdefault(host_id, 0)
            batch.gone.setdefault(host_id, []).append(workload.name)
            batch.writes += self._forget_allocation(host_id, workload.name)
            if host_id not in batch.hosts:
                self._tell(batch, workload, "lost", "its host left, and its data with it", host_id)
        if plan.forget:
            batch.writes += self._forget(workload)
            self._tell(batch, workload, "forgotten", plan.because)
        if workload.kind is Kind.HOLOCHAIN and (plan.put or plan.drop):
            batch.routes = True

    def _tell(
        self,
        batch: _Batch,
        workload: Workload,
        what: str,
        because: str,
        host: HostId | None = None,
    ) -> None:
        batch.writes.append(self._teller.event(workload.name, what, because, host))

    def _forget_allocation(self, host: HostId, name: WorkloadName) -> Iterator[Write]:
        key = records.placed(host, name)
        yield self._fleet.allocations.drop(key)
        if self._fleet.reports.get(key) is not None:
            yield self._fleet.reports.drop(key)

    def _forget(self, workload: Workload) -> Iterator[Write]:
        """Remove a workload's own records: it and the manifests that are kept of it."""
        yield self._fleet.workloads.drop(workload.name)
        for number in self._fleet.revisions(workload.name):
            yield self._fleet.manifests.drop(records.revision(workload.name, number))
