"""Which hApp a call means is decided in the contract's order, from routes and what is here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateways import DNA, HERE, hand_over, opened, route
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import Answer, AnsweredError, ZomeCall
from hivekeeper.gateway.local import LocalApp
from hivekeeper.gateway.neighbours import Neighbours
from hivekeeper.gateway.routes import Routes
from hivekeeper.gateway.selection import Selection
from hivekeeper.gateway.targets import Remote, Target
from hivekeeper.holochain import hashes
from hivekeeper.model.errors import TransientError
from hivekeeper.testing.bus import FakeHub
from hivekeeper.testing.clock import FakeClock
from hivekeeper.testing.disk import FakeDisk
from hivekeeper.wire import authority, messages
from hivekeeper.wire.messages import Route, RoutesReply

OTHER_DNA = hashes.DNA.of(b"\x09" * 32)
CALL = ZomeCall(dna_hash=DNA, app_id="notes", zome="notes", fn="echo", payload=None)
FORBIDDEN = contract.forbidden(CALL).answer


@pytest.fixture
async def neighbours(tmp_path: Path) -> AsyncIterator[Neighbours]:
    async with asyncio.TaskGroup() as group:
        yield Neighbours(tmp_path, RealDisk(), FakeClock(), group)


async def selection(neighbours: Neighbours | None, *declared: Route) -> Selection:
    disk, file = FakeDisk(), Path("/routes.json")
    disk.write(file, messages.encode(RoutesReply(routes=declared)))
    async with FakeHub().connect(authority.GATEWAY) as bus:
        routes = Routes(bus, disk, file, FakeClock())
    routes.load()
    return Selection(host=HERE, routes=routes, neighbours=neighbours)


async def target(neighbours: Neighbours | None, *declared: Route) -> Target | Answer:
    try:
        return (await selection(neighbours, *declared)).target(CALL)
    except AnsweredError as error:
        return error.answer


async def test_a_happ_here_is_called_directly(neighbours: Neighbours, tmp_path: Path) -> None:
    hand_over(tmp_path, opened())
    assert isinstance(await target(neighbours, route()), LocalApp)


async def test_a_happ_that_nobody_knows_is_not_installed(neighbours: Neighbours) -> None:
    assert await target(neighbours) == contract.NOT_INSTALLED
    assert await target(None) == contract.NOT_INSTALLED


async def test_nor_is_one_that_is_declared_here_and_not_handed_over(
    neighbours: Neighbours,
) -> None:
    assert await target(neighbours, route()) == contract.NOT_INSTALLED


async def test_nor_is_one_with_another_dna(neighbours: Neighbours, tmp_path: Path) -> None:
    hand_over(tmp_path, opened(dna=OTHER_DNA))
    neighbours.look_at_all()
    assert await target(neighbours, route()) == contract.NOT_INSTALLED
    assert await target(neighbours) == contract.NOT_INSTALLED


async def test_nor_is_one_whose_workload_now_holds_another(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    hand_over(tmp_path, opened("other"), workload="notes")
    assert await target(neighbours, route()) == contract.NOT_INSTALLED


async def test_one_that_is_installed_and_not_declared_is_not_listed(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    hand_over(tmp_path, opened())
    neighbours.look_at_all()
    assert await target(neighbours) == contract.NOT_LISTED


@pytest.mark.parametrize("host", [HERE, "elsewhere"])
async def test_nor_is_one_without_functions(
    neighbours: Neighbours, tmp_path: Path, host: str
) -> None:
    hand_over(tmp_path, opened())
    declared = route(functions=(), host=host)
    assert await target(neighbours, declared) == contract.NOT_LISTED


@pytest.mark.parametrize("host", [HERE, "elsewhere"])
async def test_only_functions_that_the_manifest_names_may_be_called(
    neighbours: Neighbours, tmp_path: Path, host: str
) -> None:
    hand_over(tmp_path, opened())
    assert await target(neighbours, route(functions=("notes/list_*",), host=host)) == FORBIDDEN
    allowed = await target(neighbours, route(functions=("notes/ech?",), host=host))
    assert isinstance(allowed, LocalApp | Remote)


async def test_a_happ_elsewhere_is_called_there(neighbours: Neighbours) -> None:
    assert isinstance(await target(neighbours, route(host="elsewhere")), Remote)
    assert isinstance(await target(None, route(host=HERE)), Remote)


async def test_of_two_replicas_the_one_here_is_called(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    declared = [route(host="elsewhere"), route(), route(host="third")]
    assert isinstance(await target(neighbours, *declared), Remote)
    hand_over(tmp_path, opened())
    assert isinstance(await target(neighbours, *declared), LocalApp)


async def test_of_two_here_the_dna_tells_which_is_meant(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    hand_over(tmp_path, opened(dna=OTHER_DNA), workload="first")
    hand_over(tmp_path, opened(), workload="second")
    declared = [route(functions=("no/ne",), workload="first"), route(workload="second")]
    assert isinstance(await target(neighbours, *declared), LocalApp)


async def test_and_if_it_does_not_neither_is_called(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    hand_over(tmp_path, opened(), workload="first")
    hand_over(tmp_path, opened(), workload="second")
    declared = [route(functions=("no/ne",), workload="first"), route(workload="second")]
    assert await target(neighbours, *declared) == contract.SEVERAL_INSTALLED


async def test_what_is_handed_over_is_found_before_the_next_look(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    """So a hApp can be called the moment it is reported to run."""
    chosen = await selection(neighbours, route())
    with pytest.raises(AnsweredError):
        chosen.target(CALL)
    hand_over(tmp_path, opened())
    assert isinstance(chosen.target(CALL), LocalApp)


async def test_what_is_taken_back_is_gone_after_the_next_look(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    hand_over(tmp_path, opened())
    neighbours.look_at_all()
    (tmp_path / "notes.json").unlink()
    neighbours.look_at_all()
    assert await target(neighbours, route()) == contract.NOT_INSTALLED
    hand_over(tmp_path, opened())
    assert isinstance(await target(neighbours, route()), LocalApp)


async def test_a_file_that_cannot_be_read_leaves_the_last_word_and_the_others(
    neighbours: Neighbours, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hand_over(tmp_path, opened())
    neighbours.look_at_all()
    for name in ("notes", "another"):
        (tmp_path / f"{name}.json").write_text('{"token": "a secret"')
    hand_over(tmp_path, opened("third"))
    neighbours.look_at_all()
    neighbours.look_at_all()
    assert isinstance(await target(neighbours, route()), LocalApp)
    said = caplog.text
    assert said.count("notes.json") == said.count("another.json") == 1
    assert "a secret" not in said
    assert neighbours.any_serves(replace(CALL, app_id="third"))


async def test_a_file_that_cannot_be_read_just_now_is_read_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Busy(RealDisk):
        is_busy = True

        def read(self, path: Path) -> bytes | None:
            if self.is_busy:
                raise TransientError(f"cannot read {path}: Too many open files")
            return super().read(path)

    hand_over(tmp_path, opened())
    async with asyncio.TaskGroup() as group:
        there = Neighbours(tmp_path, disk := Busy(), FakeClock(), group)
        assert await target(there, route()) == contract.NOT_INSTALLED
        disk.is_busy = False
        assert isinstance(await target(there, route()), LocalApp)
    assert "Too many open files" in caplog.text


async def test_a_folder_that_is_not_there_or_is_none_is_as_good_as_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    async with asyncio.TaskGroup() as group:
        for folder in (tmp_path / "nothing", tmp_path / "file"):
            there = Neighbours(folder, RealDisk(), FakeClock(), group)
            there.look_at_all()
            assert await target(there, route()) == contract.NOT_INSTALLED
    assert not caplog.records


async def test_files_that_are_nobodys_are_not_looked_at(
    neighbours: Neighbours, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("README", "Not a name.json", ".json", "..json", "notes.json.bak"):
        (tmp_path / name).write_text("nonsense")
    neighbours.look_at_all()
    assert not caplog.records
