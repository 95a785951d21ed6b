"""The orchestrator's side of the hub: what hosts, gateways and those who want to join ask for.

Who a request is from is read from its subject. Orders are given only in answers to a host's own
request; a report is acknowledged once it is stored.
"""

from contextlib import AsyncExitStack

from hivekeeper.model import limits
from hivekeeper.model.errors import NotFoundError, PermissionRefusedError
from hivekeeper.model.ids import HostId, Sequence
from hivekeeper.orchestrator import documents
from hivekeeper.orchestrator.fleet import Fleet
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.orchestrator.intake import Intake
from hivekeeper.orchestrator.membership import Membership
from hivekeeper.orchestrator.view import View
from hivekeeper.ports import Blobs, Bus, Handler
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import (
    BlobReply,
    BlobRequest,
    DocumentRequest,
    JoinRequest,
    ReportMessage,
    ReportReply,
)


class Hosts:
    """Answers on the hub."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        hearing: Hearing,
        intake: Intake,
        membership: Membership,
        view: View,
        blobs: Blobs,
    ) -> None:
        self._fleet, self._hearing, self._intake = fleet, hearing, intake
        self._membership, self._view, self._blobs = membership, view, blobs

    async def serve(self, bus: Bus, until: AsyncExitStack) -> None:
        """Answer on `bus` until the stack is closed."""
        handlers: dict[str, Handler] = {
            subjects.ANY_DOCUMENT: self.document,
            subjects.ANY_REPORT: self.report,
            subjects.ANY_BLOB: self.blob,
            subjects.JOIN: self.join,
            subjects.ROUTES: self.routes,
        }
        for subject, handler in handlers.items():
            await until.enter_async_context(bus.serve(subject, handler))

    async def document(self, subject: str, payload: bytes) -> bytes:
        """Tell a host what is new in its document; its asking says that it lives."""
        host = self._member(subject)
        request = messages.decode(payload, DocumentRequest)
        fetched = documents.has(self._fleet, request)
        self._hearing.heard(host, fetched=fetched or Sequence(0))
        poll_s = self._hearing.poll_s
        return messages.encode(documents.reply(self._fleet, host, request, poll_s=poll_s))

    async def report(self, subject: str, payload: bytes) -> bytes:
        """Store what a host reports, then say so."""
        host = self._member(subject)
        message = messages.decode(payload, ReportMessage)
        self._hearing.heard(host)
        await self._intake.take(host, message)
        return messages.encode(ReportReply(number=message.number))

    async def blob(self, subject: str, payload: bytes) -> bytes:
        """Send a piece of a blob."""
        self._member(subject)
        request = messages.decode(payload, BlobRequest)
        size = await self._blobs.size(request.sha256)
        if size is None:
            raise NotFoundError(f"cannot find blob {request.sha256}")
        data = await self._blobs.read(
            request.sha256, offset=request.offset, limit=limits.CHUNK_BYTES
        )
        return messages.encode(BlobReply(size=size, data=data))

    async def join(self, _: str, payload: bytes) -> bytes:
        """Let in who has a token."""
        request = messages.decode(payload, JoinRequest)
        return messages.encode(await self._membership.join(request))

    async def routes(self, _: str, __: bytes) -> bytes:
        """Tell a gateway which hApp is to be called where."""
        return messages.encode(self._view.routes())

    def _member(self, subject: str) -> HostId:
        host = subjects.sender(subject)
        there = self._fleet.hosts.get(host)
        if there is None or there.left_at is not None:
            raise PermissionRefusedError(f"cannot answer {host}: it does not belong to the fleet")
        return host
