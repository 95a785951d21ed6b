"""Asks a hub to be let in, with an invitation. The host's own key is made here and stays."""

import asyncio
from contextlib import suppress
from typing import Final

from hivekeeper.adapters import keys, nats
from hivekeeper.cli.stack import Stack
from hivekeeper.model import limits
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import HostId
from hivekeeper.ports import Bus, Disk
from hivekeeper.wire import authority, messages, subjects
from hivekeeper.wire.invitations import Invitation
from hivekeeper.wire.messages import JoinReply, JoinRequest

_TRIES: Final = 4
"""A reply may be lost while the hub lets somebody else in; the same host may ask again."""


def ask(where: Stack, disk: Disk, invitation: Invitation, url: str) -> HostId:
    """Return under which name this host was let in.

    Raises:
        UserError: The invitation was used, or ran out.
        TransientError: The hub or the orchestrator could not be reached.
    """
    public_key = keys.public_key(keys.ensure_seed(disk, where.host_key))
    request = JoinRequest(token=invitation.token, public_key=public_key)
    reply = asyncio.run(_send(url, invitation, request))
    return HostId(reply.host)


async def _send(url: str, invitation: Invitation, request: JoinRequest) -> JoinReply:
    async with nats.connect(
        url, authority.JOINER, invitation.seed, name=f"hive join {invitation.host}"
    ) as bus:
        for _ in range(_TRIES - 1):
            with suppress(TransientError):
                return await _try(bus, request)
        return await _try(bus, request)


async def _try(bus: Bus, request: JoinRequest) -> JoinReply:
    answer = await bus.request(
        subjects.JOIN, messages.encode(request), timeout_s=limits.REQUEST_TIMEOUT_S
    )
    return messages.decode(answer, JoinReply)
