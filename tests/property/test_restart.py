"""What the restart rules promise for every history that the world can produce."""

from hypothesis import given
from hypothesis import strategies as st

from hivekeeper.core import restart
from hivekeeper.core.restart import ALIVE, Effect, Event, Program
from hivekeeper.model.ids import ProgramId
from hivekeeper.model.policy import Readiness, RestartPolicy, RestartWhen
from hivekeeper.model.program import ProgramSpec, State

EXITS = [Event.EXITED_WELL, Event.EXITED_BADLY]
ORDERS = [
    Event.START,
    Event.STOP,
    Event.RESTART,
    Event.RENEW,
    Event.FENCE,
    Event.TIMER,
    Event.REBOOTED,
]

policies = st.builds(
    RestartPolicy,
    when=st.sampled_from(RestartWhen),
    max_retries=st.integers(0, 3),
    stable_after_s=st.floats(0, 50),
    probe_every_s=st.sampled_from([0.0, 10.0]),
)
specs = st.builds(
    ProgramSpec,
    id=st.just(ProgramId("workload.x")),
    command=st.just(("x",)),
    logs=st.just("/logs"),
    readiness=st.sampled_from([None, Readiness(log="ready", timeout_s=30.0)]),
    restart=policies,
)


@given(failures=st.integers(1, 1000), jitter=st.floats(0, 1, exclude_max=True))
def test_delays_grow_to_their_cap_and_never_vanish(failures: int, jitter: float) -> None:
    policy = RestartPolicy()
    wait_s = restart.delay_s(failures, policy, jitter)
    assert policy.first_delay_s / 2 < wait_s <= policy.max_delay_s
    assert wait_s <= restart.delay_s(failures + 1, policy, jitter)


class World:
    """One process or none. It ends and becomes ready only if it lives; a reboot ends it."""

    def __init__(self, spec: ProgramSpec) -> None:
        self.spec = spec
        self.program, self.copies, self.now_s = Program(), 0, 0.0

    def possible(self) -> list[Event]:
        return ORDERS + ([Event.BECAME_READY, *EXITS] if self.copies else [])

    def happen(self, event: Event) -> tuple[Effect, ...]:
        if event in (*EXITS, Event.REBOOTED):
            self.copies = 0
        self.program, effects = restart.step(
            self.program, event, spec=self.spec, now_s=self.now_s, jitter=0.0, what="it ended"
        )
        self.copies += Effect.SPAWN in effects
        return effects


@given(st.data())
def test_there_are_never_two_copies_and_what_is_not_wanted_comes_to_rest(
    data: st.DataObject,
) -> None:
    world = World(data.draw(specs))
    for _ in range(data.draw(st.integers(0, 40))):
        world.now_s += data.draw(st.floats(0, 100))
        event = data.draw(st.sampled_from(world.possible()))
        state = world.program.state
        effects = world.happen(event)
        assert world.copies == (world.program.state in ALIVE) <= 1
        if state is State.FENCED and event is not Event.RENEW:
            assert world.program.state is State.FENCED, "only newer orders lift a fence"
        if event in (Event.STOP, Event.FENCE):
            assert Effect.SPAWN not in effects
        if world.program.state in (State.BACKOFF, State.FAILED, State.FENCED, State.FINISHED):
            assert world.program.reason, "a person wants to know why"
        if world.program.state is State.BACKOFF is not state:
            assert world.program.timer_at_s is not None
            assert world.program.timer_at_s >= world.now_s, "it is not forgotten"
    for event in (Event.RENEW, Event.STOP, Event.EXITED_BADLY):
        if event is not Event.EXITED_BADLY or world.copies:
            assert Effect.SPAWN not in world.happen(event)
    assert world.program.state in (State.STOPPED, State.FENCED)
    assert world.copies == 0


@given(st.data())
def test_a_program_that_only_fails_is_given_up_after_just_so_many_starts(
    data: st.DataObject,
) -> None:
    world = World(data.draw(specs.filter(lambda s: s.restart.when is not RestartWhen.NEVER)))
    starts = 0
    event = Event.START
    while world.program.state is not State.FAILED:
        starts += Effect.SPAWN in world.happen(event)
        event = Event.EXITED_BADLY if world.copies else Event.TIMER
        assert starts <= world.spec.restart.max_retries + 1
    assert starts == world.spec.restart.max_retries + 1
