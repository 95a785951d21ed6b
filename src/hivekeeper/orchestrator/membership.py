"""Who belongs to the fleet: hosts are invited, join and leave; the hub lets in who is stored.

A host proves itself to the hub with a key of its own. The token of an invitation is not stored,
only its hash; whoever has it joins once, under the name it was made for.
"""

import base64
import binascii
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.wake import Wake
from hivekeeper.model import limits
from hivekeeper.model.allocation import Host
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermissionRefusedError,
    UserError,
)
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.model.record import ABSENT
from hivekeeper.orchestrator import records
from hivekeeper.orchestrator.commands import Command
from hivekeeper.orchestrator.fleet import Fleet, Write
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.records import Invitation
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.ports import Clock
from hivekeeper.wire import invitations
from hivekeeper.wire.api import Invited
from hivekeeper.wire.messages import JoinReply, JoinRequest

log = logging.getLogger(__name__)

Admit = Callable[[Mapping[HostId, str]], Awaitable[None]]
"""Make the hub let in exactly these hosts, by their public keys. Idempotent.

Raises `TransientError` if it could not, for now.
"""

_LOOK_EVERY_S: Final = 30.0
_USER_KEY: Final = 20 << 3
"""The first byte of a NATS user's public key, which makes its text begin with U."""


class Door(Struct, frozen=True, kw_only=True):
    """What an invitation tells of the hub."""

    url: str
    """As other hosts reach it."""
    seed: str
    """Of the user that may only ask to be let in."""

    def __repr__(self) -> str:
        return f"Door(url={self.url!r})"


class Membership:
    """Lets hosts in and out.

    Args:
        look: Told that other hosts are there than before.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        hearing: Hearing,
        teller: Teller,
        clock: Clock,
        door: Door,
        admit: Admit,
        look: Callable[[], None],
    ) -> None:
        self._fleet, self._hearing, self._teller, self._clock = fleet, hearing, teller, clock
        self._door, self._admit, self._look = door, admit, look
        self._wake = Wake()

    async def enrol(self, hosts: Mapping[HostId, str]) -> None:
        """Let in hosts that are trusted without an invitation, by their public keys."""
        async with self._fleet.turn():
            present = self._fleet.present_hosts()
            new = {
                host: key
                for host, key in hosts.items()
                if host not in present or present[host].public_key != key
            }
            writes = [write for host, key in new.items() for write in self._let_in(host, key)]
            if writes:
                await self._fleet.commit(writes)

    async def invite(self, command: Command, host: HostId) -> Invited:
        """Return an invitation for `host`; one made before is void.

        Raises:
            ConflictError: It is there already, or the fleet is full.
        """
        token = secrets.token_urlsafe(32)
        expires_at = self._clock.now() + timedelta(seconds=limits.INVITATION_S)
        async with self._fleet.turn():
            self._check_room(host)
            table = self._fleet.invitations
            older = [key for key, kept in table.kept.items() if kept.value.host == host]
            invitation = Invitation(host=host, expires_at=expires_at)
            writes = [*map(table.drop, older), table.put(records.secret_key(token), invitation)]
            await self._fleet.commit(
                writes, audit=command.audit("invite", host, self._clock.now())
            )
        text = invitations.encode(
            invitations.Invitation(
                url=self._door.url,
                host=host,
                cluster=self._fleet.cluster.cluster,
                token=token,
                seed=self._door.seed,
            )
        )
        return Invited(host=host, invitation=text, expires_at=expires_at)

    def _check_room(self, host: HostId) -> None:
        present = self._fleet.present_hosts()
        if host in present:
            raise ConflictError(
                f"cannot invite {host}: a host of that name is in already",
                hint="choose another name, or remove that host first",
            )
        if len(present) >= limits.HOSTS:
            raise ConflictError(f"cannot invite {host}: there are {limits.HOSTS} hosts")

    async def leave(self, command: Command, host: HostId, *, force: bool) -> None:
        """Let `host` go; the hub refuses it from then on.

        Workloads that it still has are lost with it and begin anew elsewhere, if `force` says so:
        to be used when it is certain that the host will not come back.

        Raises:
            NotFoundError: There is no such host.
            ConflictError: It still has workloads.
        """
        async with self._fleet.turn():
            there = self._fleet.present_hosts().get(host)
            if there is None:
                raise NotFoundError(f"cannot find host {host}", hint="`hive host list`")
            names = [kept.value.workload for kept in self._fleet.allocations_on(host)]
            if names and not force:
                raise _still_used(host, names)
            now = self._clock.now()
            left = self._fleet.hosts.put(host, replace(there, left_at=now))
            event = self._teller.event("", "left", "a user removed the host", host)
            audit = command.audit("remove", host, now)
            await self._fleet.commit([left, event], audit=audit)
        self._changed()

    async def join(self, request: JoinRequest) -> JoinReply:
        """Let in who has a token; asking again is fine.

        It is answered at once, and the hub told then: a server that reads its users anew forgets
        which requests it would have let be answered. A host tries until the hub lets it in.

        Raises:
            PermissionRefusedError: The token is unknown, used, or has run out.
            UserError: The key is none.
        """
        _check_key(request.public_key)
        host = await self._store_join(request)
        self._changed()
        return JoinReply(host=host, cluster=self._fleet.cluster.cluster)

    async def _store_join(self, request: JoinRequest) -> HostId:
        async with self._fleet.turn():
            for host in self._fleet.present_hosts().values():
                if host.public_key == request.public_key:
                    return host.id  # it did not hear our first answer
            key, now = records.secret_key(request.token), self._clock.now()
            invitation = self._fleet.invitations.get(key)
            if invitation is None or invitation.expires_at <= now:
                raise PermissionRefusedError(
                    "cannot let this host in: its invitation is unknown, used, or has run out",
                    hint="ask for a new one: `hive host invite NAME`",
                )
            command = Command(actor="invitation", request_id="", body=request.public_key.encode())
            await self._fleet.commit(
                [
                    *self._let_in(invitation.host, request.public_key),
                    self._fleet.invitations.drop(key),
                ],
                audit=command.audit("join", invitation.host, now),
            )
            self._hearing.heard(invitation.host, fetched=ABSENT)
            return invitation.host

    def _let_in(self, host: HostId, public_key: str) -> list[Write]:
        """It begins to count its reports anew, whoever had the name before."""
        now = self._clock.now()
        member = Host(id=host, public_key=public_key, joined_at=now)
        return [
            self._fleet.hosts.put(host, member),
            self._teller.event("", "joined", "it was let in", host),
            *([self._fleet.heard.drop(host)] if self._fleet.heard.get(host) else []),
        ]

    def _changed(self) -> None:
        self._wake.set()
        self._look()

    async def run(self) -> None:
        """See to it that the hub lets in who is stored, for ever."""
        complaints = Complaints(log, "letting hosts in")
        admitted: dict[HostId, str] | None = None
        while True:
            wanted = {id_: host.public_key for id_, host in self._fleet.present_hosts().items()}
            self._hearing.expect(len(wanted))
            pause_s = _LOOK_EVERY_S
            if wanted != admitted:
                try:
                    await self._admit(wanted)
                except HiveError as error:
                    complaints.say(str(error))
                    pause_s = getattr(error, "retry_after_s", _LOOK_EVERY_S)
                else:
                    admitted = wanted
            await self._wake.wait(pause_s * (0.8 + 0.4 * self._clock.random()))


def _still_used(host: HostId, names: list[WorkloadName]) -> ConflictError:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004 -- fit a line
    return ConflictError(
        f"cannot remove {host}: it has {', '.join(names[:5])}{more}",
        hint="delete them first with --purge; if the host is lost for good, force it: what was on "
        "it is lost, and begins anew elsewhere",
    )


def _check_key(text: str) -> None:
    """A key that the hub cannot read would keep everybody else out: its checksum must be right."""
    try:
        raw = base64.b32decode(text)
    except binascii.Error:
        raw = b""
    body, checksum = raw[:-2], int.from_bytes(raw[-2:], "little")
    if raw[:1] != bytes([_USER_KEY]) or binascii.crc_hqx(body, 0) != checksum:
        raise UserError("cannot let this host in: what it sent is no public key of a NATS user")
