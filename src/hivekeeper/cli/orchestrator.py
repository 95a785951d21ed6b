"""`hive orchestrator`: puts the orchestrator together from its adapters."""

import socket
from collections.abc import Mapping
from pathlib import Path

import click

from hivekeeper.adapters import keys, nats, sqlite
from hivekeeper.adapters.blobs import FileBlobs
from hivekeeper.adapters.clock import SystemClock
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import holding, parts
from hivekeeper.cli.settings import Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId
from hivekeeper.orchestrator.membership import Door
from hivekeeper.orchestrator.orchestrator import Orchestrator
from hivekeeper.ports import Disk
from hivekeeper.wire import authority


@click.command()
@parts.dir_option
def orchestrator(folder: Path | None) -> None:
    """Run the orchestrator: API, store, controllers. `hive up` keeps it on.

    \b
    Example:
      hive orchestrator --dir /var/lib/hivekeeper
    """  # noqa: D301
    where, disk = parts.stack_of(folder), RealDisk()
    now = parts.told(where, disk)
    bound = parts.listen(now.listen, parts.organisation(now).api)
    parts.start(_serve(where, disk, now, bound), many_connections=True)


async def _serve(where: Stack, disk: Disk, now: Settings, bound: socket.socket) -> None:
    hub = holding.make_hub(where, disk, now)
    seed = hub.seed(authority.ORCHESTRATOR)

    async def admit(hosts: Mapping[HostId, str]) -> None:
        await hub.admit({authority.host(host): key for host, key in hosts.items()})

    where.store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with (
        sqlite.open_store(where.store) as store,
        nats.connect(now.hub, authority.ORCHESTRATOR, seed, name="hive orchestrator") as bus,
    ):
        made = Orchestrator(
            store=store,
            bus=bus,
            blobs=FileBlobs(where.blobs),
            clock=SystemClock(),
            door=Door(url=now.hub, seed=hub.seed(authority.JOINER)),
            admit=admit,
        )
        await made.run(
            [bound],
            token=_token(where, disk),
            members={now.host: keys.public_key(keys.read_seed(disk, where.host_key))},
            on_ready=lambda: print(parts.READY, flush=True),
        )


def _token(where: Stack, disk: Disk) -> str:
    token = disk.read(where.token)
    if token is None:
        raise UserError(
            f"cannot serve the API: {where.token} is not there", hint="`hive up` makes it"
        )
    return token.decode().strip()
