"""What the product needs of the world, as Protocols.

Each has a contract suite that runs on its fake and on its adapters.

Adapters raise the errors of `model.errors` and nothing else of their own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from hivekeeper.model.ids import Generation, ProgramId, Sequence
from hivekeeper.model.limits import PAGE_RECORDS
from hivekeeper.model.program import ProgramSpec, ProgramStatus
from hivekeeper.model.record import (
    ABSENT,
    AuditEntry,
    AuditRecord,
    Change,
    Record,
    RecordKind,
)

Handler = Callable[[str, bytes], Awaitable[bytes]]
"""Subject and payload of a request to the payload of its reply."""


class Clock(Protocol):
    """Time and chance."""

    def now_s(self) -> float:
        """Return seconds since boot, suspended time included; never goes back."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC, aware; may jump."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


class Disk(Protocol):
    """Files of ours, small and whole.

    Everything written is for its owner alone (0600, folders 0700).
    """

    def read(self, path: Path) -> bytes | None:
        """Return the whole file, or None if there is none."""

    def write(self, path: Path, data: bytes) -> None:
        """Replace the file in one step, folders made as needed; on disk for good when it returns.

        Raises:
            TransientError: The disk is full or fails; what was there before is untouched.
        """

    def remove(self, path: Path) -> None:
        """Remove the file or the whole folder; nothing there is fine."""

    def names(self, folder: Path) -> list[str]:
        """Return what is in the folder, in order; empty if there is none."""


class Store(Protocol):
    """The truth. One write, all or nothing; durable when it returns."""

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        """Apply all of `changes`, and chain `audit`, or do nothing.

        Args:
            changes: At most `COMMIT_CHANGES`, no record twice: anything else is a bug. May be
                empty if there is an audit entry.
            audit: The user's write that this is, if it is one.

        Returns:
            The sequence of this commit, greater than any before; each record put has it.

        Raises:
            ConflictError: A record is not as expected. Look again, decide again.
            TransientError: The store could not be reached, or its disk is full. Nothing was
                written, unless the disk itself failed midway: look again before deciding again.
            PermanentError: The store is damaged.
        """

    async def get(self, kind: RecordKind, key: str) -> Record | None:
        """Return one record, or None."""

    async def audit(self, *, after: int = 0, limit: int = PAGE_RECORDS) -> list[AuditRecord]:
        """Return the first links of the audit chain with a number greater than `after`."""

    async def list(
        self,
        kind: RecordKind,
        *,
        prefix: str = "",
        after: Sequence = ABSENT,
        limit: int | None = None,
    ) -> list[Record]:
        """Return records whose key begins with `prefix`, written after the commit `after`.

        All of one moment; ordered by sequence, then key. A page never ends within a commit, so
        that the last record's sequence is where to go on: with a `limit` (at least 1) it ends with
        the commit that reached it, and is longer than that by less than `COMMIT_CHANGES`. Reading
        on until a page is empty sees every record at least once, and one that changed meanwhile
        again, as it is now. Whoever must know what was deleted lists all.
        """


class Blobs(Protocol):
    """Files that manifests refer to, each named by the SHA-256 (hex) of its content."""

    async def size(self, sha256: str) -> int | None:
        """Return how many bytes it has, or None if it is not there."""

    async def read(self, sha256: str, *, offset: int, limit: int) -> bytes:
        """Return at most `limit` bytes from `offset`; empty past its end.

        Raises:
            NotFoundError: It is not there.
        """

    async def write(self, sha256: str, pieces: AsyncIterator[bytes]) -> int:
        """Store what `pieces` come to, whole or not at all, and return its size.

        On disk for good when it returns. Storing again what is there is fine.

        Raises:
            UserError: It is not what `sha256` says, or larger than `BLOB_BYTES`.
            TransientError: The disk is full or fails.
        """


class Bus(Protocol):
    """Transport, and only that: may lose, delay, repeat and reorder."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send to whoever listens.

        Best effort, returns at once, also when disconnected (then it is lost).
        """

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Return the first answer.

        Raises:
            UserError: The other side refused it; asking the same again is pointless.
            TransientError: No answer in time, nobody there, disconnected, or refused for now.
        """

    def serve(self, subject: str, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Answer requests on `subject` (wildcards allowed), several at once, in the context.

        A `HiveError` that the handler raises is the asker's answer and is raised again there; any
        other is a bug.
        """

    def subscribe(
        self, subject: str, on_message: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """Call `on_message` with each message's subject while the context lasts.

        And once after each reconnect, with the subject subscribed to.
        """


class Supervisor(Protocol):
    """The keeper, as its clients see it."""

    async def hold(
        self, spec: ProgramSpec, *, wanted: bool, generation: Generation
    ) -> ProgramStatus:
        """Make the keeper hold this program so.

        Idempotent; returns what is, without waiting for it to start or stop.

        A changed spec restarts what runs. The keeper keeps it over its own restarts. An older
        generation than the one held is refused.

        Raises:
            ConflictError: The generation is older than the one held.
            TransientError: The keeper cannot be reached.
        """

    async def restart(self, program: ProgramId) -> ProgramStatus:
        """Stop it and start it again, as a user asks: past failures are forgotten."""

    async def release(self, program: ProgramId, *, logs: bool) -> None:
        """Stop it, forget it, and (`logs`) remove its logs; returns when nothing of it is left.

        Idempotent.
        """

    async def status(self) -> list[ProgramStatus]:
        """Return what is held, in order of id."""

    def changes(self) -> AsyncIterator[ProgramStatus]:
        """Yield each program's status now, then again whenever it changes.

        Ends with `TransientError` if the keeper goes.
        """
