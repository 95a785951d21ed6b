"""A real keeper for tests: its process, its client, and the certainty that nothing of it is left.

Run as a program it is the keeper of the folder that it is given: on a machine that has only some
kinds of control groups (`Groups`), and killed at its n-th effect, if a test asks for that.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.model.errors import TransientError, UserError
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.policy import RestartPolicy
from hivekeeper.model.program import ProgramSpec, ProgramStatus, State
from hivekeeper.supervisor import cgroups, identity, keeper, launcher, logs, reaper, state
from hivekeeper.supervisor.client import KeeperClient

DEADLINE_S = 20.0
"""Long enough for a machine that is busy with other things; what works takes milliseconds."""

EAGER = RestartPolicy(first_delay_s=0.01, max_delay_s=0.05, stable_after_s=0.0)

So = State | Callable[[ProgramStatus], bool]


class Groups(StrEnum):
    """Which control groups the keeper's machine has."""

    UNIFIED = "unified"
    """All that this one has; the unified hierarchy is preferred."""
    VERSION_1 = "version 1"
    NONE = "none"


class Keeper:
    """A keeper in `folder`, killed and started as a test wants it."""

    def __init__(self, folder: Path, groups: Groups = Groups.UNIFIED) -> None:
        self.folder, self._groups = folder, groups
        self.client = KeeperClient(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def ended_by_itself(self) -> int | None:
        """How it ended, if nobody asked it to."""
        return None if self._asked or self._process is None else self._process.poll()

    def launch(self, die_at: int = 0) -> None:
        """Start it, and do not wait; it kills itself at its effect of that number, if any."""
        command = [sys.executable, __file__, str(self.folder), self._groups, str(die_at)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._asked = False

    async def start(self) -> None:
        """Start it, and return once it answers."""
        self.launch()
        await until(self._answers)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the keeper; return its exit status."""
        assert self._process is not None
        self._asked = True
        self._process.send_signal(number)
        return self._process.wait(DEADLINE_S)

    async def wait(self) -> int:
        """Return its exit status once it has ended by itself."""
        assert self._process is not None
        self._asked = True
        await until(lambda: self.ended)
        return self._process.returncode

    async def hold(
        self, spec: ProgramSpec, *, wanted: bool = True, generation: int = 1
    ) -> ProgramStatus:
        return await self.client.hold(spec, wanted=wanted, generation=Generation(generation))

    async def get(self, program: ProgramId) -> ProgramStatus | None:
        """Return how it is; None: not held, or the keeper is away."""
        with contextlib.suppress(TransientError):
            return next((s for s in await self.client.status() if s.id == program), None)
        return None

    async def until(self, program: ProgramId, so: So) -> ProgramStatus:
        """Return its status once it is in this state, or this is true of it."""
        found: ProgramStatus | None = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    found = await self.get(program)
                    if found is not None and is_so(found, so):
                        return found
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"it never came so far: {found}") from None

    async def runs(self, spec: ProgramSpec) -> int:
        """Hold a program, and return its pid once it is ready."""
        await self.hold(spec)
        status = await self.until(spec.id, lambda s: s.ready)
        assert status.pid is not None
        return status.pid

    def processes(self) -> list[int]:
        """Return all processes that carry this keeper's mark."""
        return marked(f"HIVE_KEEPER={keeper.name(self.folder.resolve())}")

    def groups(self) -> list[Path]:
        """Return the folders of all control groups that this keeper has made."""
        own = f"hivekeeper-{keeper.name(self.folder.resolve())}"
        return [Path(path) for path, _, _ in os.walk("/sys/fs/cgroup") if own in path]

    def close(self) -> None:
        """Leave nothing: first the keeper goes, then whatever it held."""
        if not self.ended:
            self.kill()
        for group in self.groups():
            while not cgroups.clear(str(group)):
                time.sleep(0.001)
        quiet = 0
        while quiet < 2:  # what is in the middle of an exec shows no mark for a moment
            for pid in (pids := self.processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            quiet = 0 if pids else quiet + 1
            time.sleep(0.005)
        for group in sorted(self.groups(), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()

    async def _answers(self) -> bool:
        assert not self.ended, "the keeper has ended"
        with contextlib.suppress(TransientError):
            return (await self.client.info()).pid == self.pid
        return False


@contextlib.asynccontextmanager
async def kept(folder: Path, groups: Groups = Groups.UNIFIED) -> AsyncIterator[Keeper]:
    """Give a keeper that runs; afterwards nothing of it does."""
    held = Keeper(folder, groups)
    try:
        await held.start()
        yield held
    finally:
        ended = held.ended_by_itself
        held.close()
        assert ended is None, f"the keeper has ended by itself: {ended}"


def spec(folder: Path, script: str, name: str = "one", **more: Any) -> ProgramSpec:
    """Return a program: `script` in a shell, eager to be restarted, with its logs in `folder`."""
    settings: dict[str, Any] = {"restart": EAGER, "stop_timeout_s": 5.0} | more
    return ProgramSpec(
        id=ProgramId(f"workload.{name}"),
        command=("/bin/sh", "-c", script),
        logs=str(folder / "logs" / name),
        **settings,
    )


def is_so(status: ProgramStatus, so: So) -> bool:
    return status.state is so if isinstance(so, State) else so(status)


def marked(mark: str) -> list[int]:
    """Return the living processes that have `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            if mark.encode() in words.split(b"\0"):
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    found = identity.stat(pid)
    return found is not None and not found.ended


async def until(so: Callable[[], Any]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = so()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.005)


def main() -> None:
    folder, groups, die_at = Path(sys.argv[1]), Groups(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=os.environ.get("HIVE_TEST_LOG", "WARNING"))  # noqa: TID251
    limit_groups(groups, folder.with_name(f"{folder.name}.proc"))
    if die_at:
        die(die_at)
    own = os.environ  # noqa: TID251
    try:
        asyncio.run(keeper.run(folder, SystemClock(), environment=own, release="test"))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def limit_groups(kind: Groups, proc: Path) -> None:
    """Let the keeper see those control groups only, through a /proc of its own."""
    if kind is Groups.UNIFIED:
        return
    unseen = " - cgroup" if kind is Groups.NONE else " - cgroup2 "
    proc.mkdir(parents=True, exist_ok=True)
    for name in ("cgroup", "mountinfo"):
        lines = Path("/proc/self", name).read_text().splitlines(keepends=True)
        (proc / name).write_text("".join(line for line in lines if unseen not in line))
    cgroups.find = functools.partial(cgroups.find, proc=proc)


def die(at: int) -> None:
    """Let the keeper be killed before or after something that it does to the world: step `at`."""
    left = at

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*words: Any, **named: Any) -> Any:
            step()
            result = function(*words, **named)
            step()
            return result

        return wrapper

    for owner, name in (
        (state.Folder, "keep_told"),
        (state.Folder, "keep_known"),
        (state.Folder, "remove"),
        (cgroups, "make"),
        (cgroups, "clear"),
        (cgroups, "remove"),
        (identity, "blank"),
        (launcher, "spawn"),
        (logs, "create"),
        (logs, "remove"),
        (reaper.Reaper, "send"),
        (reaper.Reaper, "watch"),
    ):
        setattr(owner, name, wrapped(getattr(owner, name)))


if __name__ == "__main__":
    main()
