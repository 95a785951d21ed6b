"""Routes are kept up with while somebody tells them, and kept when nobody does."""

import asyncio
from pathlib import Path

import pytest

from gateways import orchestrating, route, until
from hivekeeper.aio.beside import beside
from hivekeeper.gateway.routes import Routes
from hivekeeper.model import limits
from hivekeeper.ports import Bus
from hivekeeper.testing.bus import FakeHub
from hivekeeper.testing.clock import FakeClock
from hivekeeper.testing.disk import FakeDisk
from hivekeeper.wire import authority, messages
from hivekeeper.wire.messages import RoutesReply

FILE = Path("/gateway/routes.json")


def made(bus: Bus, disk: FakeDisk) -> Routes:
    return Routes(bus, disk, FILE, FakeClock())


def hosts(routes: Routes, app_id: str = "notes") -> list[str]:
    return [way.host for way in routes.ways(app_id)]


def stored(disk: FakeDisk) -> list[str]:
    data = disk.read(FILE)
    return (
        [] if data is None else [each.host for each in messages.decode(data, RoutesReply).routes]
    )


async def test_they_are_asked_for_at_once_and_kept_on_disk() -> None:
    hub, disk = FakeHub(), FakeDisk()
    async with orchestrating(hub, route(host="a")), hub.connect(authority.GATEWAY) as bus:
        routes = made(bus, disk)
        async with beside(routes.follow(), name="routes"):
            await until(lambda: stored(disk) == ["a"])
        assert hosts(routes) == ["a"]
        assert hosts(routes, "other") == []


async def test_a_wake_up_makes_it_ask_again() -> None:
    hub = FakeHub()
    async with (
        orchestrating(hub, route(host="a")) as orchestrator,
        hub.connect(authority.GATEWAY) as bus,
    ):
        routes = made(bus, FakeDisk())
        async with beside(routes.follow(), name="routes"):
            await until(lambda: hosts(routes) == ["a"])
            await orchestrator.change(route(host="b"), route(host="c"))
            await until(lambda: hosts(routes) == ["b", "c"])
            await orchestrator.change()
            await until(lambda: not hosts(routes))


async def test_without_a_wake_up_it_asks_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GATEWAY_ROUTES_S", 0.001)
    hub = FakeHub()
    async with (
        orchestrating(hub, route(host="a")) as orchestrator,
        hub.connect(authority.GATEWAY) as bus,
    ):
        routes = made(bus, FakeDisk())
        async with beside(routes.follow(), name="routes"):
            await until(lambda: hosts(routes) == ["a"])
            orchestrator.routes = [route(host="b")]
            await until(lambda: hosts(routes) == ["b"])


async def test_nothing_is_written_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GATEWAY_ROUTES_S", 0.001)
    hub, disk = FakeHub(), FakeDisk()
    async with (
        orchestrating(hub, route(host="a")) as orchestrator,
        hub.connect(authority.GATEWAY) as bus,
        beside(made(bus, disk).follow(), name="routes"),
    ):
        await until(lambda: stored(disk) == ["a"])
        disk.remove(FILE)
        before = orchestrator.asked
        await until(lambda: orchestrator.asked > before + 3)
    assert disk.read(FILE) is None


async def test_with_nobody_to_ask_what_is_on_disk_holds() -> None:
    hub, disk = FakeHub(), FakeDisk()
    disk.write(FILE, messages.encode(RoutesReply(routes=(route(host="a"),))))
    hub.stop()
    async with hub.connect(authority.GATEWAY) as bus:
        routes = made(bus, disk)
        routes.load()
        async with beside(routes.follow(), name="routes"):
            await asyncio.sleep(0)
            assert hosts(routes) == ["a"]
            hub.start()
            async with orchestrating(hub, route(host="b")):
                await until(lambda: hosts(routes) == ["b"])


@pytest.mark.parametrize("data", [b"", b"{", b'{"routes": [{}]}', b'{"v": 2, "routes": []}'])
async def test_a_damaged_file_is_said_and_replaced(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    hub, disk = FakeHub(), FakeDisk()
    disk.write(FILE, data)
    async with orchestrating(hub, route(host="a")), hub.connect(authority.GATEWAY) as bus:
        routes = made(bus, disk)
        routes.load()
        assert not hosts(routes)
        async with beside(routes.follow(), name="routes"):
            await until(lambda: stored(disk) == ["a"] if disk.read(FILE) != data else False)
    assert str(FILE) in caplog.text


async def test_a_full_disk_does_not_keep_news_from_being_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_ROUTES_S", 0.001)
    hub, disk = FakeHub(), FakeDisk()
    disk.full = True
    async with orchestrating(hub, route(host="a")), hub.connect(authority.GATEWAY) as bus:
        routes = made(bus, disk)
        async with beside(routes.follow(), name="routes"):
            await until(lambda: hosts(routes) == ["a"])
            await until(lambda: "No space left" in caplog.text)
            disk.full = False
            await until(lambda: stored(disk) == ["a"])


async def test_nonsense_for_an_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_ROUTES_S", 0.001)
    hub, disk = FakeHub(), FakeDisk()
    async with (
        orchestrating(hub, route(host="a")) as orchestrator,
        hub.connect(authority.GATEWAY) as bus,
    ):
        routes = made(bus, disk)
        async with beside(routes.follow(), name="routes"):
            await until(lambda: hosts(routes) == ["a"])
            orchestrator.routes = ["no route"]  # type: ignore[list-item]
            await until(lambda: "RoutesReply" in caplog.text)
            assert hosts(routes) == stored(disk) == ["a"]
