"""What every store promises: the fake and SQLite alike."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hivekeeper.adapters import sqlite
from hivekeeper.core import audit
from hivekeeper.model import limits
from hivekeeper.model.errors import ConflictError
from hivekeeper.model.ids import Sequence
from hivekeeper.model.record import ABSENT, AuditEntry, Change, Delete, Put, Record, RecordKind
from hivekeeper.ports import Store
from hivekeeper.testing.store import MemoryStore

WORKLOAD, ALLOCATION, EVENT = RecordKind.WORKLOAD, RecordKind.ALLOCATION, RecordKind.EVENT


def open_one(kind: str, folder: Path) -> AbstractAsyncContextManager[Store]:
    if kind == "memory":
        return nullcontext(MemoryStore())
    return sqlite.open_store(folder / "store.db")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_one(request.param, tmp_path) as opened:
        yield opened


def put(
    key: str, value: bytes = b"x", *, expected: int = ABSENT, kind: RecordKind = WORKLOAD
) -> Put:
    return Put(kind=kind, key=key, expected=Sequence(expected), value=value)


def delete(key: str, *, expected: int, kind: RecordKind = WORKLOAD) -> Delete:
    return Delete(kind=kind, key=key, expected=Sequence(expected))


def entry(number: int = 0, body: bytes = b"{}") -> AuditEntry:
    return AuditEntry(
        at=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
        actor="admin",
        action="apply",
        target="notes",
        request_id=f"r{number}",
        body=body,
    )


def keys(records: Iterable[Record]) -> list[str]:
    return [record.key for record in records]


async def test_what_was_put_is_there_with_the_sequence_of_its_commit(store: Store) -> None:
    sequence = await store.commit([put("a", b"one")])
    expected = Record(kind=WORKLOAD, key="a", sequence=sequence, value=b"one")
    assert await store.get(WORKLOAD, "a") == expected
    assert await store.list(WORKLOAD) == [expected]


async def test_what_was_never_put_is_not_there(store: Store) -> None:
    await store.commit([put("a")])
    assert await store.get(WORKLOAD, "b") is None
    assert await store.get(ALLOCATION, "a") is None
    assert await store.list(ALLOCATION) == []


async def test_sequences_grow_with_every_commit_of_any_kind(store: Store) -> None:
    first = await store.commit([put("a")])
    second = await store.commit([put("a", kind=EVENT), put("b", kind=EVENT)])
    third = await store.commit([delete("a", expected=first)])
    fourth = await store.commit([], audit=entry())
    assert ABSENT < first < second < third < fourth


async def test_a_sequence_is_not_used_again_when_its_record_is_gone(store: Store) -> None:
    first = await store.commit([put("a")])
    second = await store.commit([delete("a", expected=first)])
    third = await store.commit([put("a")])
    assert first < second < third
    with pytest.raises(ConflictError):
        await store.commit([put("a", expected=first)])


async def test_a_record_is_changed_only_from_the_sequence_it_is_at(store: Store) -> None:
    first = await store.commit([put("a", b"one")])
    second = await store.commit([put("a", b"two", expected=first)])
    for change in (put("a", b"three", expected=first), delete("a", expected=first)):
        with pytest.raises(ConflictError) as refused:
            await store.commit([change])
        assert str(refused.value) == (
            f"cannot change workload `a`: it is at {second}, expected {first}"
        )
    found = await store.get(WORKLOAD, "a")
    assert found is not None
    assert (found.sequence, found.value) == (second, b"two")


async def test_expecting_absence_refuses_what_is_there(store: Store) -> None:
    first = await store.commit([put("a")])
    for change in (put("a"), delete("a", expected=ABSENT)):
        with pytest.raises(ConflictError, match=f"`a`: it is at {first}, expected none"):
            await store.commit([change])


async def test_expecting_presence_refuses_what_is_not_there(store: Store) -> None:
    for change in (put("a", expected=7), delete("a", expected=7)):
        with pytest.raises(ConflictError, match="`a`: it is not there, expected 7"):
            await store.commit([change])
    assert await store.list(WORKLOAD) == []


async def test_deleting_what_must_be_absent_only_sees_that_it_is(store: Store) -> None:
    await store.commit([delete("a", expected=ABSENT), put("b")])
    assert keys(await store.list(WORKLOAD)) == ["b"]


async def test_a_deleted_record_is_gone_and_may_be_put_again(store: Store) -> None:
    first = await store.commit([put("a", b"one")])
    await store.commit([delete("a", expected=first)])
    assert await store.get(WORKLOAD, "a") is None
    await store.commit([put("a", b"two")])
    found = await store.get(WORKLOAD, "a")
    assert found is not None
    assert found.value == b"two"


@pytest.mark.parametrize("wrong", [0, 1, 2])
async def test_one_change_refused_refuses_all_wherever_it_stands(store: Store, wrong: int) -> None:
    first = await store.commit([put("old", b"kept")])
    changes: list[Change] = [put("new"), delete("old", expected=first)]
    changes.insert(wrong, put("other", expected=99))
    with pytest.raises(ConflictError, match="`other`"):
        await store.commit(changes, audit=entry())
    assert keys(await store.list(WORKLOAD)) == ["old"]
    assert await store.audit() == []


async def test_a_refused_commit_leaves_its_neighbours_alone(store: Store) -> None:
    """Commits asked for at the same time are each whole, whatever they share underneath."""
    await store.commit([put("taken")])

    async def attempt(number: int) -> bool:
        key = "taken" if number % 3 == 0 else f"k{number}"
        try:
            await store.commit([put(f"side{number}"), put(key)], audit=entry(number))
        except ConflictError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(n), name=f"attempt {n}") for n in range(30)]
    assert [task.result() for task in tasks] == [n % 3 != 0 for n in range(30)]
    there = set(keys(await store.list(WORKLOAD)))
    won = {n for n in range(30) if n % 3 != 0}
    assert there == {"taken"} | {f"k{n}" for n in won} | {f"side{n}" for n in won}
    links = await store.audit()
    assert len(links) == len(won)
    assert audit.verify(links) == audit.Head(number=len(won), hash=links[-1].hash)


async def test_no_increment_is_lost_under_contention(store: Store) -> None:
    """Ten tasks count the same record up ten times each, by compare and set."""
    await store.commit([put("counter", b"0")])
    sequences: list[int] = []

    async def count() -> None:
        for _ in range(10):
            while True:
                found = await store.get(WORKLOAD, "counter")
                assert found is not None
                more = str(int(found.value) + 1).encode()
                try:
                    done = await store.commit([put("counter", more, expected=found.sequence)])
                except ConflictError:
                    continue
                sequences.append(done)
                break

    async with asyncio.TaskGroup() as group:
        for n in range(10):
            group.create_task(count(), name=f"count {n}")
    found = await store.get(WORKLOAD, "counter")
    assert found is not None
    assert found.value == b"100"
    assert len(set(sequences)) == 100
    assert found.sequence == max(sequences)


async def test_one_of_many_takes_a_place_that_all_want(store: Store) -> None:
    async def take(n: int) -> bool:
        try:
            await store.commit([put("place", str(n).encode())])
        except ConflictError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(take(n), name=f"take {n}") for n in range(20)]
    winners = [n for n, task in enumerate(tasks) if task.result()]
    found = await store.get(WORKLOAD, "place")
    assert found is not None
    assert [found.value] == [str(n).encode() for n in winners]


async def test_what_a_commit_said_is_read_at_once(store: Store) -> None:
    for n in range(50):
        sequence = await store.commit([put(f"k{n}")])
        found = await store.get(WORKLOAD, f"k{n}")
        assert found is not None
        assert found.sequence == sequence


async def test_a_list_never_shows_half_a_commit(store: Store) -> None:
    """Two records always change together; whoever lists meanwhile sees them equal."""
    sequence = await store.commit([put("a", b"0"), put("b", b"0")])
    is_over = False

    async def change() -> None:
        nonlocal sequence, is_over
        for n in range(100):
            value = str(n).encode()
            sequence = await store.commit(
                [put("a", value, expected=sequence), put("b", value, expected=sequence)]
            )
        is_over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(change(), name="change")
        while not is_over:
            one, two = await store.list(WORKLOAD)
            assert (one.sequence, one.value) == (two.sequence, two.value)


async def test_a_list_is_in_order_of_sequence_then_key(store: Store) -> None:
    first = await store.commit([put("m"), put("z"), put("a")])
    await store.commit([put("b"), put("k-1"), put("k.1"), put("k0"), put("K"), put("k/1")])
    await store.commit([put("m", expected=first)])
    order = ["a", "z", "K", "b", "k-1", "k.1", "k/1", "k0", "m"]
    assert keys(await store.list(WORKLOAD)) == order


async def test_a_prefix_is_exact_to_the_letter(store: Store) -> None:
    names = ["host/", "host/a", "host/~", "host", "host-1/a", "host0", "Host/a", "h%/a", "h_st/a"]
    await store.commit([put(name, kind=ALLOCATION) for name in names])
    assert keys(await store.list(ALLOCATION, prefix="host/")) == ["host/", "host/a", "host/~"]
    assert keys(await store.list(ALLOCATION, prefix="h%")) == ["h%/a"]
    assert keys(await store.list(ALLOCATION, prefix="~")) == []
    assert len(await store.list(ALLOCATION, prefix="")) == len(names)


async def test_after_leaves_out_what_was_not_written_since(store: Store) -> None:
    first = await store.commit([put("h/a"), put("h/b"), put("i/a")])
    second = await store.commit([put("h/b", expected=first), put("i/b")])
    assert keys(await store.list(WORKLOAD, after=first)) == ["h/b", "i/b"]
    assert keys(await store.list(WORKLOAD, prefix="h/", after=first)) == ["h/b"]
    assert await store.list(WORKLOAD, after=second) == []


@pytest.mark.parametrize("prefix", ["", "k"])
@pytest.mark.parametrize(("limit", "page"), [(1, 1), (2, 4), (4, 4), (5, 6), (6, 6), (99, 6)])
async def test_a_page_ends_with_a_whole_commit(
    store: Store, prefix: str, limit: int, page: int
) -> None:
    """Commits of one, three and two records: a page of two goes on to the end of the second."""
    await store.commit([put("k0"), put("other", kind=EVENT)])
    await store.commit([put("k1"), put("k2"), put("k3")])
    await store.commit([put("k4"), put("k5")])
    found = await store.list(WORKLOAD, prefix=prefix, limit=limit)
    assert keys(found) == [f"k{n}" for n in range(page)]


@pytest.mark.parametrize("prefix", ["", "k"])
async def test_pages_together_are_the_whole_list(store: Store, prefix: str) -> None:
    for n in range(40):
        await store.commit([put(f"k{n}-{m}") for m in range(n % 4 + 1)])
    after, pages = ABSENT, []
    while page := await store.list(WORKLOAD, prefix=prefix, after=after, limit=7):
        assert 7 <= len(page) < 7 + 4 or not await store.list(WORKLOAD, after=page[-1].sequence)
        pages += page
        after = page[-1].sequence
    assert pages == await store.list(WORKLOAD)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)) * 3, id="every-byte"),
        pytest.param(b"\xff\xfe\x00'\";--", id="no-text"),
        pytest.param(bytes(limits.RECORD_BYTES), id="largest"),
    ],
)
async def test_values_are_bytes_and_come_back_as_they_were(store: Store, value: bytes) -> None:
    await store.commit([put("a", value)])
    found = await store.get(WORKLOAD, "a")
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize("key", ["a'b", 'a"b', "a%_b", "A", "~", "x" * limits.KEY_LENGTH])
async def test_keys_are_any_printable_ascii(store: Store, key: str) -> None:
    await store.commit([put(key), put("a")])
    found = await store.get(WORKLOAD, key)
    assert found is not None
    assert found.key == key


async def test_a_commit_of_the_largest_size_is_one_commit(store: Store) -> None:
    sequence = await store.commit([put(f"k{n:04}") for n in range(limits.COMMIT_CHANGES)])
    found = await store.list(WORKLOAD)
    assert len(found) == limits.COMMIT_CHANGES
    assert {record.sequence for record in found} == {sequence}


async def test_commits_that_make_no_sense_are_bugs(store: Store) -> None:
    with pytest.raises(AssertionError, match="no record twice"):
        await store.commit([put("a"), delete("a", expected=1)])
    with pytest.raises(AssertionError, match="something to say"):
        await store.commit([])
    with pytest.raises(AssertionError, match="bounded"):
        await store.commit([put(f"k{n}") for n in range(limits.COMMIT_CHANGES + 1)])
    assert await store.list(WORKLOAD) == []


async def test_the_same_key_of_two_kinds_is_two_records(store: Store) -> None:
    await store.commit([put("a", b"1"), put("a", b"2", kind=EVENT)])
    one, two = await store.get(WORKLOAD, "a"), await store.get(EVENT, "a")
    assert one is not None
    assert two is not None
    assert (one.value, two.value) == (b"1", b"2")


async def test_audited_commits_make_a_chain_of_their_exact_bytes(store: Store) -> None:
    entries = [entry(n, body=json.dumps({"n": n}).encode() + b"\x00\xff") for n in range(5)]
    for n, each in enumerate(entries):
        await store.commit([put(f"k{n}")], audit=each)
        await store.commit([put(f"unaudited{n}")])
    links = await store.audit()
    assert [link.number for link in links] == [1, 2, 3, 4, 5]
    assert [link.entry for link in links] == [audit.encode(each) for each in entries]
    assert audit.verify(links) == audit.Head(number=5, hash=links[-1].hash)


async def test_the_chain_is_read_in_pages(store: Store) -> None:
    for n in range(5):
        await store.commit([], audit=entry(n))
    whole = await store.audit()
    assert await store.audit(limit=2) == whole[:2]
    assert await store.audit(after=2, limit=2) == whole[2:4]
    assert await store.audit(after=4) == whole[4:]
    assert await store.audit(after=5) == []


async def test_whoever_gives_up_waiting_leaves_a_whole_store(store: Store) -> None:
    """A cancelled commit happened or did not; the ones after it are not disturbed."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(store.commit([put(f"a{n}"), put(f"b{n}")]), name=f"put {n}")
            for n in range(20)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    there = set(keys(await store.list(WORKLOAD)))
    assert {f"a{n}" for n in range(1, 20, 2)} <= there
    assert all((f"a{n}" in there) == (f"b{n}" in there) for n in range(20))
    await store.commit([put("after")])
