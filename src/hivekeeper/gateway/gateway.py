"""The gateway's process: HTTP on sockets that are bound already, until cancelled.

Needs nobody to go on: what it knows of routes is on disk, and keys come from the host agent's
files. Chooses no adapters, and binds no ports.
"""

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from hivekeeper.aio import asgi
from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import ZomeCall
from hivekeeper.gateway.front import Front
from hivekeeper.gateway.neighbours import Neighbours
from hivekeeper.gateway.routes import Routes
from hivekeeper.gateway.selection import Selection
from hivekeeper.gateway.targets import HungUp
from hivekeeper.holochain import transcode
from hivekeeper.model import limits
from hivekeeper.model.ids import HostId
from hivekeeper.ports import Bus, Clock, Disk

_LARGE_BYTES: Final = 64 * limits.KIB
"""A result that takes longer than other calls should wait: 40 ms a MiB were measured."""


async def run(
    *,
    sockets: Sequence[socket.socket],
    folder: Path,
    access: Path | None,
    host: HostId,
    bus: Bus,
    disk: Disk,
    clock: Clock,
) -> None:
    """Answer on `sockets` until cancelled; then finish what is under way.

    Args:
        sockets: Bound; closed at the end.
        folder: Of its own; the routes are kept there.
        access: Where this host's agent puts what opens its hApps; None: no agent runs here.
        host: This one.
        bus: To the orchestrator, as the gateway's own user.
        disk: For both folders.
        clock: For signed calls and jitter.
    """
    async with asyncio.TaskGroup() as group:
        routes = Routes(bus, disk, folder / "routes.json", clock)
        routes.load()
        neighbours = None
        if access is not None:
            neighbours = Neighbours(access, disk, clock, group)
            neighbours.look_at_all()
            group.create_task(neighbours.watch(), name="watches for hApps")
        group.create_task(routes.follow(), name="follows routes")
        selection = Selection(host=host, routes=routes, neighbours=neighbours)
        async with asgi.serve(Front(partial(carry_out, selection)), sockets):
            await asyncio.Event().wait()


async def carry_out(selection: Selection, call: ZomeCall, hung_up: HungUp) -> bytes:
    """Return the result of `call`, as JSON; raises what `contract.failed` has an answer for."""
    target = selection.target(call)
    argument = contract.argument(call.payload)
    result = await target.call(call, argument, hung_up)
    if len(result) > _LARGE_BYTES:
        return await asyncio.to_thread(transcode.to_json, result)
    return transcode.to_json(result)
