"""The keeper: the one process that holds a host's programs; all else may come and go around it.

**What a killed keeper costs.** Programs run on: they are not in its session, write to their own
log files, and nothing of theirs passes through the keeper. While there is none, nobody restarts
what dies and nobody hears `READY=1` on an sd_notify socket (that start runs into its timeout). The
next keeper, in the same folder, adopts what runs by pid, start time and boot id, in the state in
which it was, with its counters, and goes on: a start half done is found or known not to have
happened, so there never is a second copy. What ended meanwhile counts as a failure that nobody
saw. An adopted program's exit code is not to be had, for it is init's child then.

**SIGTERM and SIGINT end the keeper and leave the programs running**, just as a kill does: so the
keeper can be replaced by a newer one under running programs, and a service manager that stops it
does not take the host's work down by surprise (under systemd, that needs `KillMode=process`). To
stop everything, ask for `shutdown` on its socket.

Where a restart is decided: `core.restart`. Where it is done: `supervisor.held`.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hivekeeper.model import limits
from hivekeeper.model.errors import UserError
from hivekeeper.ports import Clock
from hivekeeper.supervisor import cgroups, cloning, identity, launcher, server
from hivekeeper.supervisor.cgroups import Cgroups
from hivekeeper.supervisor.holdings import Holdings
from hivekeeper.supervisor.process import World
from hivekeeper.supervisor.reaper import Reaper
from hivekeeper.supervisor.server import Server

log = logging.getLogger(__name__)

EX_SOFTWARE: Final = 70
"""sysexits.h: an internal error."""

LOCK: Final = "keeper.lock"
PROGRAMS: Final = "programs"

FILES: Final = 4 * limits.PROGRAMS + 4 * limits.KEEPER_CLIENTS
"""Of each program a pidfd, perhaps an sd_notify socket, and what is open while it starts."""


class _EndedError(Exception):
    """The keeper is to end: takes all tasks with it."""


async def run(
    folder: Path,
    clock: Clock,
    *,
    environment: Mapping[str, str] | None = None,
    release: str = "",
) -> None:
    """Hold what is kept in `folder` and what clients say, until SIGTERM, SIGINT or `shutdown`.

    Args:
        folder: The keeper's own; made if it is not there.
        clock: Time and chance.
        environment: Of this process; programs get a few words of it (launcher.INHERITED).
            None: they get a PATH, no more.
        release: Of this program, told to clients.

    Raises:
        UserError: Another keeper holds this folder.
    """
    folder = _made(folder)
    open_files = _raise_open_files()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_die)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with _alone(folder), server.listening(folder) as listener, Reaper() as reaper:
        boot = identity.boot_id()
        groups = cgroups.find(f"hivekeeper-{name(folder)}")
        try:
            async with asyncio.TaskGroup() as tasks:
                world = World(
                    keeper=name(folder),
                    clock=clock,
                    reaper=reaper,
                    cgroups=groups,
                    launch=launcher.World(boot, environment or {}, _born(groups), open_files),
                    tasks=tasks,
                )
                holdings = Holdings(folder / PROGRAMS, world)
                holdings.begin()
                serving = Server(holdings, release=release, ended=ended.set)
                tasks.create_task(serving.serve(listener, tasks), name="server")
                await ended.wait()
                holdings.let_go()
                raise _EndedError  # noqa: TRY301  # the way to end a group's tasks
        except* _EndedError:
            cgroups.leave(groups)
    log.info("the keeper of %s has ended", folder)


def _born(groups: Cgroups) -> bool:
    """Return whether programs can be born into their groups."""
    members = groups.members
    if members is None or not members.unified:
        return False
    if not cloning.works(members.base):
        log.warning("programs must be moved into their groups here: it takes 20 ms more to start")
        return False
    return True


def _die(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A bug in a callback: what we believe may be wrong. The next keeper looks at what is."""
    log.critical("%s", context["message"], exc_info=context.get("exception"))
    if "handle" in context:  # else it is one connection's trouble
        os._exit(EX_SOFTWARE)


def name(folder: Path) -> str:
    """Return what the keeper of `folder`, a resolved path, is called where names must be short."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]


def _made(folder: Path) -> Path:
    (folder / PROGRAMS).mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only keeper of this folder; the lock goes with the process, however that ends."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 16, 0).decode().strip() or "unknown"
            raise UserError(
                f"cannot start a keeper in {folder}: one runs there already, as process {holder}",
                hint="use that one, or another folder",
            ) from None
        os.pwrite(fd, f"{os.getpid():<16}".encode(), 0)
        yield
    finally:
        os.close(fd)


def _raise_open_files() -> str:
    """Let the keeper open enough files; return the limit that programs get, for `ulimit`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return "unlimited"
    enough = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if enough < FILES:
        log.warning("only %d files can be open: not enough for %d programs", hard, limits.PROGRAMS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    return str(soft)
