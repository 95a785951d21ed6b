"""Puts a host agent together from its adapters."""

import os
from collections.abc import Iterator
from pathlib import Path

from hivekeeper.adapters import nats
from hivekeeper.cli import parts, stack
from hivekeeper.cli.settings import Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.holochain.programs import Places, Programs
from hivekeeper.host.agent import Agent
from hivekeeper.host.blobs import Blobs
from hivekeeper.host.happs import HolochainKind
from hivekeeper.host.kinds import Kind, ProcessKind
from hivekeeper.host.outbox import Outbox
from hivekeeper.host.state import Folders, Memory
from hivekeeper.host.worker import Surroundings
from hivekeeper.model.allocation import Order
from hivekeeper.model.manifest import Kind as KindName
from hivekeeper.ports import Clock, Disk
from hivekeeper.supervisor.client import KeeperClient
from hivekeeper.wire import authority


def places(where: Stack) -> Places:
    """Return where conductors are looked for on this machine."""
    folder = stack.environment("HIVE_HOLOCHAIN_DIR")
    return Places(
        folder=Path(folder) if folder else None,
        path=stack.environment("PATH") or os.defpath,
        cache=where.holochain,
    )


async def serve(where: Stack, disk: Disk, clock: Clock, now: Settings, seed: str) -> None:
    """Run the agent of this host until cancelled."""
    memory = Memory(disk, Folders(root=where.host))
    user = authority.host(now.host)
    async with nats.connect(now.hub, user, seed, name=f"hive host {now.host}") as bus:
        outbox = Outbox(now.host, bus, clock, life=memory.begin())
        happs = HolochainKind(
            host=now.host,
            folders=memory.folders,
            disk=disk,
            clock=clock,
            blobs=Blobs(host=now.host, bus=bus, disk=disk),
            programs=Programs(places(where)),
            taken_ports=lambda: set(_taken(memory)),
        )
        processes = ProcessKind(memory.folders)

        def kind(order: Order) -> Kind:
            return happs if order.manifest.kind is KindName.HOLOCHAIN else processes

        around = Surroundings(
            memory=memory,
            supervisor=KeeperClient(where.keeper),
            clock=clock,
            kinds=kind,
            report=outbox.put,
        )
        print(parts.READY, flush=True)
        await Agent(now.host, bus, around, outbox).run()


def _taken(memory: Memory) -> Iterator[int]:
    """Yield the ports of all workloads that are prepared on this host."""
    for name in memory.names():
        yield from memory.prepared(name).ports.values()
