"""When a program is started, stopped, started again, given up, or kept down."""

import itertools
import math

import pytest

from hivekeeper.core import restart
from hivekeeper.core.restart import ALIVE, TRANSITIONS, Effect, Event, Program
from hivekeeper.model.ids import ProgramId
from hivekeeper.model.policy import Readiness, RestartPolicy, RestartWhen
from hivekeeper.model.program import ProgramSpec, State

READY_BY_LOG = Readiness(log="ready", timeout_s=60.0)
EXITS = (Event.EXITED_WELL, Event.EXITED_BADLY)


def spec(
    *, when: RestartWhen = RestartWhen.ALWAYS, readiness: Readiness | None = None, **policy: float
) -> ProgramSpec:
    return ProgramSpec(
        id=ProgramId("workload.x"),
        command=("x",),
        logs="/logs",
        readiness=readiness,
        restart=RestartPolicy(when=when, **policy),  # type: ignore[arg-type]
    )


PLAIN = spec()
SLOW = spec(readiness=READY_BY_LOG)


def happen(
    program: Program, *events: Event, spec: ProgramSpec = SLOW, every_s: float = 1.0
) -> Program:
    for now_s, event in enumerate(events):
        program, _ = restart.step(
            program, event, spec=spec, now_s=now_s * every_s, jitter=0.5, what="it ended"
        )
    return program


READY = happen(Program(), Event.START, Event.BECAME_READY)
FENCED = happen(READY, Event.FENCE, Event.EXITED_WELL)


def test_every_state_answers_every_event() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Event))


def test_every_rule_has_a_place_in_the_table() -> None:
    assert set(restart._RULES.values()) == set(TRANSITIONS.values())


@pytest.mark.parametrize(
    ("state", "events", "used"),
    [
        (State.STOPPED, (), SLOW),
        (State.STARTING, (Event.START,), SLOW),
        (State.READY, (Event.START, Event.BECAME_READY), SLOW),
        (State.STOPPING, (Event.START, Event.STOP), SLOW),
        (State.BACKOFF, (Event.START, Event.EXITED_BADLY), SLOW),
        (State.FAILED, (Event.START, Event.EXITED_BADLY), spec(max_retries=0)),
        (State.FENCED, (Event.START, Event.FENCE, Event.EXITED_WELL), SLOW),
        (State.FINISHED, (Event.START, Event.EXITED_WELL), spec(when=RestartWhen.NEVER)),
    ],
)
def test_every_state_can_be_reached(
    state: State, events: tuple[Event, ...], used: ProgramSpec
) -> None:
    assert happen(Program(), *events, spec=used).state is state


@pytest.mark.parametrize("state", sorted(set(State) - ALIVE))
@pytest.mark.parametrize("event", [*EXITS, Event.BECAME_READY])
def test_what_does_not_run_can_neither_end_nor_become_ready(state: State, event: Event) -> None:
    with pytest.raises(AssertionError, match="cannot happen"):
        restart.step(Program(state=state), event, spec=SLOW, now_s=0, jitter=0, what="it ended")


def test_without_readiness_started_is_ready() -> None:
    program, effects = restart.step(Program(), Event.START, spec=PLAIN, now_s=5.0, jitter=0)
    assert (program.state, effects) == (State.READY, (Effect.SPAWN,))
    assert program.timer_at_s == 5.0 + 60.0, "then it is stable"


def test_a_stable_program_is_started_again_at_once_and_its_failures_are_forgotten() -> None:
    program = happen(Program(state=State.BACKOFF, failures=4), Event.TIMER, spec=PLAIN)
    assert program.failures == 4
    program = happen(program, Event.TIMER, spec=PLAIN)
    assert (program.stable, program.failures, program.reason) == (True, 0, "")
    after, effects = restart.step(
        program, Event.EXITED_BADLY, spec=PLAIN, now_s=60, jitter=0, what="killed by SIGKILL"
    )
    assert (after.state, after.failures, after.restarts) == (State.READY, 0, 2)
    assert effects == (Effect.SPAWN,)
    assert after.reason == "killed by SIGKILL; started again at once"


def test_a_program_that_ends_before_it_is_stable_waits_even_if_it_was_ready() -> None:
    program, effects = restart.step(
        READY, Event.EXITED_WELL, spec=SLOW, now_s=50, jitter=0, what="exited with code 0"
    )
    assert (program.state, program.failures, effects) == (State.BACKOFF, 1, ())
    assert program.timer_at_s == 50.1
    assert program.reason == "exited with code 0; retry 1 of 5 after 0.1 s"


def test_a_run_shorter_than_the_first_delay_is_never_stable() -> None:
    hasty = spec(stable_after_s=0.0, first_delay_s=0.5)
    program, _ = restart.step(Program(), Event.START, spec=hasty, now_s=7.0, jitter=0)
    assert program.timer_at_s == 7.5


def test_when_five_retries_failed_too_it_is_given_up_with_the_reason() -> None:
    program = happen(
        Program(), Event.START, Event.EXITED_BADLY, *(Event.TIMER, Event.EXITED_BADLY) * 5
    )
    assert (program.state, program.failures, program.restarts) == (State.FAILED, 6, 5)
    assert program.reason == "it ended; given up after 5 retries in a row"
    assert program.timer_at_s is None


@pytest.mark.parametrize("event", [Event.RESTART, Event.REBOOTED])
def test_what_was_given_up_begins_anew_when_asked_or_with_the_machine(event: Event) -> None:
    program = happen(Program(state=State.FAILED, failures=6), event)
    assert (program.state, program.failures) == (State.STARTING, 0)


def test_what_was_given_up_is_probed_slowly_if_the_policy_says_so() -> None:
    probing = spec(max_retries=0, probe_every_s=300.0, readiness=READY_BY_LOG)
    program = happen(Program(), Event.START, Event.EXITED_BADLY, spec=probing)
    assert program.state is State.FAILED
    assert program.timer_at_s == 1.0 + 300.0
    assert program.reason == "it ended; given up: no retries; probed again every 300 s"
    program = happen(program, Event.TIMER, spec=probing)
    assert (program.state, program.failures) == (State.STARTING, 1)
    program = happen(program, Event.EXITED_BADLY, spec=probing)
    assert (program.state, program.failures, program.timer_at_s) == (State.FAILED, 2, 300.0)


@pytest.mark.parametrize(
    ("when", "event", "state"),
    [
        (RestartWhen.ALWAYS, Event.EXITED_WELL, State.BACKOFF),
        (RestartWhen.ALWAYS, Event.EXITED_BADLY, State.BACKOFF),
        (RestartWhen.FAILURE, Event.EXITED_WELL, State.FINISHED),
        (RestartWhen.FAILURE, Event.EXITED_BADLY, State.BACKOFF),
        (RestartWhen.NEVER, Event.EXITED_WELL, State.FINISHED),
        (RestartWhen.NEVER, Event.EXITED_BADLY, State.FINISHED),
    ],
)
def test_the_policy_says_which_ends_are_followed_by_another_start(
    when: RestartWhen, event: Event, state: State
) -> None:
    assert happen(Program(), Event.START, event, spec=spec(when=when)).state is state


def test_an_end_before_it_was_ready_is_a_failure_whatever_the_code() -> None:
    used = spec(when=RestartWhen.FAILURE, readiness=READY_BY_LOG)
    program = happen(Program(), Event.START, Event.EXITED_WELL, spec=used)
    assert (program.state, program.failures) == (State.BACKOFF, 1)


def test_a_program_that_is_not_ready_in_time_is_killed_and_that_is_the_reason() -> None:
    program, effects = restart.step(
        happen(Program(), Event.START), Event.TIMER, spec=SLOW, now_s=60, jitter=0
    )
    assert (program.state, effects) == (State.STOPPING, (Effect.KILL,))
    program = happen(program, Event.BECAME_READY, Event.EXITED_BADLY)
    assert (program.state, program.failures) == (State.BACKOFF, 1)
    assert program.reason.startswith("was not ready within 60 s and was killed; retry 1 of 5")


def test_one_that_is_late_and_never_restarted_is_finished() -> None:
    used = spec(when=RestartWhen.NEVER, readiness=READY_BY_LOG)
    program = happen(Program(), Event.START, Event.TIMER, Event.EXITED_BADLY, spec=used)
    assert program.state is State.FINISHED
    assert program.reason.startswith("was not ready within 60 s")


def test_one_that_does_not_stop_in_time_is_killed_once() -> None:
    stopping, effects = restart.step(READY, Event.STOP, spec=SLOW, now_s=2, jitter=0)
    assert (stopping.timer_at_s, effects) == (12.0, (Effect.TERMINATE,))
    killed, effects = restart.step(stopping, Event.TIMER, spec=SLOW, now_s=12, jitter=0)
    assert (killed.state, killed.timer_at_s, effects) == (State.STOPPING, None, (Effect.KILL,))
    assert killed.reason == "told to stop; did not stop within 10 s and was killed"
    assert happen(killed, Event.EXITED_BADLY) == Program()


def test_one_that_is_told_to_stop_stays_so_even_if_it_becomes_ready() -> None:
    assert happen(Program(), Event.START, Event.STOP, Event.BECAME_READY).state is State.STOPPING


def test_asked_for_again_while_it_stops_it_starts_with_a_clean_slate() -> None:
    before = Program(state=State.STARTING, failures=3, restarts=3)
    program = happen(before, Event.STOP, Event.START, Event.EXITED_BADLY)
    assert (program.state, program.failures, program.restarts) == (State.STARTING, 0, 0)


@pytest.mark.parametrize("before", [READY, happen(Program(), Event.START)])
def test_a_restart_stops_it_first(before: Program) -> None:
    stopping, effects = restart.step(before, Event.RESTART, spec=SLOW, now_s=2, jitter=0)
    assert effects == (Effect.TERMINATE,)
    assert happen(stopping, Event.EXITED_WELL).state is State.STARTING


def test_a_restart_does_not_start_what_is_stopped() -> None:
    assert happen(Program(), Event.RESTART) == Program()


@pytest.mark.parametrize("state", sorted(set(State) - ALIVE - {State.FENCED}))
def test_what_may_run_elsewhere_is_not_started_here(state: State) -> None:
    program = happen(Program(state=state), Event.FENCE)
    assert (program.state, program.reason) == (State.FENCED, "it ended")


@pytest.mark.parametrize("event", sorted(set(Event) - {*EXITS, Event.BECAME_READY, Event.RENEW}))
def test_only_newer_orders_lift_a_fence(event: Event) -> None:
    assert FENCED.state is State.FENCED
    assert happen(FENCED, event) == FENCED
    assert happen(FENCED, Event.RENEW, Event.START).state is State.STARTING


@pytest.mark.parametrize("event", [Event.START, Event.STOP, Event.RESTART, Event.FENCE])
def test_only_newer_orders_lift_a_fence_while_it_still_stops(event: Event) -> None:
    stopping = happen(READY, Event.FENCE)
    assert happen(stopping, event, Event.EXITED_WELL).state is State.FENCED
    assert (
        happen(stopping, Event.RENEW, event, Event.EXITED_WELL).state
        is {
            Event.START: State.STARTING,
            Event.STOP: State.STOPPED,
            Event.RESTART: State.STARTING,
            Event.FENCE: State.FENCED,
        }[event]
    )


def test_a_fence_comes_before_a_restart_that_was_on_its_way() -> None:
    program = happen(READY, Event.RESTART, Event.FENCE, Event.EXITED_WELL)
    assert program.state is State.FENCED


def test_a_program_that_ran_when_the_machine_went_down_comes_back_with_it() -> None:
    program = happen(READY, Event.REBOOTED)
    assert (program.state, program.failures, program.restarts) == (State.STARTING, 0, 1)
    assert program.reason == "the machine was restarted"


@pytest.mark.parametrize("before", [Program(), FENCED, Program(state=State.FINISHED)])
def test_what_did_not_run_stays_down_with_the_machine(before: Program) -> None:
    assert happen(before, Event.REBOOTED) == before


def test_one_that_is_never_restarted_is_not_by_the_machine_either() -> None:
    program = happen(READY, Event.REBOOTED, spec=spec(when=RestartWhen.NEVER))
    assert program.state is State.FINISHED


@pytest.mark.parametrize(
    ("program", "wanted", "changed", "event"),
    [
        (Program(), True, False, Event.START),
        (Program(), True, True, Event.START),
        (Program(), False, False, Event.STOP),
        (READY, True, False, None),
        (READY, True, True, Event.RESTART),
        (READY, False, True, Event.STOP),
        (happen(READY, Event.STOP), True, False, Event.START),
        (happen(READY, Event.RESTART), True, True, Event.RESTART),
        (Program(state=State.FINISHED), True, False, None),
        (Program(state=State.FAILED), True, False, None),
    ],
)
def test_what_is_told_is_compared_with_what_is(
    program: Program, *, wanted: bool, changed: bool, event: Event | None
) -> None:
    assert restart.told(program, wanted=wanted, changed=changed) is event


def test_delays_double_up_to_their_cap() -> None:
    policy = RestartPolicy(first_delay_s=0.1, max_delay_s=5.0)
    waits = [restart.delay_s(n, policy, 0.0) for n in range(1, 9)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert math.isclose(restart.delay_s(1_000_000, policy, 0.5), 5.0 * 0.75)


@pytest.mark.parametrize(
    "fields", [{"state": State.STOPPING}, {"then": State.STARTING}, {"stable": True}]
)
def test_a_program_that_contradicts_itself_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="only what is"):
        Program(**fields)  # type: ignore[arg-type]
