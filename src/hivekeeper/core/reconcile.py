"""What a host does next about one allocation: from its order and what is there, to steps.

Pure. A step that fails changes nothing here: the same facts give the same plan again.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

from hivekeeper.model.allocation import Desired, Order, Phase
from hivekeeper.model.ids import Generation, Revision
from hivekeeper.model.program import ProgramStatus, State

_NONE = Generation(0)


class Step(StrEnum):
    """What a host can do; each is safe to repeat, and to be cut off in the middle of."""

    PREPARE = auto()
    """Put there what the revision needs: files, ports, the programs themselves."""
    HOLD = auto()
    """Tell the keeper what to hold, and whether it is wanted running."""
    RESTART = auto()
    SETTLE = auto()
    """Do what a started program needs before it is of use: install a hApp, hand out its keys."""
    RELEASE = auto()
    """Have the keeper stop and forget it."""
    CLEAN = auto()
    """Remove what is there: all but its data, or all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What is there of an allocation."""

    generation: Generation = _NONE
    """Of the order last carried out; 0: none."""
    prepared: Revision | None = None
    """Which manifest is prepared."""
    restart_nonce: int = 0
    """Of the last restart that was carried out."""
    program: ProgramStatus | None = None
    """What the keeper holds."""
    spec_digest: str | None = None
    """Of the program as `prepared` wants it."""
    settled: str | None = None
    """The occasion that was last settled."""
    files: bool = False
    """Anything of it is on disk that is not its data."""
    data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next, one step; none: it is as it should be, or must wait for the program."""

    step: Step | None
    phase: Phase
    """How far it is, before the step."""
    because: str


def plan(order: Order, local: Local) -> Plan:
    """Return the next step that brings `local` closer to `order`."""
    allocation = order.allocation
    if allocation.generation < local.generation:
        return Plan(
            step=None, phase=_phase(local), because="an older order than the one carried out"
        )
    if allocation.desired is Desired.UNINSTALLED:
        return _remove(local, purge=allocation.purge)
    if local.prepared != allocation.revision:
        return Plan(step=Step.PREPARE, phase=Phase.PREPARING, because="its manifest is new here")
    return _run(order, local)


def occasion(program: ProgramStatus, revision: Revision) -> str:
    """Return what a settling holds for: one run of a program, with one manifest."""
    return f"run {program.run}, pid {program.pid}, revision {revision}"


def _remove(local: Local, *, purge: bool) -> Plan:
    if local.program is not None:
        return Plan(step=Step.RELEASE, phase=Phase.REMOVING, because="it was deleted")
    if local.files or (purge and local.data):
        return Plan(step=Step.CLEAN, phase=Phase.REMOVING, because="it was deleted")
    return Plan(step=None, phase=Phase.GONE, because="nothing of it is left here")


def _run(order: Order, local: Local) -> Plan:
    allocation, program = order.allocation, local.program
    wanted = allocation.desired is Desired.RUNNING
    phase = _phase(local)
    if program is None:
        return Plan(step=Step.HOLD, phase=phase, because="the keeper does not hold it")
    if program.generation < allocation.generation or program.wanted != wanted:
        return Plan(step=Step.HOLD, phase=phase, because="the keeper holds an older order")
    if program.spec_digest != local.spec_digest:
        return Plan(step=Step.HOLD, phase=phase, because="the program is to run differently")
    if wanted and allocation.restart_nonce > local.restart_nonce:
        return Plan(step=Step.RESTART, phase=phase, because="a user asked for a restart")
    if program.ready and local.settled != occasion(program, allocation.revision):
        return Plan(step=Step.SETTLE, phase=Phase.STARTING, because="its program is ready")
    return Plan(
        step=None, phase=phase, because=program.reason or f"its program is {program.state}"
    )


def _phase(local: Local) -> Phase:
    """The program's state in the words of a report (design §5)."""
    if local.program is None:
        return Phase.INSTALLED
    return _PHASES[local.program.state]


_PHASES = {
    State.STOPPED: Phase.INSTALLED,
    State.STARTING: Phase.STARTING,
    State.READY: Phase.READY,
    State.STOPPING: Phase.STOPPING,
    State.BACKOFF: Phase.BACKOFF,
    State.FAILED: Phase.FAILED,
    State.FENCED: Phase.FAILED,
    State.FINISHED: Phase.INSTALLED,
}
