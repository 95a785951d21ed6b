"""`hive keeper`: one process, few imports, changed rarely."""

import asyncio
import logging
import os
from importlib.metadata import version
from pathlib import Path

import click

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.cli import parts
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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(
        program.run(
            parts.stack_of(folder).keeper,
            SystemClock(),
            environment=dict(os.environ),  # noqa: TID251 -- handed on to programs, a few words of it
            release=version("hivekeeper"),
        )
    )
