"""What every bus promises: the fake and NATS with a real server alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

import real_hub
from hivekeeper.model import limits
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.ports import Bus
from hivekeeper.testing.bus import FakeHub
from hivekeeper.wire import authority, subjects
from hivekeeper.wire.authority import GATEWAY, ORCHESTRATOR, User

ALPHA, BETA = real_hub.ALPHA, real_hub.BETA
HOST = authority.host(ALPHA)
DOCUMENT = subjects.document(ALPHA)
LONG_S = 20.0
"""For what must happen, on a machine that is busy with other things."""


class AnyHub(Protocol):
    """A hub to connect to, that can die and come back."""

    def connect(self, user: User) -> AbstractAsyncContextManager[Bus]: ...

    async def stop(self) -> None: ...

    async def start(self) -> None: ...


class Fake:
    def __init__(self) -> None:
        self.hub = FakeHub()
        self.connect = self.hub.connect

    async def stop(self) -> None:
        self.hub.stop()

    async def start(self) -> None:
        self.hub.start()


class Real:
    def __init__(self, hub: real_hub.RealHub) -> None:
        self.start = hub.start
        self.connect = hub.connect
        self._kill = hub.kill

    async def stop(self) -> None:
        self._kill()


@pytest.fixture(params=["fake", "nats"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyHub]:
    if request.param == "fake":
        yield Fake()
        return
    real = await real_hub.started(tmp_path)
    try:
        yield Real(real)
    finally:
        real.kill()


class Heard:
    """Counts what a subscription says."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, subject: str) -> None:
        self.subjects.append(subject)
        self._changed.set()

    async def more_than(self, count: int) -> None:
        async with asyncio.timeout(LONG_S):
            while len(self.subjects) <= count:
                self._changed.clear()
                await self._changed.wait()


async def echo(subject: str, payload: bytes) -> bytes:
    return subject.encode() + b" " + payload


class Barrier:
    """A handler that answers once `count` requests are there at the same time."""

    def __init__(self, count: int) -> None:
        self.here = 0
        self._count = count
        self._full = asyncio.Event()

    async def __call__(self, _subject: str, payload: bytes) -> bytes:
        self.here += 1
        if self.here == self._count:
            self._full.set()
        await self._full.wait()
        self.here -= 1
        return payload


async def never(_subject: str, _payload: bytes) -> bytes:
    await asyncio.Event().wait()
    return b""


async def ask(
    bus: Bus, payload: bytes = b"?", *, subject: str = DOCUMENT, timeout_s: float = LONG_S
) -> bytes:
    return await bus.request(subject, payload, timeout_s=timeout_s)


async def ask_until_answered(bus: Bus, payload: bytes = b"?") -> bytes:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await ask(bus, payload)
            except TransientError:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def both(hub: AnyHub) -> AsyncIterator[tuple[Bus, Bus]]:
    """The orchestrator and a host, both connected."""
    async with hub.connect(ORCHESTRATOR) as center, hub.connect(HOST) as host:
        async with center.serve(subjects.ANY_DOCUMENT, echo):
            await ask_until_answered(host)
        yield center, host


async def test_a_request_is_answered_by_whoever_serves_its_subject(hub: AnyHub) -> None:
    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, echo):
        assert await ask(host, b"7") == b"hive.host.alpha.document 7"


async def test_the_other_side_may_ask_too(hub: AnyHub) -> None:
    async with both(hub) as (center, host), host.serve(subjects.logs(ALPHA), echo):
        assert await ask(center, b"7", subject=subjects.logs(ALPHA)) == b"hive.host.alpha.logs 7"


async def test_a_request_that_nobody_serves_fails_at_once(hub: AnyHub) -> None:
    async with both(hub) as (_, host), asyncio.timeout(LONG_S):
        with pytest.raises(TransientError, match="nobody there"):
            await ask(host, timeout_s=10 * LONG_S)


async def test_what_is_served_no_more_is_not_answered_from_then_on(hub: AnyHub) -> None:
    async with both(hub) as (center, host):
        for _ in range(30):
            async with center.serve(subjects.ANY_DOCUMENT, echo):
                await ask(host)
            with pytest.raises(TransientError, match="nobody there"):
                await ask(host, timeout_s=1)


async def test_an_answer_that_is_being_worked_on_is_still_given_at_the_end(hub: AnyHub) -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def work(_subject: str, payload: bytes) -> bytes:
        begun.set()
        await going_on.wait()
        await asyncio.sleep(0)
        return payload

    async def serve_until_begun(center: Bus) -> None:
        async with center.serve(subjects.ANY_DOCUMENT, work):
            serving.set()
            await begun.wait()
            going_on.set()

    serving = asyncio.Event()
    async with both(hub) as (center, host), asyncio.TaskGroup() as group:
        group.create_task(serve_until_begun(center))
        await serving.wait()
        assert await ask(host, b"7") == b"7"


async def test_an_answer_that_takes_too_long_is_given_up_when_nothing_more_is_served(
    hub: AnyHub,
) -> None:
    given_up = asyncio.Event()

    async def hang(subject: str, payload: bytes) -> bytes:
        try:
            return await never(subject, payload)
        finally:
            given_up.set()

    async with both(hub) as (center, host), asyncio.timeout(LONG_S):
        async with center.serve(subjects.ANY_DOCUMENT, hang):
            with pytest.raises(TransientError):
                await ask(host, timeout_s=0.1)
        await given_up.wait()


@pytest.mark.parametrize(
    "error",
    [
        UserError("cannot a", hint="do b", field="c.d"),
        NotFoundError("cannot a"),
        ConflictError("cannot a"),
        PermissionRefusedError("cannot a", hint="do b"),
        TransientError("cannot a", retry_after_s=7.5),
        PermanentError("cannot a", hint="do b"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_the_handler_is_raised_where_it_was_asked(
    hub: AnyHub, error: HiveError
) -> None:
    async def refuse(_subject: str, _payload: bytes) -> bytes:
        raise error

    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, refuse):
        with pytest.raises(type(error)) as caught:
            await ask(host)
    assert type(caught.value) is type(error)
    assert (str(caught.value), vars(caught.value)) == (str(error), vars(error))


async def test_a_bug_in_a_handler_fails_its_own_request_and_no_other(
    hub: AnyHub, caplog: pytest.LogCaptureFixture
) -> None:
    async def fragile(_subject: str, payload: bytes) -> bytes:
        return b"%d" % (1 // len(payload))

    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, fragile):
        with pytest.raises(TransientError, match="a bug"):
            await ask(host, b"")
        assert await ask(host, b"1") == b"1"
    assert "ZeroDivisionError" in caplog.text


async def test_an_answer_that_does_not_come_in_time_is_given_up(hub: AnyHub) -> None:
    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, never):
        with pytest.raises(TransientError, match=r"no answer within 0\.05 s"):
            await ask(host, timeout_s=0.05)


async def test_requests_are_answered_side_by_side(hub: AnyHub) -> None:
    async with (
        both(hub) as (center, host),
        center.serve(subjects.ANY_DOCUMENT, Barrier(20)),
        asyncio.TaskGroup() as group,
    ):
        asked = [group.create_task(ask(host, b"%d" % number)) for number in range(20)]
    assert [task.result() for task in asked] == [b"%d" % number for number in range(20)]


async def test_no_more_requests_than_allowed_are_answered_at_once(hub: AnyHub) -> None:
    places = limits.HUB_ANSWERS_AT_ONCE
    barrier = Barrier(places + 1)
    async with (
        both(hub) as (center, host),
        center.serve(subjects.ANY_DOCUMENT, barrier),
        host.serve(subjects.logs(ALPHA), echo),
        asyncio.TaskGroup() as group,
    ):
        asked = [group.create_task(ask(host)) for _ in range(places + 1)]
        for _ in range(20):  # rather than a time: what was asked before is there by now
            await ask(center, subject=subjects.logs(ALPHA))
        assert barrier.here == places
        for task in asked:
            task.cancel()


async def test_the_largest_message_passes_both_ways_and_a_larger_one_is_refused(
    hub: AnyHub,
) -> None:
    async def same(_subject: str, payload: bytes) -> bytes:
        return payload or bytes(limits.MESSAGE_BYTES + 1)

    largest = bytes(limits.MESSAGE_BYTES)
    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, same):
        assert await ask(host, largest) == largest
        with pytest.raises(UserError, match="cannot send 1048577 bytes"):
            await ask(host, largest + b"x")
        with pytest.raises(UserError, match="cannot send 1048577 bytes"):
            await center.publish(subjects.wake(ALPHA), largest + b"x")
        with pytest.raises(PermanentError, match="1048577 bytes"):
            await ask(host, b"")


async def test_a_subscription_hears_what_is_said_on_its_subject(hub: AnyHub) -> None:
    heard, other = Heard(), Heard()
    async with (
        both(hub) as (center, host),
        hub.connect(GATEWAY) as gateway,
        host.subscribe(subjects.wake(ALPHA), heard),
        gateway.subscribe(subjects.ROUTES_WAKE, other),
    ):
        await center.publish(subjects.wake(BETA), b"")
        await center.publish(subjects.wake(ALPHA), b"")
        await heard.more_than(0)
    assert set(heard.subjects) == {subjects.wake(ALPHA)}
    assert subjects.wake(ALPHA) not in other.subjects


async def test_what_one_may_not_ask_is_refused_at_once(hub: AnyHub) -> None:
    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, echo):
        with pytest.raises(PermissionRefusedError, match=r"hive\.host\.beta\.document"):
            await ask(host, subject=subjects.document(BETA))
        assert await ask(host)


async def test_what_one_may_not_hear_is_refused_at_once(hub: AnyHub) -> None:
    async with both(hub) as (_, host):
        with pytest.raises(PermissionRefusedError, match=r"hive\.host\.beta\.wake"):
            async with host.subscribe(subjects.wake(BETA), Heard()):
                pass
        with pytest.raises(PermissionRefusedError, match=r"hive\.host\.\*\.document"):
            async with host.serve(subjects.ANY_DOCUMENT, echo):
                pass


async def test_what_one_may_not_say_is_heard_by_nobody(hub: AnyHub) -> None:
    heard = Heard()
    async with both(hub) as (center, host), host.subscribe(subjects.wake(ALPHA), heard):
        await host.publish(subjects.wake(ALPHA), b"")
        await center.publish(subjects.wake(ALPHA), b"")
        await heard.more_than(0)
    assert len(heard.subjects) == 1


async def test_while_the_hub_is_away_requests_fail_and_then_all_is_as_before(hub: AnyHub) -> None:
    heard = Heard()
    async with (
        both(hub) as (center, host),
        center.serve(subjects.ANY_DOCUMENT, echo),
        host.subscribe(subjects.wake(ALPHA), heard),
    ):
        await hub.stop()
        with pytest.raises(TransientError):
            await ask(host)
        await center.publish(subjects.wake(ALPHA), b"")
        await hub.start()
        assert await ask_until_answered(host, b"7") == b"hive.host.alpha.document 7"
        await heard.more_than(0)
        seen = len(heard.subjects)
        assert seen == 1, "once after the reconnect, and what was said meanwhile is lost"
        await center.publish(subjects.wake(ALPHA), b"")
        await heard.more_than(seen)


async def test_a_request_under_way_when_the_hub_dies_does_not_wait_for_its_deadline(
    hub: AnyHub,
) -> None:
    asked = asyncio.Event()

    async def taken(subject: str, payload: bytes) -> bytes:
        asked.set()
        return await never(subject, payload)

    async def die() -> None:
        await asked.wait()
        await hub.stop()

    async with (
        both(hub) as (center, host),
        center.serve(subjects.ANY_DOCUMENT, taken),
        asyncio.timeout(LONG_S),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(die())
        with pytest.raises(TransientError):
            await ask(host, timeout_s=10 * LONG_S)


async def test_a_bus_that_is_closed_leaves_nothing_running(hub: AnyHub) -> None:
    before = asyncio.all_tasks()
    async with both(hub) as (center, host), center.serve(subjects.ANY_DOCUMENT, never):
        with pytest.raises(TransientError):
            await ask(host, timeout_s=0.01)
    assert asyncio.all_tasks() == before


async def test_an_error_inside_the_context_comes_out_as_it_is(hub: AnyHub) -> None:
    with pytest.raises(UserError, match="mine"):
        async with both(hub):
            raise UserError("mine")
