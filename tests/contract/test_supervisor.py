"""What every `Supervisor` promises: the fake in virtual time, the keeper with real programs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import pytest

import keeping
from hivekeeper.model import program as programs
from hivekeeper.model.errors import ConflictError, NotFoundError, TransientError
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.policy import Readiness, RestartPolicy, RestartWhen
from hivekeeper.model.program import ProgramSpec, ProgramStatus, State
from hivekeeper.ports import Supervisor
from hivekeeper.testing.clock import FakeClock
from hivekeeper.testing.supervisor import FakeSupervisor

STABLE = RestartPolicy(first_delay_s=0.01, max_delay_s=0.02, stable_after_s=0.0)
FRAIL = RestartPolicy(max_retries=2, first_delay_s=0.01, max_delay_s=0.02)
READY = Readiness(log="now ready", timeout_s=30.0)

# The world's part: what the program does by itself.
LIVE = "exec sleep 1000"
CRASH = "exit 42"
SUCCEED = "exit 0"
SLOW_READY = "while [ ! -e {gate} ]; do sleep 0.01; done; echo now ready; exec sleep 1000"


class World(Protocol):
    """A supervisor, and the world around it."""

    supervisor: Supervisor

    def spec(self, name: str, does: str, **more: Any) -> ProgramSpec: ...
    async def until(
        self, program: ProgramId, so: State | Callable[[ProgramStatus], bool]
    ) -> ProgramStatus: ...
    async def kill(self, program: ProgramId) -> None: ...
    async def let_be_ready(self, program: ProgramId) -> None: ...
    async def go_away(self) -> None: ...
    async def come_back(self) -> None: ...


class RealWorld:
    def __init__(self, folder: Path, keeper: keeping.Keeper) -> None:
        self.supervisor: Supervisor = keeper.client
        self._folder, self._keeper = folder, keeper

    def spec(self, name: str, does: str, **more: Any) -> ProgramSpec:
        script = does.format(gate=self._folder / f"workload.{name}.gate")
        return keeping.spec(self._folder, script, name, **more)

    async def until(
        self, program: ProgramId, so: State | Callable[[ProgramStatus], bool]
    ) -> ProgramStatus:
        return await self._keeper.until(program, so)

    async def kill(self, program: ProgramId) -> None:
        status = await self.until(program, lambda s: s.pid is not None)
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        await self.until(program, lambda s: s.pid != status.pid)

    async def let_be_ready(self, program: ProgramId) -> None:
        (self._folder / f"{program}.gate").touch()

    async def go_away(self) -> None:
        self._keeper.kill()

    async def come_back(self) -> None:
        await self._keeper.start()


class FakeWorld:
    def __init__(self) -> None:
        self._fake = FakeSupervisor(FakeClock())
        self.supervisor: Supervisor = self._fake
        self._does: dict[ProgramId, str] = {}

    def spec(self, name: str, does: str, **more: Any) -> ProgramSpec:
        spec = keeping.spec(Path("/nowhere"), does, name, **more)
        self._does[spec.id] = does
        return spec

    async def until(
        self, program: ProgramId, so: State | Callable[[ProgramStatus], bool]
    ) -> ProgramStatus:
        status: ProgramStatus | None = None
        for _ in range(1000):
            status = next(s for s in await self._fake.status() if s.id == program)
            if status.state is so if isinstance(so, State) else so(status):
                return status
            if status.pid is not None and self._does[program] == CRASH:
                self._fake.end(program, code=42)
            elif status.pid is not None and self._does[program] == SUCCEED:
                self._fake.end(program, code=0)
            else:
                self._fake.advance(0.005)
        raise AssertionError(f"it never came so far: {status}")

    async def kill(self, program: ProgramId) -> None:
        self._fake.end(program, signal="SIGKILL")

    async def let_be_ready(self, program: ProgramId) -> None:
        self._fake.become_ready(program)

    async def go_away(self) -> None:
        self._fake.go_away()

    async def come_back(self) -> None:
        self._fake.come_back()


@pytest.fixture(params=["fake", "real"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
    else:
        async with keeping.kept(tmp_path / "keeper") as keeper:
            yield RealWorld(tmp_path, keeper)


async def hold(
    world: World, spec: ProgramSpec, *, wanted: bool = True, generation: int = 1
) -> ProgramStatus:
    return await world.supervisor.hold(spec, wanted=wanted, generation=Generation(generation))


async def test_what_is_held_runs_and_what_is_not_wanted_does_not(world: World) -> None:
    on, off = world.spec("on", LIVE), world.spec("off", LIVE)
    await hold(world, on)
    await hold(world, off, wanted=False)
    ran = await world.until(on.id, State.READY)
    assert (ran.ready, ran.wanted, ran.run, ran.restarts, ran.generation) == (True, True, 1, 0, 1)
    assert ran.pid is not None
    assert ran.spec_digest == programs.digest(on)
    rests = await world.until(off.id, State.STOPPED)
    assert (rests.pid, rests.ready, rests.wanted, rests.run) == (None, False, False, 0)


async def test_to_hold_the_same_again_changes_nothing(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec)
    before = await world.until(spec.id, State.READY)
    again = await hold(world, spec)
    assert (again.pid, again.run) == (before.pid, before.run)
    newer = await hold(world, spec, generation=7)
    assert (newer.pid, newer.run, newer.generation) == (before.pid, before.run, 7)


async def test_an_older_generation_is_refused_and_changes_nothing(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec, generation=5)
    before = await world.until(spec.id, State.READY)
    with pytest.raises(ConflictError, match="generation 5 is held"):
        await hold(world, spec, wanted=False, generation=4)
    after = await world.until(spec.id, State.READY)
    assert (after.wanted, after.generation, after.pid) == (True, 5, before.pid)


async def test_what_is_not_wanted_any_more_is_stopped_by_its_signal(world: World) -> None:
    spec = world.spec("one", LIVE, stop_signal="SIGINT")
    await hold(world, spec)
    await world.until(spec.id, State.READY)
    await hold(world, spec, wanted=False, generation=2)
    status = await world.until(spec.id, State.STOPPED)
    assert status.pid is None
    assert status.last_end is not None
    assert status.last_end.signal == "SIGINT"


async def test_a_changed_spec_restarts_what_runs(world: World) -> None:
    before, after = world.spec("one", LIVE), world.spec("one", LIVE, env={"COLOUR": "blue"})
    await hold(world, before)
    await world.until(before.id, State.READY)
    await hold(world, after, generation=2)
    status = await world.until(after.id, lambda s: s.run == 2 and s.state is State.READY)
    assert status.restarts == 0, "somebody asked for it"
    assert status.spec_digest == programs.digest(after)


async def test_a_stable_program_that_is_killed_is_started_again_at_once(world: World) -> None:
    spec = world.spec("one", LIVE, restart=STABLE)
    await hold(world, spec)
    await world.until(spec.id, State.READY)
    for run in (1, 2, 3):
        await world.kill(spec.id)
        await world.until(spec.id, now_is(run + 1))
        await world.until(spec.id, lambda s: s.failures == 0 and s.reason == "")
    await world.kill(spec.id)
    status = await world.until(spec.id, now_is(5))
    assert (status.state, status.restarts, status.failures) == (State.READY, 4, 0)
    assert status.reason in ("killed by SIGKILL; started again at once", ""), '"": stable again'
    assert status.last_end is not None
    assert status.last_end.signal == "SIGKILL"


def now_is(run: int) -> Callable[[ProgramStatus], bool]:
    return lambda s: s.run == run and s.pid is not None


async def test_what_fails_again_and_again_is_given_up_with_the_reason(world: World) -> None:
    spec = world.spec("one", CRASH, restart=FRAIL)
    await hold(world, spec)
    waiting = await world.until(spec.id, lambda s: s.state in (State.BACKOFF, State.FAILED))
    assert waiting.reason.startswith("exited with code 42; ")
    status = await world.until(spec.id, State.FAILED)
    assert (status.pid, status.failures, status.restarts, status.run) == (None, 3, 2, 3)
    assert status.wanted, "a failure never changes what is wanted"
    assert status.reason == "exited with code 42; given up after 2 retries in a row"
    assert status.retry_at is None
    assert status.last_end is not None
    assert status.last_end.code == 42


@pytest.mark.parametrize("way", ["restart", "newer generation", "stop and start"])
async def test_what_was_given_up_begins_anew_when_a_user_asks(world: World, way: str) -> None:
    spec = world.spec("one", CRASH, restart=FRAIL)
    await hold(world, spec)
    await world.until(spec.id, State.FAILED)
    match way:
        case "restart":
            await world.supervisor.restart(spec.id)
        case "newer generation":
            await hold(world, spec, generation=2)
        case _:
            await hold(world, spec, wanted=False)
            await hold(world, spec)
    status = await world.until(spec.id, lambda s: s.state is State.FAILED and s.run == 6)
    assert (status.failures, status.restarts) == (3, 2)


async def test_a_program_is_ready_only_when_it_shows_it(world: World) -> None:
    spec = world.spec("one", SLOW_READY, readiness=READY)
    await hold(world, spec)
    starting = await world.until(spec.id, lambda s: s.pid is not None)
    assert (starting.state, starting.ready) == (State.STARTING, False)
    await world.let_be_ready(spec.id)
    ready = await world.until(spec.id, State.READY)
    assert (ready.ready, ready.pid) == (True, starting.pid)


async def test_a_program_that_is_not_ready_in_time_has_failed_for_that_reason(
    world: World,
) -> None:
    late = Readiness(log="now ready", timeout_s=0.05)
    policy = RestartPolicy(max_retries=0)
    spec = world.spec("one", SLOW_READY, readiness=late, restart=policy)
    await hold(world, spec)
    status = await world.until(spec.id, State.FAILED)
    assert status.reason.startswith("was not ready within 0.05 s and was killed")
    assert status.pid is None


@pytest.mark.parametrize(
    ("when", "does"),
    [(RestartWhen.NEVER, CRASH), (RestartWhen.NEVER, SUCCEED), (RestartWhen.FAILURE, SUCCEED)],
)
async def test_what_is_not_to_be_restarted_is_finished(
    world: World, when: RestartWhen, does: str
) -> None:
    spec = world.spec("one", does, restart=RestartPolicy(when=when))
    await hold(world, spec)
    status = await world.until(spec.id, State.FINISHED)
    assert (status.pid, status.run, status.wanted) == (None, 1, True)
    assert f"restart.when is {when.value}" in status.reason
    assert (await hold(world, spec)).state is State.FINISHED, (
        "to hold it again is not to ask again"
    )


async def test_a_restart_is_a_new_run_with_the_past_forgotten(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec)
    await world.until(spec.id, State.READY)
    await world.supervisor.restart(spec.id)
    status = await world.until(spec.id, lambda s: s.run == 2 and s.state is State.READY)
    assert (status.restarts, status.failures) == (0, 0)


async def test_only_what_is_held_and_wanted_can_be_restarted(world: World) -> None:
    spec = world.spec("one", LIVE)
    with pytest.raises(NotFoundError):
        await world.supervisor.restart(spec.id)
    await hold(world, spec, wanted=False)
    with pytest.raises(ConflictError):
        await world.supervisor.restart(spec.id)


async def test_what_is_released_is_gone_and_to_release_it_again_is_no_error(world: World) -> None:
    spec, other = world.spec("one", LIVE), world.spec("other", LIVE)
    await hold(world, spec)
    await hold(world, other)
    await world.until(spec.id, State.READY)
    await world.supervisor.release(spec.id, logs=True)
    assert [s.id for s in await world.supervisor.status()] == [other.id]
    await world.supervisor.release(spec.id, logs=True)
    assert (await hold(world, spec)).restarts == 0


async def test_status_is_in_order_of_id(world: World) -> None:
    for name in ("b", "c", "a"):
        await hold(world, world.spec(name, LIVE), wanted=False)
    found = [s.id for s in await world.supervisor.status()]
    assert found == ["workload.a", "workload.b", "workload.c"]


async def test_changes_tell_what_is_and_then_what_changes(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec)
    await world.until(spec.id, State.READY)
    async with asyncio.timeout(keeping.DEADLINE_S), aclosing(world.supervisor.changes()) as told:  # type: ignore[type-var]
        first = await anext(told)
        assert (first.id, first.state) == (spec.id, State.READY)
        await hold(world, spec, wanted=False, generation=2)
        async for status in told:
            if status.state is State.STOPPED:
                break


async def test_changes_end_with_an_error_when_the_keeper_goes(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec)
    await world.until(spec.id, State.READY)
    async with asyncio.timeout(keeping.DEADLINE_S), aclosing(world.supervisor.changes()) as told:  # type: ignore[type-var]
        await anext(told)
        await world.go_away()
        with pytest.raises(TransientError):
            await exhausted(told)


async def exhausted(told: AsyncIterator[ProgramStatus]) -> None:
    async for _ in told:
        pass


async def test_a_keeper_that_was_away_comes_back_with_what_it_held(world: World) -> None:
    spec = world.spec("one", LIVE)
    await hold(world, spec, generation=3)
    before = await world.until(spec.id, State.READY)
    await world.go_away()
    with pytest.raises(TransientError):
        await world.supervisor.status()
    with pytest.raises(TransientError):
        await hold(world, spec, generation=3)
    await world.come_back()
    after = await world.until(spec.id, State.READY)
    assert (after.pid, after.run, after.generation) == (before.pid, before.run, 3)
