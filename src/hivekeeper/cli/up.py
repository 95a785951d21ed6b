"""`hive up` and `hive down`: a stack on this machine, held by its keeper.

`up` starts the keeper, tells it what to hold, and starts it again if it dies. It holds nothing
itself:
killed, all goes on, and the next `hive up` finds it so.
"""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import holding, output, parts, settings, stack
from hivekeeper.cli.progress import Progress
from hivekeeper.cli.settings import Asked, Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.model.errors import PermanentError, TransientError, UserError
from hivekeeper.model.ids import Generation
from hivekeeper.model.program import ProgramSpec, ProgramStatus, State
from hivekeeper.supervisor import logs
from hivekeeper.supervisor.client import KeeperClient

_READY_WITHIN_S: Final = 60.0
_KEEPER_WITHIN_S: Final = 10.0
_DOWN_WITHIN_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.02
_FAILURES: Final = 4
"""In a row: it is more than a bad moment."""


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it lives  [default: HIVE_DIR, else the usual place].",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_500),
    help="First of its ports; 0 chooses free ones  [default: 4222, 7070, 8080].",
)
@click.option(
    "--listen", help="The address to listen on  [default: 127.0.0.1, this machine only]."
)
@click.option("--host", help="What this host is called  [default: the machine's name].")
@click.option("--detach", is_flag=True, help="Return once it is up, and leave it running.")
@click.option("--demo", is_flag=True, help="Apply an example, and print a URL that answers.")
def up(
    folder: Path | None,
    port: int | None,
    listen: str | None,
    host: str | None,
    *,
    detach: bool,
    demo: bool,
) -> None:
    """Start the whole stack on this machine, and keep it up until Ctrl-C or `hive down`.

    What it was told is kept: the next `hive up` needs no options. What its parts run goes on when
    `hive up` itself is killed; it comes back to the same state from disk when everything is.

    \b
    Examples:
      hive up --demo
      hive up --detach --port 0 --dir /tmp/try && hive status --dir /tmp/try
    """  # noqa: D301
    os.umask(0o077)
    where = Stack(folder.absolute() if folder else stack.default_dir())
    _make_folder(where.root)
    asked = Asked(
        host=host, listen=listen, port=port, holochain_dir=stack.environment("HIVE_HOLOCHAIN_DIR")
    )
    with _only_one(where):
        bringing = _Bringing(where, RealDisk(), asked)
        watched = asyncio.run(bringing.up())
        if demo:
            from hivekeeper.cli import demonstration  # noqa: PLC0415 -- imports what only it needs

            demonstration.show(where)
        if detach and os.fork() != 0:
            os._exit(0)  # the child goes on with the lock; nothing of ours may run twice
        if detach:
            _leave_terminal(where)
        sys.exit(asyncio.run(bringing.watch(watched)))


def _make_folder(root: Path) -> None:
    """Others may pass through it, to what is theirs, but not look around."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        if not root.exists():
            root.mkdir()
            root.chmod(0o711)
    except OSError as error:
        raise UserError(
            f"cannot make {root}: {error.strerror}", hint="name another folder with --dir"
        ) from error


@contextmanager
def _only_one(where: Stack) -> Iterator[None]:
    """Hold the stack's lock, with our process id in it."""
    handle = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(handle, 32, 0).decode().strip()
        os.close(handle)
        raise UserError(
            f"cannot bring up {where.root}: `hive up` (pid {pid}) looks after it already",
            hint="`hive status` shows what it runs; another folder (--dir) is another stack",
        ) from error
    try:
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _sign(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)


def _leave_terminal(where: Stack) -> None:
    os.setsid()
    handle = os.open(where.lock, os.O_RDWR | os.O_CLOEXEC)  # the same file: the lock is inherited
    _sign(handle)
    os.close(handle)
    log = parts.open_stderr(where, "up")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)


@dataclass(slots=True)
class _Keeper:
    """A keeper that answers, and how to see that it ends."""

    pid: int
    pidfd: int


class _Bringing:
    """Brings a stack up and looks after its keeper."""

    def __init__(self, where: Stack, disk: RealDisk, asked: Asked) -> None:
        self._where, self._disk, self._asked = where, disk, asked
        self._client = KeeperClient(where.keeper)
        self._child: subprocess.Popen[bytes] | None = None

    async def up(self) -> _Keeper:
        """Bring everything up, and return once it answers."""
        where = self._where
        before = settings.read(self._disk, where)
        now = settings.decide(before, self._asked)
        with Progress() as progress:
            progress.show("looking at what runs already")
            watched = await self._keeper()
            await self._check_ports(now)
            settings.keep(self._disk, where, now)
            self._make_token()
            try:
                await self._hold(now, progress)
            except PermanentError:
                if self._child is not None:  # what we began is not left half begun
                    await _shut_down(self._client)
                raise
        if now.ports is not None:
            self._disk.write(where.endpoints, json.dumps(settings.endpoints(now)).encode())
        _tell(where, now)
        return watched

    async def _check_ports(self, now: Settings) -> None:
        """A port that somebody else has is told now, not found by a part that keeps failing."""
        if now.ports is None:
            return
        held = await self._client.status()
        ours = {each.id for each in held if each.pid is not None}
        absent = [part for part in ("hub", "api", "gateway") if parts.HOLDS[part] not in ours]
        for part, port in settings.taken(now, absent):
            if not held:
                await self._client.shutdown()
            raise UserError(
                f"cannot start the {part}: port {port} of {now.listen} is taken",
                hint="give other ports with --port BASE, or --port 0 for free ones",
            )

    def _make_token(self) -> None:
        if self._disk.read(self._where.token) is None:
            self._disk.write(self._where.token, secrets.token_urlsafe(32).encode() + b"\n")

    async def _keeper(self) -> _Keeper:
        """Return the keeper of this stack, started if none answers."""
        deadline_s = time.monotonic() + _KEEPER_WITHIN_S
        started = False
        while True:
            try:
                pid = (await self._client.info()).pid
                return _Keeper(pid, os.pidfd_open(pid))
            except (TransientError, ProcessLookupError) as error:
                if time.monotonic() > deadline_s:
                    log = self._where.logs("keeper")
                    raise PermanentError(
                        f"cannot start the keeper: {error}", hint=f"see {log}"
                    ) from error
            if not started or (self._child is not None and self._child.poll() is not None):
                self._start_keeper()
                started = True
            await asyncio.sleep(_LOOK_EVERY_S)

    def _start_keeper(self) -> None:
        """In a session of its own: what ends us, or our terminal, does not end it."""
        log = parts.open_stderr(self._where, "keeper")
        self._child = subprocess.Popen(
            parts.command("keeper", "--dir", str(self._where.root)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        os.close(log)

    async def _hold(self, now: Settings, progress: Progress) -> None:
        """Tell the keeper what to hold: the hub first, since all others want to talk to it."""
        first, *others = holding.programs(self._where, self._disk, now)
        await self._hold_all([first], now, progress)
        await self._hold_all(others, now, progress)

    async def _hold_all(self, specs: list[ProgramSpec], now: Settings, progress: Progress) -> None:
        for spec in specs:
            await self._client.hold(spec, wanted=True, generation=Generation(now.starts))
        deadline_s = time.monotonic() + _READY_WITHIN_S
        waiting = {spec.id for spec in specs}
        while waiting:
            held = {each.id: each for each in await self._client.status()}
            waiting -= {each for each in waiting if held[each].ready}
            if waiting:
                names = sorted(each.removeprefix("hive.") for each in waiting)
                progress.show(f"starting {', '.join(names)}")
            for each in waiting:
                self._check(held[each], late=time.monotonic() > deadline_s)
            if waiting:
                await asyncio.sleep(_LOOK_EVERY_S)

    def _check(self, program: ProgramStatus, *, late: bool) -> None:
        part = program.id.removeprefix("hive.")
        log = f"see {self._where.logs(part)}"
        if program.state is State.FAILED or program.failures >= _FAILURES:
            reason = " ".join([f"{program.reason}.", *self._last_words(part)])
            raise PermanentError(f"cannot start the {part}: {reason}", hint=log)
        if late:
            raise TransientError(
                f"cannot wait longer for the {part}: {program.reason or program.state}; {log}"
            )

    def _last_words(self, part: str) -> list[str]:
        """Return the last line that a part wrote before it ended."""
        folder = str(self._where.logs(part))
        kept = logs.runs(folder)
        for run in kept:
            piece = logs.read(folder, live=None, run=run, tail=1)
            if line := piece.data.decode(errors="replace").strip():
                return [line]
        return []

    async def watch(self, watched: _Keeper) -> int:
        """Look after the keeper until told to stop.

        Then stop everything, and return the exit code.
        """
        told: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.put_nowait, int(number))
        while True:
            ended = asyncio.Event()
            loop.add_reader(watched.pidfd, ended.set)
            stop = await _first(told, ended)
            loop.remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            if stop is not None:
                break
            output.say("hive: the keeper is gone; starting it again")
            self._reap()
            watched = await self._keeper()
        with Progress() as progress:
            progress.show("stopping everything")
            await _shut_down(self._client)
        self._reap()
        return 130 if stop == signal.SIGINT else 0

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait(_KEEPER_WITHIN_S)


async def _first(told: asyncio.Queue[int], ended: asyncio.Event) -> int | None:
    """Return the signal that came, or None once `ended` is set."""
    async with asyncio.TaskGroup() as group:
        signals = group.create_task(told.get(), name="signals")
        ends = group.create_task(ended.wait(), name="keeper's end")
        await asyncio.wait([signals, ends], return_when=asyncio.FIRST_COMPLETED)
        number = signals.result() if signals.done() else None
        signals.cancel()
        ends.cancel()
    return number


async def _shut_down(client: KeeperClient) -> None:
    """The agent first, so that nobody starts again what stops.

    Then what runs; then the other parts.
    """
    try:
        await client.shutdown(last=parts.STOP_LAST)
    except TransientError as error:
        output.say(f"hive: {error}")


def _tell(where: Stack, now: Settings) -> None:
    output.say(f"hive: up in {where.root}, host {now.host}")
    if now.ports is None:
        output.say(f"  hub        {now.hub}")
        return
    for name, url in settings.endpoints(now).items():
        if url is not None:
            output.say(f"  {name:<10} {url}")


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Which stack  [default: HIVE_DIR, else the usual place].",
)
def down(folder: Path | None) -> None:
    """Stop the stack and everything it runs.

    Nothing is removed: `hive up` brings it back as it was.

    \b
    Example:
      hive down
    """  # noqa: D301
    where = Stack(folder.absolute() if folder else stack.default_dir())
    if not where.lock.exists():
        raise UserError(f"cannot stop {where.root}: there is no stack", hint="name it with --dir")
    with Progress() as progress:
        progress.show("stopping everything")
        _stop_watcher(where)
        with _only_one(where):
            asyncio.run(_stop_keeper(KeeperClient(where.keeper)))
    print(f"{where.root}: down")


def _stop_watcher(where: Stack) -> None:
    """Ask the `hive up` that looks after it to stop everything, and wait until it has."""
    deadline_s = time.monotonic() + _DOWN_WITHIN_S
    asked = False
    while True:
        try:
            with _only_one(where):
                return
        except UserError:
            if not asked:
                _terminate(int(where.lock.read_text() or "0"))
                asked = True
        if time.monotonic() > deadline_s:
            raise TransientError(f"cannot wait longer for {where.root} to stop")
        time.sleep(_LOOK_EVERY_S)


def _terminate(pid: int) -> None:
    try:
        if pid > 0:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself meanwhile


async def _stop_keeper(client: KeeperClient) -> None:
    """Without a `hive up` nobody else does."""
    try:
        await client.info()
    except TransientError:
        return
    await _shut_down(client)
