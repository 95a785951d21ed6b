"""A SQLite file of ours: made whole, and looked at before it is used.

What is damaged, of a newer format or somebody else's is refused with what to do, and no byte of it
changes. Every page carries a checksum (SQLite's own cksumvfs), so that a bit that flips on disk is
an error and never an answer: read such a file with any tool, but write to it with none.
"""

import errno
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw
from apsw import sqlite_extra

from hivekeeper.model.errors import HiveError, PermanentError, TransientError, UserError
from hivekeeper.model.limits import MIB

APPLICATION_ID: Final = int.from_bytes(b"HIVE")
"""Where a SQLite file says whose it is."""

MIGRATIONS: Final = (
    """
    CREATE TABLE head (sequence INTEGER NOT NULL) STRICT;
    INSERT INTO head VALUES (0);
    CREATE TABLE record (
        kind TEXT NOT NULL, key TEXT NOT NULL, sequence INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT;
    CREATE UNIQUE INDEX record_by_sequence ON record (kind, sequence, key);
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, previous TEXT NOT NULL, hash TEXT NOT NULL, entry BLOB NOT NULL
    ) STRICT;
    """,
)
"""The n-th takes a file from format n - 1 to n. Never changed once released, only added to."""

BUSY_MS: Final = 5_000
"""How long to wait for someone else who has the file open: a backup, a person who looks."""
LOG_KEPT_BYTES: Final = 16 * MIB
"""How much of the write-ahead log's file is kept for the next commits once it was folded back."""
CHECKSUM_BYTES: Final = 8
"""At the end of each page: what cksumvfs wants."""


def open_pair(path: Path) -> tuple[apsw.Connection, apsw.Connection]:
    """Return a connection to write with and one to read with; the file is made if there is none.

    Raises:
        UserError: The file cannot be used: a folder, not allowed, not ours, of a newer format.
        PermanentError: The file is damaged.
        TransientError: The disk is full, or someone else has the file locked.
    """
    _register_checksums()
    try:
        if not os.path.lexists(path):
            _create(path)
        _need_access(path)
        _inspect(path)
        writer = _connect(path, apsw.SQLITE_OPEN_READWRITE)
        _migrate(writer)
        return writer, _connect(path, apsw.SQLITE_OPEN_READONLY)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise TransientError(f"cannot open the store {path}: {error.strerror}") from error
        raise UserError(
            f"cannot open the store {path}: {error.strerror}",
            hint="Whoever runs Hivekeeper must be allowed to write in its folder.",
        ) from error
    except apsw.Error as error:
        raise failure(path, error) from error


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Make what is done in the context one: all of it on disk when it ends, or nothing.

    apsw's own context keeps every other thread waiting while the disk works, and hides what went
    wrong when SQLite has rolled back by itself.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def failure(path: Path, error: apsw.Error) -> HiveError:
    """Return what `error` means to whoever uses the store; raise it again if it is our bug."""
    match error:
        case apsw.CorruptError() | apsw.NotADBError():
            return damaged(path, str(error))
        case apsw.IOError() if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:
            return damaged(path, "a page is not what was written")
        case apsw.ReadOnlyError():
            return PermanentError(
                f"cannot write to the store {path}: {error}",
                hint="See whether its disk became read-only, as one does that fails.",
            )
        case (
            apsw.FullError()
            | apsw.BusyError()
            | apsw.LockedError()
            | apsw.IOError()
            | apsw.CantOpenError()
            | apsw.NoMemError()
        ):
            return TransientError(f"cannot use the store {path}: {error}")
    raise error


def damaged(path: Path, finding: str) -> PermanentError:
    """Return the error that says so, and what to do."""
    return PermanentError(
        f"cannot use the store {path}: it is damaged ({finding})",
        hint=f"Nothing was changed. Restore it, with {path.name}-wal, from a backup; "
        "or move both away to start anew.",
    )


@functools.cache
def _register_checksums() -> None:
    """SQLite learns the file layer `cksmvfs`, for the life of this process."""
    memory = apsw.Connection(":memory:")
    sqlite_extra.load(memory, "cksumvfs")
    memory.close()


def _connect(path: Path | str, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags, vfs="cksmvfs")
    connection.set_busy_timeout(BUSY_MS)
    connection.pragma("synchronous", "FULL")
    connection.pragma("journal_size_limit", LOG_KEPT_BYTES)
    return connection


def _create(path: Path) -> None:
    """Make an empty store, and give it its name once it is whole: a kill leaves all or nothing."""
    if (log := Path(f"{path}-wal")).exists():
        raise damaged(path, f"it is gone, and {log.name} is there")
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        new = Path(folder, path.name)
        new.touch(mode=0o600)  # SQLite gives its other files the same mode
        connection = _connect(new, apsw.SQLITE_OPEN_READWRITE)
        connection.reserve_bytes(reserve=CHECKSUM_BYTES)
        connection.pragma("journal_mode", "wal")
        connection.pragma("application_id", APPLICATION_ID)
        _migrate(connection)
        connection.close()
        with suppress(FileExistsError):  # somebody else was faster: theirs is as good
            path.hardlink_to(new)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _need_access(path: Path) -> None:
    """Refuse with the reason what SQLite would only call `unable to open`.

    Nothing is opened for it: closing a file drops every lock that this process has on it.
    """
    if not path.is_file():
        raise UserError(f"cannot open the store {path}: it is not a file", hint="Name a file.")
    for place, right in ((path.parent, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        if not os.access(place, right, effective_ids=True):
            raise PermissionError(0, f"no permission to write {place}")


def _inspect(path: Path) -> None:
    """Refuse what is not a whole store of a format that we know, without changing a byte."""
    is_logged = Path(f"{path}-wal").exists()  # if not, SQLite need not make its files for us
    address = f"{path.absolute().as_uri()}?immutable={int(not is_logged)}"
    connection = _connect(address, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        page_bytes, size = connection.pragma("page_size"), path.stat().st_size
        if not is_logged and (size == 0 or size % page_bytes):  # SQLite reads zeros there
            raise damaged(path, f"it is cut off after {size} bytes")
        _need_ours(path, connection)
        finding = connection.execute("PRAGMA quick_check(1)").get
        if finding != "ok":
            raise damaged(path, finding)
    finally:
        connection.close()


def _need_ours(path: Path, connection: apsw.Connection) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise UserError(
            f"cannot open the store {path}: it is no store of Hivekeeper's",
            hint="Name another file; nothing was changed in this one.",
        )
    known, version = len(MIGRATIONS), connection.pragma("user_version")
    if version > known:
        raise UserError(
            f"cannot open the store {path}: its format is {version}, and {known} is the newest "
            "that this version of Hivekeeper knows",
            hint="Use the version that wrote it; nothing was changed.",
        )


def _migrate(connection: apsw.Connection) -> None:
    with transaction(connection):
        for number, script in enumerate(MIGRATIONS, start=1):
            if number > connection.pragma("user_version"):
                connection.execute(script)
                connection.pragma("user_version", number)
