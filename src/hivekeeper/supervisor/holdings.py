"""All that a keeper holds, and what its clients may ask of it. Knows no socket."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from hivekeeper.aio.latest import Latest
from hivekeeper.model import limits
from hivekeeper.model.errors import NotFoundError, TransientError, UserError
from hivekeeper.model.ids import ProgramId
from hivekeeper.model.program import ProgramStatus
from hivekeeper.supervisor import launcher
from hivekeeper.supervisor.held import Held
from hivekeeper.supervisor.process import World
from hivekeeper.supervisor.state import Folder, Told
from hivekeeper.wire.keeper import Hold

log = logging.getLogger(__name__)


Watcher = Latest[ProgramId, ProgramStatus]


class Holdings:
    """The programs, by id.

    Args:
        folder: Has a folder for each of them.
        world: What all of them share.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self._folder, self._world = folder, world
        self._held: dict[ProgramId, Held] = {}
        self._watchers: set[Watcher] = set()
        self._leaving: dict[ProgramId, asyncio.Lock] = {}
        self._closing = False

    def begin(self) -> None:
        """Go on with everything that is kept here."""
        for path in sorted(self._folder.iterdir()):
            folder = Folder(path)
            told = folder.told()
            if told is None:
                log.warning("%s is left alone: it does not say what to hold", path)
            else:
                self._add(folder, told)

    def let_go(self) -> None:
        """Stop watching everything; what runs goes on."""
        for held in self._held.values():
            held.let_go()

    def hold(self, hold: Hold) -> ProgramStatus:
        """Hold a program so (ports.Supervisor.hold)."""
        program = hold.spec.id
        if self._closing:
            raise TransientError(f"cannot hold {program}: the keeper is shutting down")
        held = self._held.get(program)
        if held is not None:
            held.hold(hold)
        else:
            held = self._add_new(hold)
        return held.status()

    def restart(self, program: ProgramId) -> ProgramStatus:
        """Stop it and start it again (ports.Supervisor.restart)."""
        held = self._held.get(program)
        if held is None:
            raise NotFoundError(f"cannot restart {program}: it is not held")
        held.restart()
        return held.status()

    async def release(self, program: ProgramId, *, logs: bool) -> None:
        """Stop it and forget it (ports.Supervisor.release). Goes on if the client goes."""
        async with self._leaving.setdefault(program, asyncio.Lock()):
            held = self._held.get(program)
            if held is not None:
                await held.release(logs_too=logs)
                del self._held[program]
        self._leaving.pop(program, None)

    def status(self) -> list[ProgramStatus]:
        """Return what is held, in order of id."""
        return [self._held[program].status() for program in sorted(self._held)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watcher]:
        """Give a watcher that is told everything, beginning with what is."""
        watcher: Watcher = Latest()
        for status in self.status():
            watcher.put(status.id, status)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def shutdown(self, last: tuple[ProgramId, ...]) -> None:
        """Stop all at once, then those in `last` one by one. Nothing can be held any more."""
        self._closing = True
        async with asyncio.TaskGroup() as stopping:
            for program, held in self._held.items():
                if program not in last:
                    stopping.create_task(held.quit(), name=f"stop {program}")
        for program in last:
            if program in self._held:
                await self._held[program].quit()

    def _add_new(self, hold: Hold) -> Held:
        program = hold.spec.id
        if len(self._held) >= limits.PROGRAMS:
            raise UserError(f"cannot hold {program}: {limits.PROGRAMS} programs are held already")
        launcher.check(hold.spec)
        folder, told = Folder(self._folder / program), Told(hold=hold, edition=1)
        try:
            folder.keep_told(told)
        except OSError as error:
            raise TransientError(f"cannot hold {program}: {error}") from error
        return self._add(folder, told)

    def _add(self, folder: Folder, told: Told) -> Held:
        held = Held(folder, told, self._world, self._changed)
        self._held[held.id] = held
        held.begin()
        return held

    def _changed(self, held: Held) -> None:
        if self._watchers:
            status = held.status()
            for watcher in self._watchers:
                watcher.put(status.id, status)
