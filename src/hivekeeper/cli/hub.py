"""`hive hub`: becomes the nats-server, with the stack's configuration."""

import os
from pathlib import Path

import click

from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import holding, parts


@click.command()
@parts.dir_option
def hub(folder: Path | None) -> None:
    """Run the hub: a nats-server, with the configuration and keys of the stack.

    \b
    Example:
      hive hub --dir /var/lib/hivekeeper
    """  # noqa: D301
    where, disk = parts.stack_of(folder), RealDisk()
    made = holding.make_hub(where, disk, parts.told(where, disk))
    made.prepare()
    words = made.command()
    os.execv(words[0], words)  # noqa: S606 -- becomes it
