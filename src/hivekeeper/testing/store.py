"""A store in memory: keeps every promise of the port but to be there tomorrow."""

import asyncio
from collections.abc import Sequence as SequenceOf

from hivekeeper.core import audit as chain
from hivekeeper.model import record
from hivekeeper.model.ids import Sequence
from hivekeeper.model.limits import PAGE_RECORDS
from hivekeeper.model.record import (
    ABSENT,
    AuditEntry,
    AuditRecord,
    Change,
    Put,
    Record,
    RecordKind,
)


class MemoryStore:
    """`ports.Store`. Others get a turn before each operation, as with a real one."""

    def __init__(self) -> None:
        self._records: dict[tuple[RecordKind, str], Record] = {}
        self._links: list[AuditRecord] = []
        self._head = chain.START
        self._sequence = ABSENT

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        record.assert_commit(changes, audit)
        await asyncio.sleep(0)
        for change in changes:
            if refused := record.conflict(change, self._found(change)):
                raise refused
        self._sequence = Sequence(self._sequence + 1)
        for change in changes:
            self._apply(change)
        if audit is not None:
            self._links.append(chain.link(self._head, audit))
            self._head = chain.Head(number=len(self._links), hash=self._links[-1].hash)
        return self._sequence

    async def get(self, kind: RecordKind, key: str) -> Record | None:
        await asyncio.sleep(0)
        return self._records.get((kind, key))

    async def audit(self, *, after: int = 0, limit: int = PAGE_RECORDS) -> list[AuditRecord]:
        await asyncio.sleep(0)
        return self._links[after : after + limit]

    async def list(
        self,
        kind: RecordKind,
        *,
        prefix: str = "",
        after: Sequence = ABSENT,
        limit: int | None = None,
    ) -> list[Record]:
        assert limit is None or limit >= 1, "a page has at least one record"
        await asyncio.sleep(0)
        wanted = [
            each
            for each in self._records.values()
            if each.kind == kind and each.key.startswith(prefix) and each.sequence > after
        ]
        wanted.sort(key=lambda each: (each.sequence, each.key))
        if limit is None or limit >= len(wanted):
            return wanted
        last = wanted[limit - 1].sequence
        return [each for each in wanted if each.sequence <= last]

    def _found(self, change: Change) -> Sequence:
        there = self._records.get((change.kind, change.key))
        return ABSENT if there is None else there.sequence

    def _apply(self, change: Change) -> None:
        at = (change.kind, change.key)
        if isinstance(change, Put):
            self._records[at] = Record(
                kind=change.kind, key=change.key, sequence=self._sequence, value=change.value
            )
        else:
            self._records.pop(at, None)
