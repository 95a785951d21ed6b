"""The embedded store: `ports.Store` on one SQLite file.

One thread writes. What was asked while it was busy it writes next, all in one transaction, so that
many callers share one wait for the disk; each is still applied whole or not at all. Another thread
reads, and never sees half a commit. Looks into no value, and retries nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from hivekeeper.adapters import sqlite_file
from hivekeeper.core import audit as chain
from hivekeeper.model import record
from hivekeeper.model.errors import ConflictError
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

_FOUND: Final = "SELECT sequence FROM record WHERE kind = ? AND key = ?"
_PUT: Final = """
    INSERT INTO record (kind, key, sequence, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE SET sequence = excluded.sequence, value = excluded.value
"""
_DELETE: Final = "DELETE FROM record WHERE kind = ? AND key = ?"
_NEXT_SEQUENCE: Final = "UPDATE head SET sequence = sequence + 1 RETURNING sequence"
_HEAD: Final = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1"
_LINK: Final = "INSERT INTO audit (number, previous, hash, entry) VALUES (?, ?, ?, ?)"
_LINKS: Final = """
    SELECT number, previous, hash, entry FROM audit WHERE number > ? ORDER BY number LIMIT ?
"""
_GET: Final = "SELECT kind, key, sequence, value FROM record WHERE kind = ? AND key = ?"
_LIST: Final = """
    SELECT kind, key, sequence, value FROM record WHERE {wanted} ORDER BY sequence, key
"""
_PAGE: Final = """
    SELECT kind, key, sequence, value FROM record WHERE {wanted} AND sequence <= ifnull(
        (SELECT sequence FROM record WHERE {wanted} ORDER BY sequence LIMIT 1 OFFSET :limit - 1),
        1 << 62
    ) ORDER BY sequence, key
"""
_ALL: Final = "kind = :kind AND sequence > :after"
_PREFIXED: Final = """
    kind = :kind AND key >= :prefix AND key < :prefix || char(127) AND +sequence > :after
"""
"""Keys are printable ASCII: none goes on with 127. The plus keeps SQLite on the index of keys."""


_Outcome = Sequence | BaseException


@dataclass(frozen=True, slots=True)
class _Wish:
    """A commit that somebody waits for."""

    changes: tuple[Change, ...]
    audit: AuditEntry | None
    done: asyncio.Future[Sequence]


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator["SqliteStore"]:
    """Open the store in the file `path`, made if there is none, while the context lasts.

    Raises:
        UserError: The file cannot be used: a folder, not allowed, not ours, of a newer format.
        PermanentError: The file is damaged.
        TransientError: The disk is full, or someone else has the file locked.
    """
    loop = asyncio.get_running_loop()
    with (
        ThreadPoolExecutor(1, "store-write") as writing,
        ThreadPoolExecutor(1, "store-read") as reading,
    ):
        writer, reader = await loop.run_in_executor(writing, sqlite_file.open_pair, path)
        try:
            yield SqliteStore(path, writer=writer, writing=writing, reader=reader, reading=reading)
        finally:  # each thread closes its own, after all that it was given before
            await loop.run_in_executor(reading, reader.close)
            await loop.run_in_executor(writing, writer.close)


class SqliteStore:
    """`ports.Store`. Made by `open_store`."""

    def __init__(
        self,
        path: Path,
        *,
        writer: apsw.Connection,
        writing: Executor,
        reader: apsw.Connection,
        reading: Executor,
    ) -> None:
        self._path = path
        self._writer = writer
        self._writing = writing
        self._reader = reader
        self._reading = reading
        self._waiting: list[_Wish] = []
        self._is_busy = False

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        record.assert_commit(changes, audit)
        done: asyncio.Future[Sequence] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Wish(tuple(changes), audit, done))
        if not self._is_busy:
            self._write_waiting()
        return await done

    async def get(self, kind: RecordKind, key: str) -> Record | None:
        rows = await self._read(_GET, (kind, key))
        return _record(rows[0]) if rows else None

    async def audit(self, *, after: int = 0, limit: int = PAGE_RECORDS) -> list[AuditRecord]:
        rows = await self._read(_LINKS, (after, limit))
        return [
            AuditRecord(number=number, previous=previous, hash=hash_, entry=entry)
            for number, previous, hash_, entry in rows
        ]

    async def _read(self, sql: str, wanted: Any) -> list[tuple[Any, ...]]:
        """Return what one statement finds: all of one moment."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._reading, lambda: self._reader.execute(sql, wanted).fetchall()
            )
        except apsw.Error as error:
            raise sqlite_file.failure(self._path, error) from error

    def _write_waiting(self) -> None:
        """Give the writing thread all that waits, but what was cancelled before it began."""
        batch = [wish for wish in self._waiting if not wish.done.done()]
        self._waiting = []
        self._is_busy = bool(batch)
        if batch:
            loop = asyncio.get_running_loop()
            written = loop.run_in_executor(self._writing, _write, self._path, self._writer, batch)
            written.add_done_callback(lambda written: self._answer(batch, written))

    def _answer(self, batch: list[_Wish], written: asyncio.Future[list[_Outcome]]) -> None:
        """Tell each of `batch` how it went, then go on; what went wrong as a whole is for all."""
        error = written.exception()
        outcomes = written.result() if error is None else [error] * len(batch)
        for wish, outcome in zip(batch, outcomes, strict=True):
            if wish.done.done():
                continue  # cancelled meanwhile: nobody waits for it any more
            if isinstance(outcome, BaseException):
                wish.done.set_exception(outcome)
            else:
                wish.done.set_result(outcome)
        self._write_waiting()

    async def list(
        self,
        kind: RecordKind,
        *,
        prefix: str = "",
        after: Sequence = ABSENT,
        limit: int | None = None,
    ) -> list[Record]:
        assert limit is None or limit >= 1, "a page has at least one record"
        sql = (_LIST if limit is None else _PAGE).format(wanted=_PREFIXED if prefix else _ALL)
        wanted = {"kind": kind, "prefix": prefix, "after": after, "limit": limit}
        return [_record(row) for row in await self._read(sql, wanted)]


def _record(row: tuple[Any, ...]) -> Record:
    kind, key, sequence, value = row
    return Record(kind=RecordKind(kind), key=key, sequence=sequence, value=value)


def _write(path: Path, connection: apsw.Connection, batch: list[_Wish]) -> list[_Outcome]:
    """Write `batch` in one transaction; return for each its sequence, or why it was refused."""
    try:
        with sqlite_file.transaction(connection):
            outcomes = [_attempt(connection, wish) for wish in batch]
    except apsw.Error as error:
        raise sqlite_file.failure(path, error) from error
    return outcomes


def _attempt(connection: apsw.Connection, wish: _Wish) -> _Outcome:
    """Apply `wish` whole, or nothing of it if it is refused; what else fails ends the batch."""
    outcome: _Outcome
    connection.execute("SAVEPOINT wish")
    try:
        outcome = _apply(connection, wish)
    except ConflictError as refused:
        connection.execute("ROLLBACK TO wish")
        outcome = refused
    connection.execute("RELEASE wish")
    return outcome


def _apply(connection: apsw.Connection, wish: _Wish) -> Sequence:
    sequence = Sequence(connection.execute(_NEXT_SEQUENCE).get)
    for change in wish.changes:
        found = connection.execute(_FOUND, (change.kind, change.key)).get or ABSENT
        if refused := record.conflict(change, found):
            raise refused
        if isinstance(change, Put):
            connection.execute(_PUT, (change.kind, change.key, sequence, change.value))
        else:
            connection.execute(_DELETE, (change.kind, change.key))
    if wish.audit is not None:
        _chain(connection, wish.audit)
    return sequence


def _chain(connection: apsw.Connection, entry: AuditEntry) -> None:
    last = connection.execute(_HEAD).get
    head = chain.START if last is None else chain.Head(number=last[0], hash=last[1])
    link = chain.link(head, entry)
    connection.execute(_LINK, (link.number, link.previous, link.hash, link.entry))
