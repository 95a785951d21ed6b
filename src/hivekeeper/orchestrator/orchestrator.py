"""The orchestrator: its parts put together, and kept running until it is told to stop.

One leads: this one. Everything it needs to know is in the store; it may be killed at any moment.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import AsyncExitStack

from hivekeeper.aio import asgi
from hivekeeper.model.ids import HostId
from hivekeeper.orchestrator import api, records
from hivekeeper.orchestrator.api import Api
from hivekeeper.orchestrator.fleet import Fleet
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.hosts import Hosts
from hivekeeper.orchestrator.intake import Intake
from hivekeeper.orchestrator.membership import Admit, Door, Membership
from hivekeeper.orchestrator.placing import Placement
from hivekeeper.orchestrator.records import Cluster
from hivekeeper.orchestrator.service import Service
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.orchestrator.upkeep import Liveness, Pruning
from hivekeeper.orchestrator.view import View
from hivekeeper.ports import Blobs, Bus, Clock, Store

log = logging.getLogger(__name__)


class Orchestrator:
    """All parts of one orchestrator.

    Args:
        store: Nobody else writes it.
        bus: As the orchestrator's own user.
        blobs: What manifests name.
        clock: The machine's.
        door: What invitations tell of the hub.
        admit: Makes the hub let in exactly the hosts it is given.
    """

    def __init__(
        self, *, store: Store, bus: Bus, blobs: Blobs, clock: Clock, door: Door, admit: Admit
    ) -> None:
        self._bus = bus
        fleet = self.fleet = Fleet(store)
        hearing = self.hearing = Hearing(clock)
        teller = Teller(fleet, clock)
        view = self.view = View(fleet, hearing)
        placement = self.placement = Placement(
            fleet=fleet, view=view, hearing=hearing, teller=teller, bus=bus, clock=clock
        )
        self.intake = Intake(
            fleet=fleet, hearing=hearing, teller=teller, clock=clock, look=placement.look
        )
        membership = self.membership = Membership(
            fleet=fleet,
            hearing=hearing,
            teller=teller,
            clock=clock,
            door=door,
            admit=admit,
            look=placement.look_at_all,
        )
        self.liveness = Liveness(
            fleet=fleet, hearing=hearing, teller=teller, clock=clock, look=placement.look_at_all
        )
        self.pruning = Pruning(fleet=fleet, clock=clock)
        self.hosts = Hosts(
            fleet=fleet,
            hearing=hearing,
            intake=self.intake,
            membership=membership,
            view=view,
            blobs=blobs,
        )
        service = self.service = Service(
            fleet=fleet, blobs=blobs, clock=clock, teller=teller, look=placement.look
        )
        self._api = Api(
            fleet=fleet,
            store=store,
            service=service,
            membership=membership,
            view=view,
            blobs=blobs,
            bus=bus,
        )

    async def begin(self, members: Mapping[HostId, str]) -> None:
        """Read what is stored, give a new store its identity, and let in the stack's own hosts."""
        async with self.fleet.turn():
            if self.fleet.clusters.get(records.CLUSTER_KEY) is None:
                cluster = Cluster(cluster=secrets.token_hex(16), epoch=1)
                await self.fleet.commit([self.fleet.clusters.put(records.CLUSTER_KEY, cluster)])
        await self.membership.enrol(members)

    async def run(
        self,
        sockets: SequenceOf[socket.socket],
        *,
        token: str,
        members: Mapping[HostId, str],
        on_ready: Callable[[], None],
    ) -> None:
        """Serve until cancelled.

        Args:
            sockets: Where the API answers; bound.
            token: Who has it may ask the API for anything.
            members: Hosts that need no invitation, with their public keys.
            on_ready: Called once the API answers.
        """
        await self.begin(members)
        async with AsyncExitStack() as until, asyncio.TaskGroup() as group:
            group.create_task(self.placement.run(), name="placement")
            group.create_task(self.intake.run(), name="intake")
            group.create_task(self.membership.run(), name="membership")
            group.create_task(self.liveness.run(), name="liveness")
            group.create_task(self.pruning.run(), name="pruning")
            await self.hosts.serve(self._bus, until)
            app = api.build(self._api, token)
            await until.enter_async_context(asgi.serve(app, sockets))
            workloads = len(self.fleet.workloads.kept)
            log.info("cluster %s, %d workloads", self.fleet.cluster.cluster, workloads)
            on_ready()
            await asyncio.Event().wait()
