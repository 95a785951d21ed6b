"""What is stored, in memory as last committed: what decisions read, and the one way to change it.

The store is the truth. Whoever wants to change something takes a turn: for as long, nobody else
does, and what is read is what is stored. Should a commit be refused, fail or be cut off, nobody
knows what is stored, and the next turn begins with reading all of it. Decides nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from collections.abc import Sequence as SequenceOf
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from hivekeeper.aio.news import News
from hivekeeper.model.allocation import Allocation, Host, Report, Workload
from hivekeeper.model.errors import ConflictError, PermanentError, TransientError
from hivekeeper.model.ids import HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.manifest import Manifest
from hivekeeper.model.record import (
    ABSENT,
    AuditEntry,
    Change,
    Delete,
    Event,
    Put,
    Record,
    RecordKind,
)
from hivekeeper.orchestrator import records
from hivekeeper.orchestrator.records import Cluster, Heard, Invitation, Remembered, Withdrawals
from hivekeeper.ports import Store

T = TypeVar("T", bound=Struct)

_encoder = msgspec.json.Encoder(order="deterministic")


_INDEXED: Final = {RecordKind.ALLOCATION: (0, 1), RecordKind.MANIFEST: (0,)}
"""Records that are looked for by a part of their key: by host and by workload, by workload."""


class MovedError(TransientError):
    """Somebody else wrote the store: look again, decide again."""


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A value, and the commit that wrote it."""

    sequence: Sequence
    value: T


@dataclass(frozen=True, slots=True)
class Write:
    """A record to be written, or (None) removed, from what is known of it now."""

    table: "Table[Any]"
    key: str
    value: Struct | None

    def change(self) -> Change:
        """Return it as the store takes it."""
        expected = self.table.sequence(self.key)
        if self.value is None:
            return Delete(kind=self.table.kind, key=self.key, expected=expected)
        value = _encoder.encode(self.value)
        return Put(kind=self.table.kind, key=self.key, expected=expected, value=value)


class Table(Generic[T]):
    """All records of one kind, in the order in which they were last written."""

    def __init__(self, kind: RecordKind, form: type[T]) -> None:
        self.kind = kind
        self.kept: dict[str, Kept[T]] = {}
        self._decoder = msgspec.json.Decoder(form)

    def get(self, key: str) -> T | None:
        """Return the value, or None."""
        kept = self.kept.get(key)
        return None if kept is None else kept.value

    def sequence(self, key: str) -> Sequence:
        """Return which commit wrote it, or ABSENT."""
        kept = self.kept.get(key)
        return ABSENT if kept is None else kept.sequence

    def put(self, key: str, value: T) -> Write:
        """Return a write of `value`."""
        return Write(self, key, value)

    def drop(self, key: str) -> Write:
        """Return a removal."""
        return Write(self, key, None)

    def read(self, record: Record) -> Kept[T]:
        """Return what is in `record`; raises `PermanentError` if it cannot be read."""
        try:
            return Kept(record.sequence, self._decoder.decode(record.value))
        except msgspec.MsgspecError as error:
            raise PermanentError(
                f"cannot read the stored {record.kind} `{record.key}`: {error}",
                hint="it was written by another version of hive, or changed by hand",
            ) from error


class Fleet:
    """All but the audit chain.

    Args:
        store: Nobody else is expected to write it.
    """

    def __init__(self, store: Store) -> None:
        self.clusters = Table(RecordKind.CLUSTER, Cluster)
        self.workloads = Table(RecordKind.WORKLOAD, Workload)
        self.manifests = Table(RecordKind.MANIFEST, Manifest)
        self.allocations = Table(RecordKind.ALLOCATION, Allocation)
        self.reports = Table(RecordKind.REPORT, Report)
        self.hosts = Table(RecordKind.HOST, Host)
        self.heard = Table(RecordKind.HEARD, Heard)
        self.invitations = Table(RecordKind.INVITATION, Invitation)
        self.documents = Table(RecordKind.DOCUMENT, Withdrawals)
        self.events = Table(RecordKind.EVENT, Event)
        self.remembered = Table(RecordKind.IDEMPOTENCY, Remembered)
        self.news = News()
        self._tables = tuple(each for each in vars(self).values() if isinstance(each, Table))
        self._store = store
        self._turn = asyncio.Lock()
        self._is_known = False
        self._sequence = ABSENT
        self._index: dict[tuple[RecordKind, int, str], set[str]] = defaultdict(set)

    @property
    def cluster(self) -> Cluster:
        """Which store this is."""
        cluster = self.clusters.get(records.CLUSTER_KEY)
        assert cluster is not None, "it is made before anybody asks"
        return cluster

    @property
    def sequence(self) -> Sequence:
        """The last commit that is known: no generation that was ever given out is greater."""
        return self._sequence

    def manifest(self, workload: Workload | Allocation) -> Manifest:
        """Return the manifest of a workload's revision, or of what an allocation is told."""
        name = workload.name if isinstance(workload, Workload) else workload.workload
        manifest = self.manifests.get(records.revision(name, workload.revision))
        assert manifest is not None, "a revision is stored with its manifest"
        return manifest

    def revisions(self, workload: WorkloadName) -> list[Revision]:
        """Return which manifests of a workload are kept, oldest first."""
        keys = self._index.get((RecordKind.MANIFEST, 0, workload), set())
        return sorted(Revision(int(key.rpartition("/")[2])) for key in keys)

    def allocations_of(self, workload: WorkloadName) -> list[Kept[Allocation]]:
        """Return where a workload is, by host."""
        keys = self._index.get((RecordKind.ALLOCATION, 1, workload), set())
        return [self.allocations.kept[key] for key in sorted(keys)]

    def allocations_on(self, host: HostId) -> list[Kept[Allocation]]:
        """Return what is on a host, by workload."""
        keys = self._index.get((RecordKind.ALLOCATION, 0, host), set())
        return [self.allocations.kept[key] for key in sorted(keys)]

    def count_on(self, host: HostId) -> int:
        """Return how many allocations a host has."""
        return len(self._index.get((RecordKind.ALLOCATION, 0, host), ()))

    def report(self, allocation: Allocation) -> Report | None:
        """Return what its host last said of an allocation."""
        return self.reports.get(records.placed(allocation.host, allocation.workload))

    def present_hosts(self) -> dict[HostId, Host]:
        """Return those that were let in and have not left."""
        hosts = (kept.value for kept in self.hosts.kept.values())
        return {host.id: host for host in hosts if host.left_at is None}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the fleet to oneself; what is read meanwhile is what is stored."""
        async with self._turn:
            if not self._is_known:
                await self._read_all()
            yield

    async def commit(
        self, writes: SequenceOf[Write], *, audit: AuditEntry | None = None
    ) -> Sequence:
        """Store all of `writes` or nothing; within a turn, and once a turn.

        Raises:
            MovedError: Somebody else wrote the store. Nothing was written.
            HiveError: As `Store.commit`.
        """
        assert self._turn.locked(), "who changes something has a turn"
        assert self._is_known, "a turn has one commit"
        self._is_known = False
        try:
            sequence = await self._store.commit([each.change() for each in writes], audit=audit)
        except ConflictError as error:
            raise MovedError(f"{error}: somebody else writes the store") from error
        for write in writes:
            kept = None if write.value is None else Kept(sequence, write.value)
            self._set(write.table, write.key, kept)
        self._sequence, self._is_known = sequence, True
        self.news.tell()
        return sequence

    async def _read_all(self) -> None:
        found = [(table, await self._store.list(table.kind)) for table in self._tables]
        self._index.clear()
        for table, stored in found:
            table.kept = {}
            for record in stored:
                self._set(table, record.key, table.read(record))
            self._sequence = max([self._sequence, *(each.sequence for each in stored[-1:])])
        self._is_known = True
        self.news.tell()

    def _set(self, table: Table[Any], key: str, kept: Kept[Any] | None) -> None:
        """Keep a record, as the one written last, or (None) no more."""
        table.kept.pop(key, None)
        if kept is not None:
            table.kept[key] = kept
        for part in _INDEXED.get(table.kind, ()):
            keys = self._index[table.kind, part, key.split("/")[part]]
            keys.discard(key) if kept is None else keys.add(key)
