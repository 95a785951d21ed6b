"""One run of a program: its first process and all that belongs to it, until nothing is left.

Starts or adopts the process, hears when it is ready and when it ends, and keeps its log in bounds.
A run has ended when its whole group has: what the first process leaves behind is killed before
anybody hears of the end. Does not decide what happens then.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from hivekeeper.model.program import ProgramSpec
from hivekeeper.ports import Clock
from hivekeeper.supervisor import cgroups, identity, kin, launcher, logs, readiness
from hivekeeper.supervisor.cgroups import Cgroups
from hivekeeper.supervisor.identity import Written
from hivekeeper.supervisor.kin import Kin
from hivekeeper.supervisor.launcher import Files
from hivekeeper.supervisor.reaper import How, Reaper
from hivekeeper.supervisor.state import Run

log = logging.getLogger(__name__)

SWEEP_S: Final = 0.001
SWEEP_MAX_S: Final = 0.25
"""Between two looks at what is left of a run that was killed: twice as long each time."""

FIRST_LOG_LOOK_S: Final = 0.1


class World(Struct, frozen=True):
    """What all runs of a keeper share."""

    keeper: str
    """Names the keeper's folder in a few letters."""
    clock: Clock
    reaper: Reaper
    cgroups: Cgroups
    launch: launcher.World
    tasks: asyncio.TaskGroup


class Process:
    """A run. `start` or `adopt` it, once; `on_end` is called once, when nothing of it is left."""

    def __init__(
        self,
        spec: ProgramSpec,
        run: Run,
        world: World,
        *,
        on_ready: Callable[[], None],
        on_end: Callable[[How], None],
    ) -> None:
        self.pid: int | None = None
        """Its first process, while that one lives."""
        self._spec, self._run, self._world = spec, run, world
        self._on_ready, self._on_end = on_ready, on_end
        self._kin = Kin(world.keeper, spec.id)
        self._notify: socket.socket | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._log = logs.path(spec.logs, run.number)
        self._log_size, self._log_looked_s = 0, world.clock.now_s()
        self._log_timer: asyncio.TimerHandle | None = None

    def start(self, pid_file: Path) -> None:
        """Start it. Raises `PermanentError` or `OSError`; then nothing runs."""
        world, spec, run = self._world, self._spec, self._run
        cgroups.make(world.cgroups, spec.id, spec.resources)
        variables = self._kin.mark | {"HIVE_RUN": str(run.number)}
        if self._listens():
            self._notify = readiness.listen(run.notify)
            variables["NOTIFY_SOCKET"] = f"@{run.notify}"
        try:
            with _files(spec, pid_file, run.number) as files:
                pid, pidfd = launcher.spawn(
                    spec,
                    world.launch,
                    run=run.number,
                    groups=run.groups,
                    variables=variables,
                    files=files,
                )
            self._attend(pid, pidfd, own=True)
        except BaseException:
            self._let_go()
            raise

    def adopt(self, pid_file: Path) -> None:
        """Go on with what an earlier keeper started; if that is gone, it has ended.

        Raises `BlockingIOError` while a launcher is at work: then nothing has happened.
        """
        found = self._find(identity.written(pid_file))
        if found is None:
            self._first_ended(How())
            return
        if self._listens():
            with contextlib.suppress(OSError):  # then it is not heard, and runs into its deadline
                self._notify = readiness.listen(self._run.notify)
        self._attend(*found, own=False)

    def wait_ready(self) -> None:
        """Call `on_ready` once it is ready."""
        assert self._spec.readiness is not None, "without readiness, started is ready"
        shown = readiness.shown(
            self._spec.readiness, log=self._log, notify=self._notify, belongs=self._has
        )
        self._waiting = self._world.tasks.create_task(
            self._hear_ready(shown), name=f"readiness of {self._spec.id}"
        )
        self._waiting.add_done_callback(self._close_notify)

    def terminate(self) -> None:
        """Ask the first process to end, with the signal that it understands."""
        if self.pid is not None:
            self._world.reaper.send(self.pid, signal.Signals[self._run.stop_signal])

    def kill(self) -> None:
        """Kill all of it."""
        if self.pid is not None:
            self._world.reaper.send(self.pid, signal.SIGKILL)
        self._clear()

    def let_go(self) -> None:
        """Stop watching; whatever runs goes on."""
        if self.pid is not None:
            self._world.reaper.forget(self.pid)
        self._let_go()

    def _find(self, written: Written | None) -> tuple[int, int] | None:
        """Return the pid and a pidfd of the process that became this run, while it lives."""
        this = (self._run.number, self._world.launch.boot)
        if written is None or (written.run, written.boot) != this:
            return None
        pidfd = identity.open_process(written.pid, written.started)
        return None if pidfd is None else (written.pid, pidfd)

    def _attend(self, pid: int, pidfd: int, *, own: bool) -> None:
        self.pid = pid
        found = identity.stat(pid)  # whoever is pinned down by a pidfd is there, or a zombie
        self._kin = Kin(self._kin.keeper, self._kin.program, pid, found.started if found else 0)
        self._world.reaper.watch(pid, pidfd, own=own, on_end=self._first_ended)
        self._look_at_log_in(FIRST_LOG_LOOK_S)

    async def _hear_ready(self, shown: Coroutine[None, None, None]) -> None:
        await shown
        self._on_ready()

    def _first_ended(self, how: How) -> None:
        """Its first process is gone: so must be all others, and then it is over."""
        self.pid = None
        self._let_go()
        self._trim_log()
        if self._clear():
            self._on_end(how)
        else:
            self._world.tasks.create_task(self._sweep(how), name=f"sweep {self._spec.id}")

    async def _sweep(self, how: How) -> None:
        pause_s = SWEEP_S
        while not self._clear():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, SWEEP_MAX_S)
        self._on_end(how)

    def _clear(self) -> bool:
        if self._run.groups:
            return cgroups.clear(self._run.groups[0])
        return kin.clear(self._kin)

    def _has(self, pid: int) -> bool:
        if pid == self.pid:
            return True
        if self._run.groups:
            return cgroups.contains(self._run.groups[0], pid)
        return kin.contains(self._kin, pid)

    def _listens(self) -> bool:
        return self._spec.readiness is not None and self._spec.readiness.notify

    def _let_go(self) -> None:
        if self._log_timer is not None:
            self._log_timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        else:
            self._close_notify()

    def _close_notify(self, _: object = None) -> None:
        """Close the socket that readiness is told on, but not before nobody listens to it."""
        if self._notify is not None:
            self._notify.close()

    def _trim_log(self) -> int:
        try:
            return logs.trim(self._log)
        except OSError as error:
            log.warning("cannot cut %s: %s", self._log, error.strerror)
            return self._log_size

    def _look_at_log(self) -> None:
        """Keep the log in bounds, and come back before it can have grown too much."""
        now_s, size = self._world.clock.now_s(), self._trim_log()
        pause_s = logs.pause_s(size - self._log_size, now_s - self._log_looked_s)
        self._log_size, self._log_looked_s = size, now_s
        self._look_at_log_in(pause_s)

    def _look_at_log_in(self, pause_s: float) -> None:
        """Come back then; to all logs that are quiet at the same moment: the keeper wakes once."""
        loop = asyncio.get_running_loop()
        at_s = loop.time() + pause_s
        if pause_s >= logs.QUIET_LOOK_S:
            at_s -= at_s % logs.QUIET_LOOK_S
        self._log_timer = loop.call_at(at_s, self._look_at_log)


@contextlib.contextmanager
def _files(spec: ProgramSpec, pid_file: Path, run: int) -> Iterator[Files]:
    """Open what the program begins with; a launcher has its own copies afterwards."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a fifo must not block us
    with contextlib.ExitStack() as after:

        def opened(fd: int) -> int:
            after.callback(os.close, fd)
            return fd

        stdin = opened(os.open(spec.stdin or os.devnull, flags))
        os.set_blocking(stdin, True)
        output = opened(logs.create(spec.logs, run))
        yield Files(stdin, output, output, opened(identity.blank(pid_file)))
