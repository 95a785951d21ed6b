"""Blobs on this host: fetched from the orchestrator in pieces, used only whole and verified."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hivekeeper.model import limits
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import HostId
from hivekeeper.ports import Bus, Disk
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import BlobReply, BlobRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """The store's blobs, as this host gets them."""

    host: HostId
    bus: Bus
    disk: Disk

    async def fetch(self, sha256: str, path: Path) -> None:
        """Have a file with this content at `path`; fetched if it is not there yet.

        Raises:
            TransientError: The orchestrator cannot be reached, has no such blob, or sent another
                one.
        """
        if not self._is_whole(path, sha256):
            self.disk.write(path, await self._download(sha256))

    def _is_whole(self, path: Path, sha256: str) -> bool:
        data = self.disk.read(path)
        return data is not None and hashlib.sha256(data).hexdigest() == sha256

    async def _download(self, sha256: str) -> bytes:
        data = bytearray()
        size = 1
        while len(data) < size:
            reply = await self._piece(sha256, len(data))
            size = reply.size
            if not reply.data or size > limits.BLOB_BYTES:
                raise TransientError(f"cannot fetch blob {sha256}: {size} bytes, and no more came")
            data += reply.data
        if hashlib.sha256(data).hexdigest() != sha256:
            raise TransientError(f"cannot fetch blob {sha256}: what came is something else")
        return bytes(data)

    async def _piece(self, sha256: str, offset: int) -> BlobReply:
        answer = await self.bus.request(
            subjects.blob(self.host),
            messages.encode(BlobRequest(sha256=sha256, offset=offset)),
            timeout_s=limits.REQUEST_TIMEOUT_S,
        )
        return messages.decode(answer, BlobReply)
