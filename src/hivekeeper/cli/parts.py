"""What the commands that run a part have in common: names, logs, signals, sockets.

Light: the keeper imports it.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

import click

from hivekeeper.cli import settings, stack
from hivekeeper.cli.settings import Ports, Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.model.errors import TransientError, UserError
from hivekeeper.model.ids import ProgramId
from hivekeeper.ports import Disk

HOLDS: Final = {
    "hub": ProgramId("hive.hub"),
    "api": ProgramId("hive.orchestrator"),
    "agent": ProgramId("hive.agent"),
    "gateway": ProgramId("hive.gateway"),
}
"""What the keeper calls each."""

STOP_LAST: Final = (HOLDS["gateway"], HOLDS["api"], HOLDS["hub"])
"""In this order, after the agent and everything it has run."""

READY: Final = "hive: ready"
"""What a part prints once it is."""


def command(*words: str) -> list[str]:
    """Return how to run `hive WORDS` with the Python and the release that run now."""
    return [sys.executable, "-m", "hivekeeper.cli.main", *words]


def open_stderr(where: Stack, part: str) -> int:
    """Return a file for what a part that the keeper does not hold has to say; begun anew."""
    folder = where.logs(part)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC
    return os.open(folder / "stderr.log", flags, 0o600)


def organisation(now: Settings) -> Ports:
    """Return where the organisation's parts listen; raises `UserError` on a joined host."""
    if now.ports is None:
        raise UserError(
            f"cannot run that on host {now.host}: it belongs to the stack behind {now.hub}",
            hint="run it where that stack is",
        )
    return now.ports


def told(where: Stack, disk: Disk) -> Settings:
    """Return what this stack was told; raises `UserError` if it never was brought up."""
    now = settings.read(disk, where)
    if now is None:
        raise UserError(
            f"cannot run a part of {where.root}: there is no stack", hint="`hive up` makes one"
        )
    return now


async def serve(service: Coroutine[None, None, None]) -> None:
    """Run one part until it ends or SIGTERM or SIGINT comes.

    Then it has the time of its own cleaning up.
    """
    task = asyncio.current_task()
    assert task is not None, "runs in a loop"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await service
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopped")


def start(service: Coroutine[None, None, None], *, many_connections: bool = False) -> None:
    """Set up logging and run `service`; on uvloop where it serves many connections."""
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    with asyncio.Runner(loop_factory=_fast_loop if many_connections else None) as runner:
        runner.run(serve(service))


def _fast_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 -- the keeper and the agent do without

    return uvloop.new_event_loop()


def listen(address: str, port: int) -> socket.socket:
    """Return a bound socket; raises `UserError` if the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise TransientError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    bound.listen(1024)
    return bound


dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The stack's folder  [default: HIVE_DIR, else the usual one].",
)


def stack_of(folder: Path | None) -> Stack:
    """Return the stack in `folder`, or in the usual place."""
    return Stack(folder.absolute() if folder else stack.default_dir())
