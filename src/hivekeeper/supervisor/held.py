"""One program that the keeper holds: does what `core.restart` decides, and tells it what happened.

Every change goes through `_happen`: decide, write it down, then do it. Each effect may be
repeated, so a keeper that is killed between any two lines is followed by one that finds out what
is (`begin`) and goes on from there. No second copy can come of it: a run is over when nothing of
its group is left, and the pid file says, under a lock, whether a launcher got through.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec import structs

from hivekeeper.core import restart
from hivekeeper.core.restart import ALIVE, Effect, Event, Program
from hivekeeper.model import program as programs
from hivekeeper.model.errors import ConflictError, PermanentError, TransientError
from hivekeeper.model.ids import ProgramId
from hivekeeper.model.program import Ending, ProgramStatus, State
from hivekeeper.supervisor import cgroups, identity, kin, launcher, logs
from hivekeeper.supervisor.kin import Kin
from hivekeeper.supervisor.process import Process, World
from hivekeeper.supervisor.reaper import How
from hivekeeper.supervisor.state import Folder, Known, Run, Told
from hivekeeper.wire.keeper import Hold

log = logging.getLogger(__name__)

TICK_S: Final = 5.0
"""The loop's clock stands still while the machine sleeps, ours does not: waits are cut up."""

LAUNCH_S: Final = 5.0
"""A launcher needs milliseconds. One that is found after so long is stuck, and is killed."""

LOOK_S: Final = 0.005
"""Between two looks at what takes a moment."""

REASON: Final = 500
"""Characters of a reason: it is to be read, and `known.json` is a page."""


class Held:
    """A program, from its first hold to its release, all in the keeper's one thread.

    Args:
        folder: Where it is kept; what is there is gone on with.
        told: What clients want of it, on the disk already.
        world: What all runs share.
        changed: Called after every change.
    """

    def __init__(
        self, folder: Folder, told: Told, world: World, changed: Callable[["Held"], None]
    ) -> None:
        self._folder, self._told, self._world, self._changed = folder, told, world, changed
        self._digest = programs.digest(told.hold.spec)
        self._known = folder.known() or Known(
            program=Program(), since=world.clock.now(), boot=world.launch.boot
        )
        self._process: Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_s = world.clock.now_s()
        self._begun = asyncio.Event()
        self._still = asyncio.Event()
        """Nothing of it runs."""
        self._closing = False
        """This keeper does not start it any more."""

    @property
    def id(self) -> ProgramId:
        """Its name."""
        return self._told.hold.spec.id

    def status(self) -> ProgramStatus:
        """Return how it is."""
        program, run = self._known.program, self._known.run
        pid = None if self._process is None else self._process.pid
        waits = program.state in (State.BACKOFF, State.FAILED)
        return ProgramStatus(
            id=self.id,
            generation=self._told.hold.generation,
            state=program.state,
            wanted=self._told.hold.wanted,
            spec_digest=self._digest,
            since=self._known.since,
            pid=pid,
            run=0 if run is None else run.number,
            ready=program.state is State.READY and pid is not None,
            restarts=program.restarts,
            failures=program.failures,
            reason=program.reason,
            retry_at=self._wall(program.timer_at_s) if waits else None,
            last_end=self._known.last_end,
        )

    def begin(self) -> None:
        """Find out what an earlier keeper left, and go on; comes back if that takes time."""
        try:
            found = self._known.boot != self._world.launch.boot or self._adopt()
        except BlockingIOError:
            found = False
        if not found:
            if self._world.clock.now_s() - self._began_s > LAUNCH_S:
                kin.clear(Kin(self._world.keeper, self.id))
            asyncio.get_running_loop().call_later(LOOK_S, self.begin)
            return
        if self._known.boot != self._world.launch.boot:
            self._happen(Event.REBOOTED)
        self._begun.set()
        self._set_still()
        self._set_timer()
        self._heed()

    def hold(self, hold: Hold) -> None:
        """Do as a client says, from now on and for all keepers to come.

        Raises:
            ConflictError: It is older than what was said before.
            UserError: It can't be done on this machine.
            TransientError: It can't be kept on disk just now, or the program is on its way out.
        """
        before = self._told
        if hold == before.hold:
            return
        if hold.generation < before.hold.generation:
            raise ConflictError(
                f"cannot hold {self.id} by generation {hold.generation}: "
                f"generation {before.hold.generation} is held"
            )
        self._refuse_if_closing()
        launcher.check(hold.spec)
        self._tell(hold)
        if hold.generation > before.hold.generation:
            self._happen(Event.RENEW)
        self._heed()
        self._changed(self)

    def restart(self) -> None:
        """Stop it and start it again.

        Raises:
            ConflictError: It is not to run.
            TransientError: It is on its way out, or just being found.
        """
        self._refuse_if_closing()
        if not self._told.hold.wanted:
            raise ConflictError(f"cannot restart {self.id}: it is stopped", hint="start it")
        if State.FENCED in (self._known.program.state, self._known.program.then):
            raise ConflictError(f"cannot restart {self.id}: {self._known.program.reason}")
        if not self._begun.is_set():
            raise TransientError(f"cannot restart {self.id}: it is just being found")
        self._happen(Event.RESTART)

    async def quit(self) -> None:
        """Stop it, and return when nothing of it runs; this keeper does not start it again."""
        self._closing = True
        await self._begun.wait()
        if self._known.program.state in ALIVE | {State.BACKOFF}:
            self._happen(Event.STOP)
        await self._still.wait()
        self._set_timer()
        self._remove_groups()

    async def release(self, *, logs_too: bool) -> None:
        """Stop it, and return when nothing of it is left; also on a disk that is full."""
        hold = structs.replace(self._told.hold, wanted=False)
        try:
            self._tell(hold)
        except TransientError as error:
            log.warning("%s; released all the same", error)
            self._told = structs.replace(self._told, hold=hold)
        await self.quit()
        while not self._remove_groups():  # noqa: ASYNC110  # the kernel has no event for it
            await asyncio.sleep(LOOK_S)
        if logs_too:
            logs.remove(self._told.hold.spec.logs)
        self._folder.remove()  # last: whoever asks again finds what is left to do

    def let_go(self) -> None:
        """Stop watching; whatever runs goes on, for the next keeper to find."""
        self._closing = True
        self._set_timer()
        if self._process is not None:
            self._process.let_go()

    def _adopt(self) -> bool:
        """Go on with what runs; return whether all is as it was written down."""
        if self._known.program.state not in ALIVE:
            return self._is_nothing_there()
        assert self._known.run is not None, "what runs was started"
        self._process = process = self._new_process(self._known.run)
        process.adopt(self._folder.pid)
        if process.pid is None:
            return True  # it has ended, and we have been told, or will be when its rest is gone
        log.info("%s goes on as process %d", self.id, process.pid)
        match self._known.program.state:
            case State.STARTING if self._told.hold.spec.readiness is not None:
                process.wait_ready()
            case State.STOPPING if self._known.program.timer_at_s is not None:
                process.terminate()
            case State.STOPPING:
                process.kill()
        return True

    def _is_nothing_there(self) -> bool:
        """Whether no process runs, as should be. A full disk may have kept us from noting one."""
        written = identity.written(self._folder.pid)
        if written is None or written.boot != self._world.launch.boot:
            return True
        pidfd = identity.open_process(written.pid, written.started)
        if pidfd is None:
            return True
        os.close(pidfd)
        log.warning("%s runs as process %d, unknown to us: killed", self.id, written.pid)
        kin.clear(Kin(self._world.keeper, self.id, written.pid, written.started))
        return False

    def _tell(self, hold: Hold) -> None:
        changed = hold.spec != self._told.hold.spec
        told = Told(hold=hold, edition=self._told.edition + changed)
        try:
            self._folder.keep_told(told)
        except OSError as error:
            raise TransientError(f"cannot hold {self.id}: {error}") from error
        self._told, self._digest = told, programs.digest(hold.spec)

    def _heed(self) -> None:
        """Compare what is with what was told, and act on the difference."""
        if self._closing or not self._begun.is_set():
            return
        run, told = self._known.run, self._told
        event = restart.told(
            self._known.program,
            wanted=told.hold.wanted,
            changed=run is not None and run.edition != told.edition,
        )
        if event is not None:
            self._happen(event)

    def _happen(self, event: Event, what: str = "", end: Ending | None = None) -> None:
        """Decide, write it down, do it."""
        before, clock = self._known, self._world.clock
        program, effects = restart.step(
            before.program,
            event,
            spec=self._told.hold.spec,
            now_s=clock.now_s(),
            jitter=clock.random(),
            what=what,
        )
        moved = program.state is not before.program.state
        known = Known(
            program=program,
            since=clock.now() if moved else before.since,
            boot=self._world.launch.boot,
            run=self._next_run() if Effect.SPAWN in effects else before.run,
            last_end=end or before.last_end,
        )
        if known == before:
            return
        self._folder.keep_known(known)
        self._known = known
        if moved:
            because = program.reason or what or event.value
            log.info("%s is %s: %s", self.id, program.state.value, because)
        self._set_still()
        self._set_timer()
        for effect in effects:
            self._do(effect)
        self._changed(self)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Effect.SPAWN:
                self._spawn()
            case Effect.TERMINATE if self._process is not None:
                self._process.terminate()
            case Effect.KILL if self._process is not None:
                self._process.kill()

    def _spawn(self) -> None:
        assert self._known.run is not None, "it was made with the decision"
        self._process = self._new_process(self._known.run)
        try:
            self._process.start(self._folder.pid)
        except (PermanentError, OSError) as error:
            self._process = None
            hint = f" ({error.hint})" if isinstance(error, PermanentError) and error.hint else ""
            self._happen(Event.EXITED_BADLY, f"could not be started: {error}{hint}"[:REASON])
            return
        if self._known.program.state is State.STARTING:
            self._process.wait_ready()

    def _became_ready(self) -> None:
        self._happen(Event.BECAME_READY)

    def _ended(self, how: How) -> None:
        """Nothing of the run is left."""
        self._process = None
        end = Ending(code=how.code, signal=how.signal, at=self._world.clock.now())
        event = Event.EXITED_WELL if how.code == 0 else Event.EXITED_BADLY
        self._happen(event, str(end), end)
        self._heed()

    def _new_process(self, run: Run) -> Process:
        return Process(
            self._told.hold.spec,
            run,
            self._world,
            on_ready=self._became_ready,
            on_end=self._ended,
        )

    def _next_run(self) -> Run:
        """Return what the next start is; its number is never one whose log is there."""
        spec, run = self._told.hold.spec, self._known.run
        last = max(logs.runs(spec.logs), default=0) if run is None else run.number
        unguessable = os.urandom(8).hex()
        groups = cgroups.folders(self._world.cgroups, spec.id, spec.resources)
        if run is not None:
            cgroups.remove(set(run.groups) - set(groups))
        return Run(
            number=last + 1,
            edition=self._told.edition,
            stop_signal=spec.stop_signal,
            groups=groups,
            notify=f"hivekeeper/{self._world.keeper}/{spec.id}/{unguessable}",
        )

    def _remove_groups(self) -> bool:
        return self._known.run is None or cgroups.remove(self._known.run.groups)

    def _set_still(self) -> None:
        if self._known.program.state in ALIVE:
            self._still.clear()
        else:
            self._still.set()

    def _set_timer(self) -> None:
        """Come back when the program's time has come; a keeper that ends does not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = self._known.program.timer_at_s
        if at_s is None or (self._closing and self._known.program.state not in ALIVE):
            return
        wait_s = min(max(0.0, at_s - self._world.clock.now_s()), TICK_S)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        at_s = self._known.program.timer_at_s
        if at_s is not None and self._world.clock.now_s() >= at_s:
            self._happen(Event.TIMER)
        else:
            self._set_timer()

    def _wall(self, at_s: float | None) -> datetime | None:
        """Return the wall-clock time of a moment since boot, as of now."""
        if at_s is None:
            return None
        clock = self._world.clock
        return clock.now() + timedelta(seconds=at_s - clock.now_s())

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise TransientError(f"cannot change {self.id}: it is being stopped for good")
