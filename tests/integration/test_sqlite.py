"""The embedded store on a real disk: damage, other people's files, a full disk, kill -9."""

import asyncio
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from hivekeeper.adapters import sqlite, sqlite_file
from hivekeeper.core import audit
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    PermanentError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import Sequence
from hivekeeper.model.record import ABSENT, AuditEntry, Delete, Put, Record, RecordKind

WORKLOAD = RecordKind.WORKLOAD
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
ENTRY = AuditEntry(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    actor="admin",
    action="apply",
    target="notes",
    request_id="r",
    body=b"{}",
)


def put(key: str, value: bytes = b"x", *, expected: int = ABSENT) -> Put:
    return Put(kind=WORKLOAD, key=key, expected=Sequence(expected), value=value)


async def fill(path: Path, *, records: int = 50) -> list[Record]:
    """Make a store with some records, from tiny ones to some that take several pages."""
    async with sqlite.open_store(path) as store:
        rolls = random.Random(7)
        for n in range(records):
            await store.commit([put(f"k{n}", rolls.randbytes(n * n * 4))], audit=ENTRY)
        return await store.list(WORKLOAD)


async def everything(path: Path) -> list[Record]:
    async with sqlite.open_store(path) as store:
        await store.audit()
        return await store.list(WORKLOAD)


def prints(path: Path) -> dict[str, str]:
    """Return the hash of the file and of its log, of those that are there."""
    files = [path, Path(f"{path}-wal")]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


async def refusal(path: Path) -> HiveError:
    """Open what must be refused; see that no byte of it changed, and that the file is named."""
    before = prints(path)
    with pytest.raises(HiveError) as refused:
        async with sqlite.open_store(path):
            pass
    assert prints(path) == before
    assert str(path) in str(refused.value)
    assert isinstance(refused.value, UserError | PermanentError)
    assert refused.value.hint
    return refused.value


def size(path: Path, end: str = "") -> int:
    return Path(f"{path}{end}").stat().st_size


def names(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


def scribble(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def change_pragma(path: Path, name: str, value: int) -> None:
    connection = sqlite_file._connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.pragma(name, value)
    connection.close()


@contextmanager
def with_log(path: Path) -> Iterator[Path]:
    """Yield a copy of a store in use: what was written last is still in its log."""
    connection = sqlite_file._connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.execute("UPDATE record SET value = zeroblob(5000)")
    copy = path.parent / "copy" / path.name
    copy.parent.mkdir()
    for end in ("", "-wal"):
        shutil.copyfile(f"{path}{end}", f"{copy}{end}")
    connection.close()
    yield copy


async def test_a_store_is_there_again_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    records = await fill(path)
    assert await everything(path) == records
    assert names(tmp_path) == ["store.db"]


async def test_a_store_is_its_owners_alone(tmp_path: Path) -> None:
    """Also the files that SQLite puts beside it while it is in use."""
    async with sqlite.open_store(tmp_path / "store.db") as store:
        await store.commit([put("a")])
        modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}


async def test_the_name_of_a_store_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "a ?b%20c#d&immutable=1 é.db"
    records = await fill(path, records=3)
    assert await everything(path) == records


@pytest.mark.parametrize("cut", [1, 50, 511, 4096, 10_000, -4096, -1])
async def test_a_truncated_store_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    os.truncate(path, cut % size(path))
    refused = await refusal(path)
    assert "damaged" in str(refused)
    assert "backup" in getattr(refused, "hint", "")


async def test_an_emptied_store_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    os.truncate(path, 0)
    assert "cut off after 0 bytes" in str(await refusal(path))


@pytest.mark.parametrize(
    ("at", "data"),
    [
        pytest.param(0, bytes(16), id="no-magic"),
        pytest.param(0, b"\xa5" * 100, id="header"),
        pytest.param(16, b"\xff\xff", id="page-size"),
        pytest.param(28, b"\xff\xff\xff\xff", id="length"),
        pytest.param(100, b"\x00" * 50, id="first-page"),
        pytest.param(5 * 4096, b"\xa5" * 4096, id="middle-page"),
        pytest.param(5 * 4096 + 2000, b"\x01", id="middle-byte"),
    ],
)
async def test_a_scribbled_store_is_refused(tmp_path: Path, at: int, data: bytes) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    scribble(path, at, data)
    assert "damaged" in str(await refusal(path))


async def test_a_damaged_store_in_use_is_refused_with_its_log_untouched(tmp_path: Path) -> None:
    await fill(tmp_path / "store.db")
    with with_log(tmp_path / "store.db") as path:
        scribble(path, 100, b"\x00" * 50)
        scribble(path, 30 * 4096, b"\xa5" * 4096)
        scribble(Path(f"{path}-wal"), 32, b"\xa5" * 24)  # so that the log does not cover it up
        assert "damaged" in str(await refusal(path))


async def test_a_log_without_its_store_is_refused(tmp_path: Path) -> None:
    """A new store beside it would take the old one's last pages for its own."""
    await fill(tmp_path / "store.db")
    with with_log(tmp_path / "store.db") as path:
        path.unlink()
        assert "store.db-wal is there" in str(await refusal(path))
        assert not path.exists()


async def test_a_bit_that_flips_is_an_error_and_never_an_answer(tmp_path: Path) -> None:
    """Wherever it flips, in a value too: refused, or everything read is what was written."""
    path, rolls = tmp_path / "store.db", random.Random(3)
    records = await fill(path)
    whole = path.read_bytes()
    for _ in range(100):
        at = rolls.randrange(len(whole))
        scribble(path, at, bytes([whole[at] ^ (1 << rolls.randrange(8))]))
        with suppress(PermanentError, UserError):
            assert await everything(path) == records
        path.write_bytes(whole)


async def test_damage_that_comes_later_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    async with sqlite.open_store(path) as store:
        scribble(path, 4096, b"\xa5" * (size(path) - 4096))
        with pytest.raises(PermanentError, match=r"store\.db.*damaged"):
            await store.list(WORKLOAD)
        with pytest.raises(PermanentError, match=r"store\.db.*damaged"):
            await store.commit([put("new")])


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("milk, bread\n" * 100)
    await refusal(path)


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1); PRAGMA journal_mode = WAL")
    connection.close()
    assert "no store of Hivekeeper's" in str(await refusal(path))


async def test_another_application_id_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path / "store.db", records=2)
    change_pragma(tmp_path / "store.db", "application_id", 7)
    assert "no store of Hivekeeper's" in str(await refusal(tmp_path / "store.db"))


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path / "store.db", records=2)
    change_pragma(tmp_path / "store.db", "user_version", 99)
    assert "its format is 99" in str(await refusal(tmp_path / "store.db"))


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "not a file" in str(await refusal(tmp_path))


async def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in str(await refusal(tmp_path / "none" / "store.db"))


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Be somebody who may look into `folder`, but whom no file permission favours."""
    if os.geteuid() != 0:
        yield
        return
    for place in (folder, *folder.parents[:3]):
        place.chmod(place.stat().st_mode | 0o055)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["file", "folder"])
async def test_a_store_that_may_not_be_written_is_refused(tmp_path: Path, locked: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "store.db"
    await fill(path, records=2)
    before = prints(path)
    path.chmod(0o400 if locked == "file" else 0o666)
    folder.chmod(0o777 if locked == "file" else 0o555)
    with (
        as_nobody(folder),
        pytest.raises(UserError, match=r"cannot open the store .*: no permission to write") as no,
    ):
        await sqlite.open_store(path).__aenter__()
    folder.chmod(0o700)
    path.chmod(0o600)
    assert no.value.hint
    assert prints(path) == before


async def test_an_older_format_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = await fill(tmp_path / "store.db")
    newer = (*sqlite_file.MIGRATIONS, "CREATE TABLE more (a ANY) STRICT")
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", newer)
    assert await everything(tmp_path / "store.db") == records
    monkeypatch.undo()
    assert "its format is 2" in str(await refusal(tmp_path / "store.db"))


async def test_a_migration_that_fails_leaves_the_older_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = await fill(tmp_path / "store.db")
    broken = (*sqlite_file.MIGRATIONS, "CREATE TABLE more (a); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", broken)
    with pytest.raises(apsw.SQLError, match="nowhere"):
        await everything(tmp_path / "store.db")
    monkeypatch.undo()
    assert await everything(tmp_path / "store.db") == records


async def test_two_processes_worth_of_stores_on_one_file_lose_nothing(tmp_path: Path) -> None:
    """An old leader that does not know it yet: compare and set holds across both."""

    async def count(store: sqlite.SqliteStore) -> None:
        for _ in range(20):
            while True:
                found = await store.get(WORKLOAD, "n")
                assert found is not None
                more = str(int(found.value) + 1).encode()
                try:
                    await store.commit([put("n", more, expected=found.sequence)])
                except ConflictError:
                    continue
                break

    path = tmp_path / "store.db"
    async with sqlite.open_store(path) as one, sqlite.open_store(path) as two:
        await one.commit([put("n", b"0")])
        async with asyncio.TaskGroup() as group:
            group.create_task(count(one), name="one")
            group.create_task(count(two), name="two")
        found = await one.get(WORKLOAD, "n")
        assert found is not None
        assert found.value == b"40"


async def test_a_store_that_somebody_holds_locked_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_MS", 50)
    path = tmp_path / "store.db"
    async with sqlite.open_store(path) as store:
        other = sqlite_file._connect(path, apsw.SQLITE_OPEN_READWRITE)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match=r"store\.db: .*locked"):
            await store.commit([put("a")])
        other.execute("ROLLBACK")
        other.close()
        await store.commit([put("a")])


async def test_a_commit_given_up_before_it_began_is_never_made(tmp_path: Path) -> None:
    async with sqlite.open_store(tmp_path / "store.db") as store:
        async with asyncio.TaskGroup() as group:
            group.create_task(store.commit([put("first")]), name="first")
            waits = group.create_task(store.commit([put("second")]), name="second")
            await asyncio.sleep(0)  # the first is being written, the second waits
            waits.cancel()
        assert [record.key for record in await store.list(WORKLOAD)] == ["first"]


async def test_space_is_used_again(tmp_path: Path) -> None:
    """Ten thousand events that come and go leave a file, and a log, of the size of a few."""
    path = tmp_path / "store.db"
    async with sqlite.open_store(path) as store:
        for batch in range(50):
            events = [f"{batch:03}-{n:03}" for n in range(200)]
            sequence = await store.commit([put(key, bytes(1000)) for key in events])
            await store.commit(
                [Delete(kind=WORKLOAD, key=key, expected=sequence) for key in events]
            )
        assert size(path, "-wal") <= sqlite_file.LOG_KEPT_BYTES
    assert size(path) < 2_000_000


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (sqlite._ALL, "record_by_sequence (kind=? AND sequence>?)"),
        (sqlite._PREFIXED, "sqlite_autoindex_record_1 (kind=? AND key>? AND key<?)"),
    ],
)
async def test_lists_search_an_index_and_scan_nothing(
    tmp_path: Path, wanted: str, index: str
) -> None:
    await fill(tmp_path / "store.db", records=1)
    connection = apsw.Connection(str(tmp_path / "store.db"))
    for sql in (sqlite._LIST, sqlite._PAGE):
        names = {"kind": "workload", "prefix": "a/", "after": 3, "limit": 10}
        rows = connection.execute("EXPLAIN QUERY PLAN " + sql.format(wanted=wanted), names)
        plan = [row[-1] for row in rows]
        assert any(index in step for step in plan)
        assert not any("SCAN" in step for step in plan)
    connection.close()


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.root
@ROOT_ONLY
async def test_on_a_full_disk_nothing_is_half_written_and_room_mends_it(small_disk: Path) -> None:
    path = small_disk / "store.db"
    kept: list[int] = []

    async def write(store: sqlite.SqliteStore) -> None:
        for n in range(1000):
            pair = [put(f"a{n}", bytes(5000)), put(f"b{n}", bytes(5000))]
            await store.commit(pair, audit=ENTRY)
            kept.append(n)

    async with sqlite.open_store(path) as store:
        with pytest.raises(TransientError, match=r"cannot use the store .*store\.db: .*full"):
            await write(store)
        assert len(kept) > 10
        assert await store.get(WORKLOAD, f"a{len(kept)}") is None
        assert {r.key for r in await store.list(WORKLOAD)} == {
            f"{side}{n}" for n in kept for side in "ab"
        }
        mount("-o", "remount,size=4m", small_disk)
        await store.commit([put("after", bytes(5000))], audit=ENTRY)
    async with sqlite.open_store(path) as store:
        assert len(await store.list(WORKLOAD)) == 2 * len(kept) + 1
        head = audit.verify(await store.audit())
        assert isinstance(head, audit.Head)
        assert head.number == len(kept) + 1


@pytest.mark.root
@ROOT_ONLY
async def test_with_no_room_for_a_new_store_there_is_none(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1024 * 1024 - 4096))
    path = small_disk / "store.db"
    with pytest.raises(TransientError, match=r"cannot .* the store .*store\.db"):
        await sqlite.open_store(path).__aenter__()
    assert names(small_disk) == ["filler"]


async def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """A writer is killed again and again, at any moment; its successor goes on from there."""
    path = tmp_path / "store.db"
    answered: dict[str, int] = {}
    rolls, newest = random.Random(11), 0
    for run in range(8):
        said = _write_and_kill(path, run, after=rolls.randint(0, 120))
        assert all(sequence > newest for sequence in said.values())
        answered |= said
        newest = max([newest, *said.values()])
        async with sqlite.open_store(path) as store:
            there = {r.key: int(r.sequence) for r in await store.list(WORKLOAD)}
            twins = {r.key: int(r.sequence) for r in await store.list(RecordKind.ALLOCATION)}
            head = audit.verify(await store.audit(limit=1_000_000))
        assert there == twins
        assert answered.items() <= there.items()
        assert isinstance(head, audit.Head)
        assert head.number == len(there)
        newest = max([newest, *there.values()])


def _write_and_kill(path: Path, run: int, *, after: int) -> dict[str, int]:
    """Let a process commit, kill it `after` answers, and return all that it had answered."""
    writer = Path(__file__).with_name("sqlite_writer.py")
    with subprocess.Popen(
        [sys.executable, writer, path, str(run)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(after)]
        finally:
            process.kill()
        lines += process.stdout.readlines()
    words = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return {key: int(sequence) for sequence, key in words}
