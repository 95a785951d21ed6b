"""What a host does next.

For every order and everything that may be there, one step, and an end.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import pytest

from hivekeeper.core import reconcile
from hivekeeper.core.reconcile import Local, Step
from hivekeeper.model import ids, program
from hivekeeper.model.allocation import Allocation, Desired, Order, Phase
from hivekeeper.model.ids import Generation, HostId, Revision, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest, Process
from hivekeeper.model.program import ProgramStatus, State

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
NAME: Final = WorkloadName("w")
SETTLED: Final = "run 1, pid 7, revision 1"


def order(
    desired: Desired = Desired.RUNNING,
    *,
    generation: int = 2,
    revision: int = 1,
    nonce: int = 0,
    purge: bool = False,
) -> Order:
    allocation = Allocation(
        workload=NAME,
        host=HostId("h"),
        revision=Revision(revision),
        generation=Generation(generation),
        desired=desired,
        purge=purge,
        restart_nonce=nonce,
        changed_at=T0,
    )
    manifest = Manifest(name=NAME, kind=Kind.PROCESS, process=Process(command=("true",)))
    return Order(allocation=allocation, manifest=manifest)


def held(
    state: State = State.READY, *, generation: int = 2, wanted: bool = True, spec: str = "s"
) -> ProgramStatus:
    return ProgramStatus(
        id=ids.workload_program(NAME),
        generation=Generation(generation),
        state=state,
        wanted=wanted,
        spec_digest=spec,
        since=T0,
        run=1,
        pid=7,
        ready=state is State.READY,
        reason="because" if state in {State.BACKOFF, State.FAILED} else "",
    )


def there(**changes: object) -> Local:
    """All as it should be, but for `changes`."""
    settled = Local(
        generation=Generation(2),
        prepared=Revision(1),
        program=held(),
        spec_digest="s",
        settled=SETTLED,
        files=True,
        data=True,
    )
    return replace(settled, **changes)  # type: ignore[arg-type]


def test_what_is_as_it_should_be_needs_nothing() -> None:
    assert reconcile.plan(order(), there()) == reconcile.Plan(
        step=None, phase=Phase.READY, because="its program is ready"
    )


@pytest.mark.parametrize(
    ("wanted", "local", "step"),
    [
        (order(), Local(), Step.PREPARE),
        (order(revision=2), there(), Step.PREPARE),
        (order(), there(program=None, settled=None), Step.HOLD),
        (order(generation=3), there(), Step.HOLD),
        (order(), there(spec_digest="other"), Step.HOLD),
        (order(Desired.STOPPED), there(), Step.HOLD),
        (order(nonce=1), there(), Step.RESTART),
        (order(Desired.STOPPED, nonce=1), there(program=held(State.STOPPED, wanted=False)), None),
        (order(), there(settled=None), Step.SETTLE),
        (order(), there(settled="run 0, pid 7, revision 1"), Step.SETTLE),
        (order(), there(program=held(State.STARTING), settled=None), None),
        (order(), there(program=held(State.BACKOFF), settled=None), None),
        (order(Desired.UNINSTALLED), there(), Step.RELEASE),
        (order(Desired.UNINSTALLED), there(program=None), Step.CLEAN),
        (order(Desired.UNINSTALLED), there(program=None, files=False), None),
        (order(Desired.UNINSTALLED, purge=True), there(program=None, files=False), Step.CLEAN),
        (order(Desired.UNINSTALLED, purge=True), Local(), None),
        (order(generation=1), there(), None),
    ],
)
def test_one_difference_one_step(wanted: Order, local: Local, step: Step | None) -> None:
    assert reconcile.plan(wanted, local).step is step


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (State.STOPPED, Phase.INSTALLED),
        (State.STARTING, Phase.STARTING),
        (State.READY, Phase.READY),
        (State.STOPPING, Phase.STOPPING),
        (State.BACKOFF, Phase.BACKOFF),
        (State.FAILED, Phase.FAILED),
        (State.FENCED, Phase.FAILED),
        (State.FINISHED, Phase.INSTALLED),
    ],
)
def test_the_programs_state_shows_in_the_phase(state: State, phase: Phase) -> None:
    assert reconcile.plan(order(), there(program=held(state))).phase is phase


def test_a_program_that_is_ready_but_of_no_use_yet_is_still_starting() -> None:
    assert reconcile.plan(order(), there(settled=None)).phase is Phase.STARTING


def test_an_order_older_than_the_one_carried_out_is_not_obeyed() -> None:
    plan = reconcile.plan(order(Desired.UNINSTALLED, generation=1, purge=True), there())
    assert plan.step is None
    assert "older" in plan.because


def perform(step: Step, wanted: Order, local: Local) -> Local:
    """What a step that succeeds makes of what is there, in the smallest world."""
    allocation = wanted.allocation
    run = allocation.desired is Desired.RUNNING
    state = State.READY if run else State.STOPPED
    match step:
        case Step.PREPARE:
            nonce = allocation.restart_nonce if local.prepared is None else local.restart_nonce
            return replace(
                local,
                prepared=allocation.revision,
                files=True,
                spec_digest=f"s{allocation.revision}",
                restart_nonce=nonce,
            )
        case Step.HOLD:
            assert local.spec_digest is not None
            program = held(
                state, generation=allocation.generation, wanted=run, spec=local.spec_digest
            )
            return replace(local, program=program)
        case Step.RESTART:
            return replace(local, restart_nonce=allocation.restart_nonce, settled=None)
        case Step.SETTLE:
            assert local.program is not None
            return replace(
                local, settled=reconcile.occasion(local.program, allocation.revision), data=True
            )
        case Step.RELEASE:
            return replace(local, program=None, settled=None)
        case Step.CLEAN:
            return Local(data=local.data and not allocation.purge)


def everything_there() -> Iterator[Local]:
    kept = [None, *(held(state, wanted=w) for state in State for w in (True, False))]
    for holds, prepared, settled, files, data in itertools.product(
        kept, [None, Revision(1)], [None, SETTLED], [True, False], [True, False]
    ):
        digest = "s" if prepared else None
        yield Local(
            program=holds,
            prepared=prepared,
            spec_digest=digest,
            settled=settled,
            files=files or prepared is not None,
            data=data,
        )


@pytest.mark.parametrize("desired", list(Desired))
@pytest.mark.parametrize("purge", [True, False])
def test_from_wherever_it_begins_it_comes_to_rest_where_the_order_wants_it(
    desired: Desired, *, purge: bool
) -> None:
    wanted = order(desired, generation=9, revision=2, nonce=1, purge=purge)
    for local in everything_there():
        now = local
        for _ in range(6):
            step = reconcile.plan(wanted, now).step
            if step is None:
                break
            now = perform(step, wanted, now)
        plan = reconcile.plan(wanted, now)
        assert plan.step is None, (local, now)
        expected = {Desired.RUNNING: Phase.READY, Desired.STOPPED: Phase.INSTALLED}
        assert plan.phase is expected.get(desired, Phase.GONE), (local, now)


def test_specs_that_are_equal_have_equal_digests_and_others_have_not() -> None:
    spec = program.ProgramSpec(id=ids.workload_program(NAME), command=("a",), logs="/l")
    again = msgspec.json.decode(msgspec.json.encode(spec), type=program.ProgramSpec)
    assert program.digest(spec) == program.digest(again)
    assert program.digest(spec) != program.digest(msgspec.structs.replace(spec, command=("b",)))
