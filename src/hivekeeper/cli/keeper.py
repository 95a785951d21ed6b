"""`hive keeper`: one process, few imports, changed rarely."""

import asyncio
import logging
import os
from importlib.metadata import version
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.cli import parts
from hivekeeper.model import limits
from hivekeeper.supervisor import keeper as program


@click.command()
@parts.dir_option
def keeper(folder: Path | None) -> None:
    """Run the keeper, which holds a host's programs; `hive up` starts it.

    Ended by a signal, it leaves what it holds running, for the next keeper to go on with.

    \b
    Example:
      hive keeper --dir /var/lib/hivekeeper
    """  # noqa: D301
    os.umask(0o077)
    where = parts.stack_of(folder)
    _log_to(where.logs("keeper") / "keeper.log")
    asyncio.run(
        program.run(
            where.keeper,
            SystemClock(),
            environment=dict(os.environ),  # noqa: TID251 -- handed on to programs, a few words of it
            release=version("hivekeeper"),
        )
    )


def _log_to(path: Path) -> None:
    """Nobody holds the keeper and bounds what it says, so it does so itself."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=limits.LOG_BYTES, backupCount=1)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        handlers=[handler],
    )
