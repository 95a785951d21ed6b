"""A keeper without processes: `ports.Supervisor` in memory, for tests of whatever asks a keeper.

What it decides is decided by `core.restart`, as in the real one; the contract suite holds both to
the same promises. The world's part (what ends, becomes ready, or is slow) is the test's to play.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from hivekeeper.aio.latest import Latest
from hivekeeper.core import restart
from hivekeeper.core.restart import Effect, Event, Program
from hivekeeper.model import program as programs
from hivekeeper.model.errors import ConflictError, NotFoundError, TransientError
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.program import Ending, ProgramSpec, ProgramStatus, State
from hivekeeper.testing.clock import FakeClock

FIRST_PID: Final = 1000


class _Fake:
    """A program: what was told, and what became of it."""

    def __init__(self, spec: ProgramSpec, *, wanted: bool, generation: Generation) -> None:
        self.spec, self.wanted, self.generation = spec, wanted, generation
        self.program = Program()
        self.since: datetime
        self.started: ProgramSpec | None = None
        """What its present or last run was started with."""
        self.pid: int | None = None
        self.run = 0
        self.end: Ending | None = None


_Watcher = Latest[ProgramId | None, ProgramStatus | None]
"""None: the keeper goes."""


class FakeSupervisor:
    """A `Supervisor`. Time stands still but in `advance`.

    Attributes:
        stubborn: Programs that do not end when they are asked to, only when they are killed.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.stubborn: set[ProgramId] = set()
        self._away = False
        self._clock = clock
        self._held: dict[ProgramId, _Fake] = {}
        self._watchers: set[_Watcher] = set()
        self._pids = FIRST_PID

    async def hold(
        self, spec: ProgramSpec, *, wanted: bool, generation: Generation
    ) -> ProgramStatus:
        self._reach()
        fake = self._held.get(spec.id)
        if fake is None:
            fake = self._held[spec.id] = _Fake(spec, wanted=wanted, generation=generation)
            fake.since = self._clock.now()
        if generation < fake.generation:
            raise ConflictError(f"cannot hold {spec.id}: generation {fake.generation} is held")
        newer = generation > fake.generation
        fake.spec, fake.wanted, fake.generation = spec, wanted, generation
        if newer:
            self._happen(fake, Event.RENEW)
        self._heed(fake)
        self._tell(fake)
        return self._status(fake)

    async def restart(self, program: ProgramId) -> ProgramStatus:
        self._reach()
        if program not in self._held:
            raise NotFoundError(f"cannot restart {program}: it is not held")
        fake = self._held[program]
        if not fake.wanted or fake.program.state is State.FENCED:
            raise ConflictError(f"cannot restart {program}: it is {fake.program.state.value}")
        self._happen(fake, Event.RESTART)
        return self._status(fake)

    async def release(self, program: ProgramId, *, logs: bool) -> None:  # noqa: ARG002  # has none
        self._reach()
        fake = self._held.get(program)
        if fake is None:
            return
        fake.wanted = False
        self._heed(fake)
        if fake.pid is not None:
            self._end(fake, Ending(signal="SIGKILL", at=self._clock.now()))
        del self._held[program]

    async def status(self) -> list[ProgramStatus]:
        self._reach()
        return [self._status(self._held[program]) for program in sorted(self._held)]

    async def changes(self) -> AsyncIterator[ProgramStatus]:
        watcher: _Watcher = Latest()
        for status in await self.status():
            watcher.put(status.id, status)
        self._watchers.add(watcher)
        try:
            while True:
                for news in await watcher.take():
                    self._reach()
                    if news is not None:
                        yield news
        finally:
            self._watchers.discard(watcher)

    def become_ready(self, program: ProgramId) -> None:
        """Let it show that it is ready."""
        self._happen(self._held[program], Event.BECAME_READY)

    def end(
        self, program: ProgramId, *, code: int | None = None, signal: str | None = None
    ) -> None:
        """Let its process end by itself: with a code, by a signal, or unseen."""
        fake = self._held[program]
        assert fake.pid is not None, "only what runs can end"
        self._end(fake, Ending(code=code, signal=signal, at=self._clock.now()))

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever is due in it happens in its moment."""
        until_s = self._clock.now_s() + seconds
        while due := [f for f in self._held.values() if _due_s(f) <= until_s]:
            first = min(due, key=_due_s)
            self._clock.advance(max(0.0, _due_s(first) - self._clock.now_s()))
            self._happen(first, Event.TIMER)
        self._clock.advance(max(0.0, until_s - self._clock.now_s()))

    def go_away(self) -> None:
        """Let the keeper be out of reach; what runs goes on."""
        self._away = True
        for watcher in self._watchers:
            watcher.put(None, None)

    def come_back(self) -> None:
        """Let it be there again."""
        self._away = False

    def _reach(self) -> None:
        if self._away:
            raise TransientError("cannot reach the keeper: the test says so")

    def _heed(self, fake: _Fake) -> None:
        event = restart.told(
            fake.program, wanted=fake.wanted, changed=fake.spec != (fake.started or fake.spec)
        )
        if event is not None:
            self._happen(fake, event)

    def _happen(self, fake: _Fake, event: Event, what: str = "") -> None:
        before = fake.program
        fake.program, effects = restart.step(
            before,
            event,
            spec=fake.spec,
            now_s=self._clock.now_s(),
            jitter=self._clock.random(),
            what=what,
        )
        if fake.program.state is not before.state:
            fake.since = self._clock.now()
        if Effect.SPAWN in effects:
            self._pids += 1
            fake.pid, fake.run, fake.started = self._pids, fake.run + 1, fake.spec
        self._tell(fake)
        if Effect.TERMINATE in effects and fake.spec.id not in self.stubborn:
            self._end(fake, Ending(signal=fake.spec.stop_signal, at=self._clock.now()))
        if Effect.KILL in effects:
            self._end(fake, Ending(signal="SIGKILL", at=self._clock.now()))

    def _end(self, fake: _Fake, end: Ending) -> None:
        fake.pid, fake.end = None, end
        event = Event.EXITED_WELL if end.code == 0 else Event.EXITED_BADLY
        self._happen(fake, event, str(end))
        self._heed(fake)

    def _tell(self, fake: _Fake) -> None:
        if self._held.get(fake.spec.id) is fake:
            for watcher in self._watchers:
                watcher.put(fake.spec.id, self._status(fake))

    def _status(self, fake: _Fake) -> ProgramStatus:
        program = fake.program
        waits = program.state in (State.BACKOFF, State.FAILED) and program.timer_at_s is not None
        wait_s = (program.timer_at_s or 0.0) - self._clock.now_s()
        return ProgramStatus(
            id=fake.spec.id,
            generation=fake.generation,
            state=program.state,
            wanted=fake.wanted,
            spec_digest=programs.digest(fake.spec),
            since=fake.since,
            pid=fake.pid,
            run=fake.run,
            ready=program.state is State.READY,
            restarts=program.restarts,
            failures=program.failures,
            reason=program.reason,
            retry_at=self._clock.now() + timedelta(seconds=wait_s) if waits else None,
            last_end=fake.end,
        )


def _due_s(fake: _Fake) -> float:
    return float("inf") if fake.program.timer_at_s is None else fake.program.timer_at_s
