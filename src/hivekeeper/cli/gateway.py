"""`hive gateway`: puts the gateway together from its adapters."""

import socket
from pathlib import Path

import click

from hivekeeper.adapters import nats
from hivekeeper.adapters.clock import SystemClock
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import holding, parts
from hivekeeper.cli.settings import Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.gateway import gateway as program
from hivekeeper.host.state import Folders
from hivekeeper.ports import Disk
from hivekeeper.wire import authority


@click.command()
@parts.dir_option
def gateway(folder: Path | None) -> None:
    """Run the gateway: HTTP in, zome call out. `hive up` keeps it on.

    \b
    Example:
      hive gateway --dir /var/lib/hivekeeper
    """  # noqa: D301
    where, disk = parts.stack_of(folder), RealDisk()
    now = parts.told(where, disk)
    bound = parts.listen(now.listen, parts.organisation(now).gateway)
    parts.start(_serve(where, disk, now, bound), many_connections=True)


async def _serve(where: Stack, disk: Disk, now: Settings, bound: socket.socket) -> None:
    seed = holding.make_hub(where, disk, now).seed(authority.GATEWAY)
    async with nats.connect(now.hub, authority.GATEWAY, seed, name="hive gateway") as bus:
        await program.run(
            sockets=[bound],
            folder=where.gateway,
            access=Folders(root=where.host).access,
            host=now.host,
            bus=bus,
            disk=disk,
            clock=SystemClock(),
        )
