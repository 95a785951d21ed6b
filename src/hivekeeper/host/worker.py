"""One task for one workload: compares its order with what is there, and performs the steps.

What to do next is decided in `core.reconcile`; this reads, performs and reports. It owns the
workload's
state on this host: others only hand it a newer order or what the keeper says, and wake it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from hivekeeper.aio.wake import Wake
from hivekeeper.core import reconcile
from hivekeeper.core.reconcile import Local, Plan, Step
from hivekeeper.host.kinds import Kind
from hivekeeper.host.state import Memory, Prepared
from hivekeeper.model import ids, limits, program
from hivekeeper.model.allocation import Desired, Order, Phase, Report
from hivekeeper.model.errors import HiveError, TransientError
from hivekeeper.model.ids import WorkloadName
from hivekeeper.model.program import ProgramSpec, ProgramStatus, State
from hivekeeper.ports import Clock, Supervisor

log = logging.getLogger(__name__)

_RETRY_MAX_S: Final = 30.0
"""A step that fails is tried again at least this often: what was missing may be there by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all workers of a host share."""

    memory: Memory
    supervisor: Supervisor
    clock: Clock
    kinds: Callable[[Order], Kind]
    report: Callable[[Report], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A step that failed, and when it is tried again; never, if that would not help."""

    step: Step
    error: HiveError
    count: int
    retry_at_s: float | None


class Worker:
    """Keeps one workload as its order says."""

    def __init__(self, name: WorkloadName, around: Surroundings) -> None:
        self.name: Final = name
        self._around = around
        self._wake = Wake()
        self._order: Order | None = None
        self._program: ProgramStatus | None = None
        self._failure: Failure | None = None
        self._doing = ""
        self._scope: tuple[Step, asyncio.Timeout] | None = None
        self._prepared = around.memory.prepared(name)
        self._last: Report | None = None

    def obey(self, order: Order | None) -> None:
        """Take a newer order, or none any more; what is being done for an older one is cut off."""
        if order == self._order:
            return
        self._order = order
        self._failure = None
        self._cut_off()
        self._wake.set()

    def observe(self, program: ProgramStatus | None) -> None:
        """Take what the keeper says of its program."""
        before, self._program = self._program, program
        if not _same_run(before, program):
            self._begin_anew()
        self._wake.set()

    def _begin_anew(self) -> None:
        """What is being settled, or failed to, is so with a run that is over."""
        if self._failure is not None and self._failure.step is Step.SETTLE:
            self._failure = None
        if self._scope is not None and self._scope[0] is Step.SETTLE:
            self._cut_off()

    async def run(self) -> None:
        """Compare and act until nothing of it is left here and nobody gives orders for it."""
        while not self._is_over():
            try:
                await self._converge()
            except TransientError as error:  # the disk, between steps; nothing is half done
                log.warning("%s: %s", self.name, error)
            await self._wake.wait(self._pause_s())

    def _is_over(self) -> bool:
        return self._order is None and self._last is not None and self._last.phase is Phase.GONE

    async def _converge(self) -> None:
        """Perform steps until none is left, or one fails."""
        while self._order is not None and not self._must_wait():
            plan = reconcile.plan(self._order, self._local(self._order))
            self._report(self._order, plan)
            if plan.step is None:
                self._carried_out(self._order)
                return
            log.info("%s: %s: %s", self.name, plan.step, plan.because)
            if not await self._perform(plan.step, self._order):
                return

    def _local(self, order: Order) -> Local:
        around = self._around
        folders, disk = around.memory.folders, around.memory.disk
        names = disk.names(folders.workload(self.name))
        return Local(
            generation=self._prepared.generation,
            prepared=self._prepared.revision,
            restart_nonce=self._prepared.restart_nonce,
            program=self._program,
            spec_digest=self._spec_digest(order),
            settled=self._prepared.settled,
            files=any(name != folders.data(self.name).name for name in names),
            data=self._has_data(),
        )

    def _has_data(self) -> bool:
        memory = self._around.memory
        return bool(memory.disk.names(memory.folders.data(self.name)))

    def _spec_digest(self, order: Order) -> str | None:
        """Until its manifest is prepared, what it would run is not known."""
        if self._prepared.revision != order.allocation.revision:
            return None
        return program.digest(self._spec(order))

    def _spec(self, order: Order) -> ProgramSpec:
        return self._around.kinds(order).spec(order.manifest, self._prepared)

    async def _perform(self, step: Step, order: Order) -> bool:
        """Do one step; return whether to go on.

        Cut off by a newer order it counts as neither done nor failed.
        """
        scope = asyncio.timeout(None)
        self._scope = (step, scope)
        try:
            async with scope:
                await self._steps[step](order)
        except TimeoutError:
            if not scope.expired():
                raise
        except HiveError as error:
            self._fail(step, order, error)
            return False
        else:
            self._failure = None
        finally:
            self._scope, self._doing = None, ""
        return True

    def _cut_off(self) -> None:
        if self._scope is not None and not self._scope[1].expired():
            self._scope[1].reschedule(asyncio.get_running_loop().time())

    async def _prepare(self, order: Order) -> None:
        allocation, before = order.allocation, self._prepared
        made = await self._around.kinds(order).prepare(order, before, self._progress(order))
        nonce = allocation.restart_nonce if before.revision is None else before.restart_nonce
        self._keep(replace(made, revision=allocation.revision, restart_nonce=nonce))

    async def _hold(self, order: Order) -> None:
        allocation = order.allocation
        if allocation.desired is not Desired.RUNNING:
            self._around.kinds(order).unsettle(self.name)
        self._program = await self._around.supervisor.hold(
            self._spec(order),
            wanted=allocation.desired is Desired.RUNNING,
            generation=allocation.generation,
        )

    async def _restart(self, order: Order) -> None:
        self._program = await self._around.supervisor.restart(ids.workload_program(self.name))
        self._keep(replace(self._prepared, restart_nonce=order.allocation.restart_nonce))

    async def _settle(self, order: Order) -> None:
        now = self._program
        assert now is not None, "only a ready program is settled"
        kind, revision = self._around.kinds(order), order.allocation.revision
        facts = await kind.settle(order, self._prepared, now, self._progress(order))
        settled = reconcile.occasion(now, revision)
        self._keep(replace(self._prepared, settled=settled, facts=facts, ready_revision=revision))

    async def _release(self, order: Order) -> None:
        self._around.kinds(order).unsettle(self.name)
        await self._around.supervisor.release(ids.workload_program(self.name), logs=True)
        self._program = None

    async def _clean(self, order: Order) -> None:
        self._around.kinds(order).unsettle(self.name)
        disk, folders = self._around.memory.disk, self._around.memory.folders
        keep = folders.data(self.name).name
        for name in disk.names(folders.workload(self.name)):
            if name != keep:
                disk.remove(folders.workload(self.name) / name)
        if order.allocation.purge or not self._has_data():
            disk.remove(folders.workload(self.name))
        self._prepared = Prepared()

    @property
    def _steps(self) -> dict[Step, Callable[[Order], Awaitable[None]]]:
        return {
            Step.PREPARE: self._prepare,
            Step.HOLD: self._hold,
            Step.RESTART: self._restart,
            Step.SETTLE: self._settle,
            Step.RELEASE: self._release,
            Step.CLEAN: self._clean,
        }

    def _carried_out(self, order: Order) -> None:
        generation = order.allocation.generation
        if self._prepared.revision is not None and self._prepared.generation < generation:
            self._keep(replace(self._prepared, generation=generation))

    def _keep(self, prepared: Prepared) -> None:
        self._around.memory.keep_prepared(self.name, prepared)
        self._prepared = prepared

    def _progress(self, order: Order) -> Callable[[str], None]:
        def say(doing: str) -> None:
            self._doing = doing
            self._report(order, reconcile.plan(order, self._local(order)))

        return say

    def _fail(self, step: Step, order: Order, error: HiveError) -> None:
        """A failure changes nothing that is wanted.

        The same step is tried again, later and later, or given up.
        """
        count = 1 if self._failure is None else self._failure.count + 1
        retry_at_s = None
        if isinstance(error, TransientError):
            delay_s = min(_RETRY_MAX_S, error.retry_after_s * 2.0 ** min(count - 1, 16))
            retry_at_s = self._around.clock.now_s() + delay_s * (
                1 - self._around.clock.random() / 2
            )
        self._failure = Failure(step=step, error=error, count=count, retry_at_s=retry_at_s)
        log.warning("%s: %s failed: %s", self.name, step, error)
        self._report(order, reconcile.plan(order, self._local(order)))

    def _must_wait(self) -> bool:
        if self._failure is None:
            return False
        retry_at_s = self._failure.retry_at_s
        return retry_at_s is None or self._around.clock.now_s() < retry_at_s

    def _pause_s(self) -> float:
        pause_s = limits.RECONCILE_S * (0.8 + 0.4 * self._around.clock.random())
        if self._failure is None or self._failure.retry_at_s is None:
            return pause_s
        return max(0.0, min(pause_s, self._failure.retry_at_s - self._around.clock.now_s()))

    def _report(self, order: Order, plan: Plan) -> None:
        """Tell what there is to tell, if it is not what was told last."""
        said = self._compose(order, plan)
        if said != self._last:
            self._last = said
            self._around.report(said)

    def _compose(self, order: Order, plan: Plan) -> Report:
        now, program, failure = self._around.clock.now(), self._program, self._failure
        phase, error, hint, retry_at = plan.phase, "", "", None
        if failure is not None:
            phase = Phase.FAILED if failure.retry_at_s is None else Phase.BACKOFF
            error, hint = str(failure.error), getattr(failure.error, "hint", "")
            if failure.retry_at_s is not None:
                retry_at = now + timedelta(seconds=failure.retry_at_s - self._around.clock.now_s())
        elif program is not None and phase in {Phase.BACKOFF, Phase.FAILED}:
            error, retry_at = program.reason, program.retry_at
        last, generation = self._last, order.allocation.generation
        same = last is not None and (last.phase, last.generation) == (phase, generation)
        if same and last is not None and failure is not None and last.error == error:
            retry_at = last.retry_at if last.retry_at and last.retry_at > now else retry_at
        prepared = self._prepared
        return Report(
            workload=self.name,
            generation=generation,
            revision=prepared.revision or order.allocation.revision,
            ready_revision=prepared.ready_revision,
            phase=phase,
            since=last.since if same and last is not None else now,
            pid=None if program is None else program.pid,
            restarts=0 if program is None else program.restarts,
            ports=prepared.ports,
            error=error,
            hint=hint,
            retry_at=retry_at,
            doing=self._doing,
            finished=program is not None and program.state is State.FINISHED,
            data_kept=phase is Phase.GONE and self._has_data(),
            facts=prepared.facts,
        )


def _same_run(before: ProgramStatus | None, after: ProgramStatus | None) -> bool:
    return (
        before is not None
        and after is not None
        and before.run == after.run
        and before.ready
        and after.ready
    )
