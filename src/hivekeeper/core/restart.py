"""When a program is started, stopped, started again, given up, or kept down: decided here alone.

One program, one `Program`, one function: `step`. The keeper passes in the time, a random number
and what happened; it performs the effects that come out, and says TIMER once `timer_at_s` has
come. Pure: knows nothing of processes, logs or hosts, and does not decide how a program is killed.
"""

from collections.abc import Callable
from enum import StrEnum, auto
from typing import Final

from msgspec import Struct, structs

from hivekeeper.model.policy import RestartPolicy, RestartWhen
from hivekeeper.model.program import ProgramSpec, State

FENCED_BECAUSE: Final = "fenced: it may run elsewhere now; only newer orders start it here"

ALIVE: Final = frozenset({State.STARTING, State.READY, State.STOPPING})
"""States in which something of the program may run; in all others nothing does."""


class Event(StrEnum):
    """What can happen to a program, by a user, by itself, or by time."""

    START = auto()
    """It is to run, and was not."""
    STOP = auto()
    RESTART = auto()
    """A user asks for it, or what it runs has changed."""
    RENEW = auto()
    """Newer orders have come, whatever they say: a fence or a verdict of before is void."""
    FENCE = auto()
    """It may be started elsewhere from now on, so it must not run here."""
    BECAME_READY = auto()
    EXITED_WELL = auto()
    EXITED_BADLY = auto()
    """Also: could not be started, or ended and nobody saw how."""
    TIMER = auto()
    REBOOTED = auto()
    """The machine came up again: what ran before is gone."""


class Effect(StrEnum):
    """What the keeper must do, in this order. Each is safe to repeat."""

    SPAWN = auto()
    TERMINATE = auto()
    KILL = auto()


class Program(Struct, frozen=True, kw_only=True):
    """What is decided about one program. Times are seconds since boot.

    `failures` counts failures in a row: a stable run forgets them. A sliding window would not do:
    with a growing delay, fewer and fewer failures fall into it, and the limit is never reached.
    """

    state: State = State.STOPPED
    then: State | None = None
    """While STOPPING: what follows (STOPPED, STARTING, BACKOFF or FENCED)."""
    stable: bool = False
    """READY for long enough: the next end is not held against it."""
    failures: int = 0
    restarts: int = 0
    """Starts that nobody asked for, since a user last did."""
    timer_at_s: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.then is not None) != (self.state is State.STOPPING):
            raise ValueError("only what is stopping has something that follows")
        if self.stable and self.state is not State.READY:
            raise ValueError("only what is ready can be stable")


Step = tuple[Program, tuple[Effect, ...]]

# Every state meets every event: `.` changes nothing, `!` cannot happen (a bug in the caller),
# a word names a rule.
TABLE: Final = """
          START STOP RESTART RENEW   FENCE BECAME_READY EXITED_WELL EXITED_BADLY TIMER  REBOOTED
STOPPED   fresh .    .       .       bar   !            !           !            .      .
STARTING  .     end  cycle   .       fence ready        again       again        late   anew
READY     .     end  cycle   .       fence .            again       again        steady anew
STOPPING  want  drop want    unfence hold  .            settle      settle       kill   settle
BACKOFF   .     rest fresh   .       bar   !            !           !            retry  anew
FAILED    .     rest fresh   rest    bar   !            !           !            retry  anew
FENCED    .     .    .       rest    .     !            !           !            .      .
FINISHED  .     rest fresh   .       bar   !            !           !            .      .
"""


def step(
    program: Program,
    event: Event,
    *,
    spec: ProgramSpec,
    now_s: float,
    jitter: float,
    what: str = "",
) -> Step:
    """Return the program after `event`, and what to do about it.

    Args:
        program: What was decided before.
        event: What happened.
        spec: What is held now; may differ from what runs.
        now_s: Seconds since boot; never before an earlier call's.
        jitter: In [0, 1): spreads restarts of programs that failed together.
        what: How it ended, in words that can begin a sentence; needed with an exit.
    """
    assert 0 <= jitter < 1, "jitter is a part of a whole"
    return TRANSITIONS[program.state, event](Moment(program, event, spec, now_s, jitter, what))


def told(program: Program, *, wanted: bool, changed: bool) -> Event | None:
    """Return what holding a program so means to it; None: all is as it should be.

    Args:
        program: What was decided before; after RENEW if the orders are newer.
        wanted: Whether it is to run.
        changed: What is held differs from what was last started.
    """
    if not wanted:
        return Event.STOP
    if State.STOPPED in (program.state, program.then):
        return Event.START
    return Event.RESTART if changed else None


def delay_s(failures: int, policy: RestartPolicy, jitter: float) -> float:
    """Return how long to wait before the next start after `failures` (at least 1) in a row.

    Doubles from `first_delay_s` up to `max_delay_s`, then takes off up to half of it at random
    ("equal jitter").
    """
    assert failures >= 1, "without a failure there is nothing to wait for"
    exponent = min(failures - 1, 64)  # beyond any cap already, and no overflow
    full = min(policy.max_delay_s, policy.first_delay_s * 2.0**exponent)
    return full * (1 - jitter / 2)


class Moment(Struct, frozen=True):
    """All that a rule may look at."""

    program: Program
    event: Event
    spec: ProgramSpec
    now_s: float
    jitter: float
    what: str

    @property
    def policy(self) -> RestartPolicy:
        """How persistent to be."""
        return self.spec.restart


def _launch(m: Moment, *, failures: int, restarts: int, reason: str) -> Step:
    """Without readiness, started is ready."""
    readiness = m.spec.readiness
    program = Program(
        state=State.STARTING if readiness else State.READY,
        failures=failures,
        restarts=restarts,
        timer_at_s=m.now_s + readiness.timeout_s if readiness else _stable_at_s(m),
        reason=reason,
    )
    return program, (Effect.SPAWN,)


def _stable_at_s(m: Moment) -> float:
    """A run shorter than the first delay is never stable, or a crash loop had no brake."""
    return m.now_s + max(m.policy.stable_after_s, m.policy.first_delay_s)


def _fresh(m: Moment) -> Step:
    """Somebody asked for it: the past is forgotten."""
    return _launch(m, failures=0, restarts=0, reason="")


def _anew(m: Moment) -> Step:
    """Its failures may have been the machine's, and that has begun anew."""
    if m.policy.when is RestartWhen.NEVER:
        return _finish(m, "the machine was restarted")
    restarts = m.program.restarts + 1
    return _launch(m, failures=0, restarts=restarts, reason="the machine was restarted")


def _retry(m: Moment) -> Step:
    p = m.program
    return _launch(m, failures=p.failures, restarts=p.restarts + 1, reason=p.reason)


def _ready(m: Moment) -> Step:
    return structs.replace(m.program, state=State.READY, timer_at_s=_stable_at_s(m)), ()


def _steady(m: Moment) -> Step:
    return structs.replace(m.program, stable=True, failures=0, timer_at_s=None, reason=""), ()


def _late(m: Moment) -> Step:
    assert m.spec.readiness is not None, "without readiness, started is ready"
    reason = f"was not ready within {m.spec.readiness.timeout_s:g} s and was killed"
    program = structs.replace(
        m.program, state=State.STOPPING, then=State.BACKOFF, timer_at_s=None, reason=reason
    )
    return program, (Effect.KILL,)


def _stopping(m: Moment, then: State, reason: str) -> Step:
    program = Program(
        state=State.STOPPING,
        then=then,
        restarts=m.program.restarts,
        timer_at_s=m.now_s + m.spec.stop_timeout_s,
        reason=reason,
    )
    return program, (Effect.TERMINATE,)


def _end(m: Moment) -> Step:
    return _stopping(m, State.STOPPED, "told to stop")


def _cycle(m: Moment) -> Step:
    return _stopping(m, State.STARTING, "told to start anew")


def _fence(m: Moment) -> Step:
    return _stopping(m, State.FENCED, m.what or FENCED_BECAUSE)


def _kill(m: Moment) -> Step:
    """It did not stop in time. Its exit will be an event of its own, and counts then."""
    reason = f"{m.program.reason}; did not stop within {m.spec.stop_timeout_s:g} s and was killed"
    return structs.replace(m.program, timer_at_s=None, reason=reason), (Effect.KILL,)


def _then(m: Moment, then: State, reason: str) -> Step:
    """Change what follows the stop, but for a fence: that one only newer orders lift."""
    if m.program.then is State.FENCED:
        return _ignore(m)
    return structs.replace(m.program, then=then, reason=reason), ()


def _want(m: Moment) -> Step:
    return _then(m, State.STARTING, "told to start anew")


def _drop(m: Moment) -> Step:
    return _then(m, State.STOPPED, "told to stop")


def _hold(m: Moment) -> Step:
    return _then(m, State.FENCED, m.what or FENCED_BECAUSE)


def _unfence(m: Moment) -> Step:
    if m.program.then is not State.FENCED:
        return _ignore(m)
    return structs.replace(m.program, then=State.STOPPED, reason="told to stop"), ()


def _settle(m: Moment) -> Step:
    """It ended while it was being stopped: what was to follow follows."""
    match m.program.then:
        case State.STARTING:
            return _fresh(m)
        case State.FENCED:
            return _bar(m)
        case State.BACKOFF:
            return _again(structs.replace(m, what=m.program.reason))
    return _rest(m)


def _rest(_: Moment) -> Step:
    return Program(), ()


def _bar(m: Moment) -> Step:
    reason = m.what if m.event is Event.FENCE else m.program.reason
    return Program(state=State.FENCED, reason=reason or FENCED_BECAUSE), ()


def _again(m: Moment) -> Step:
    """It ended, unasked: start it at once if it was stable, else later, or not at all."""
    assert m.what, "an end says how"
    bad = m.event is Event.EXITED_BADLY or m.program.state is not State.READY
    when = m.policy.when
    if when is RestartWhen.NEVER or (when is RestartWhen.FAILURE and not bad):
        return _finish(m, m.what)
    if m.program.stable:
        restarts = m.program.restarts + 1
        return _launch(m, failures=0, restarts=restarts, reason=f"{m.what}; started again at once")
    return _failed(m)


def _failed(m: Moment) -> Step:
    failures, policy = m.program.failures + 1, m.policy
    if failures > policy.max_retries:
        return _give_up(m, failures)
    wait_s = delay_s(failures, policy, m.jitter)
    program = Program(
        state=State.BACKOFF,
        failures=failures,
        restarts=m.program.restarts,
        timer_at_s=m.now_s + wait_s,
        reason=f"{m.what}; retry {failures} of {policy.max_retries} after {wait_s:.2g} s",
    )
    return program, ()


def _give_up(m: Moment, failures: int) -> Step:
    """Retries are over. A probe, if there is one, is one retry more, not a new beginning."""
    tries, every_s = m.policy.max_retries, m.policy.probe_every_s
    verdict = f"given up after {tries} retries in a row" if tries else "given up: no retries"
    program = Program(
        state=State.FAILED,
        failures=failures,
        restarts=m.program.restarts,
        timer_at_s=m.now_s + every_s if every_s else None,
        reason=f"{m.what}; {verdict}" + (f"; probed again every {every_s:g} s" if every_s else ""),
    )
    return program, ()


def _finish(m: Moment, what: str) -> Step:
    reason = f"{what}; not started again, since restart.when is {m.policy.when.value}"
    return Program(state=State.FINISHED, restarts=m.program.restarts, reason=reason), ()


def _ignore(m: Moment) -> Step:
    return m.program, ()


def _impossible(m: Moment) -> Step:
    raise AssertionError(f"{m.event} cannot happen to a program that is {m.program.state}")


Rule = Callable[[Moment], Step]
_RULES: Final[dict[str, Rule]] = {
    ".": _ignore,
    "!": _impossible,
    "again": _again,
    "anew": _anew,
    "bar": _bar,
    "cycle": _cycle,
    "drop": _drop,
    "end": _end,
    "fence": _fence,
    "fresh": _fresh,
    "hold": _hold,
    "kill": _kill,
    "late": _late,
    "ready": _ready,
    "rest": _rest,
    "retry": _retry,
    "settle": _settle,
    "steady": _steady,
    "unfence": _unfence,
    "want": _want,
}


def _read(table: str) -> dict[tuple[State, Event], Rule]:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return {
        (State[state], Event[name]): _RULES[word]
        for state, *words in rows
        for name, word in zip(head, words, strict=True)
    }


TRANSITIONS: Final = _read(TABLE)
