"""Conductors are found where one looks, asked for their version once, and preferred in order."""

import os
from pathlib import Path

import pytest

import conductors
from hivekeeper.holochain import config, programs
from hivekeeper.holochain.programs import Places, Program, Programs, Source, Version
from hivekeeper.model.errors import PermanentError, TransientError, UserError
from hivekeeper.model.manifest import HolochainNetwork


def program(folder: Path, says: str, *, count: Path | None = None) -> Path:
    """Write a program that says its version, and notes each time it is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "holochain"
    note = f"echo asked >> {count}\n" if count else ""
    path.write_text(f"#!/bin/sh\n{note}{says}\n")
    path.chmod(0o755)
    return path


def still_running(pids: Path) -> list[str]:
    return [pid for pid in pids.read_text().split() if Path("/proc", pid).exists()]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    path = os.pathsep.join([str(tmp_path / "bin"), "", str(tmp_path / "gone")])
    return Places(folder=tmp_path / "named", path=path, cache=tmp_path / "cache")


def found(each: Program) -> tuple[str, Source]:
    return str(each.version), each.source


async def test_places_are_looked_at_in_order_and_newest_patches_first(
    places: Places, tmp_path: Path
) -> None:
    assert places.folder is not None
    for version in ("0.6.2", "0.6.10", "0.6.11-rc.1", "0.5.6"):
        program(places.folder / version, f"echo holochain {version}")
    program(tmp_path / "bin", "echo holochain 0.6.12")
    program(places.cache / "0.7.0", "echo holochain 0.7.0")
    listed = await Programs(places).list()
    assert [found(each) for each in listed] == [
        ("0.6.11-rc.1", Source.FOLDER),
        ("0.6.10", Source.FOLDER),
        ("0.6.2", Source.FOLDER),
        ("0.5.6", Source.FOLDER),
        ("0.6.12", Source.PATH),
        ("0.7.0", Source.CACHE),
    ]


async def test_a_line_is_served_by_the_first_place_that_has_it(
    places: Places, tmp_path: Path
) -> None:
    assert places.folder is not None
    program(places.folder / "0.6.2", "echo holochain 0.6.2")
    program(tmp_path / "bin", "echo holochain 0.6.12")
    program(places.cache / "0.7.0", "echo holochain 0.7.0")
    looked = Programs(places)
    assert found(await looked.find("0.6")) == ("0.6.2", Source.FOLDER)
    assert found(await looked.find("0.7")) == ("0.7.0", Source.CACHE)


async def test_a_line_that_is_not_here_is_an_error_with_the_way_out(places: Places) -> None:
    program(places.cache / "0.7.0", "echo holochain 0.7.0")
    with pytest.raises(PermanentError, match=r"line 0\.6 .*there is 0\.7") as caught:
        await Programs(places).find("0.6")
    assert caught.value.hint == "`hive holochain install 0.6` gets one."


async def test_what_does_not_run_or_is_no_conductor_is_passed_over(
    places: Places, tmp_path: Path
) -> None:
    assert places.folder is not None
    program(places.folder / "broken", "exit 1")
    program(places.folder / "other", "echo hello 0.6.3")
    program(places.folder / "unexecutable", "echo holochain 0.6.3").chmod(0o644)
    (places.folder / "a-folder" / "holochain").mkdir(parents=True)
    program(places.folder / "no-shell", "").write_bytes(b"\x7fELF nonsense")
    os.chmod(places.folder / "no-shell" / "holochain", 0o755)  # noqa: PTH101, S103
    program(tmp_path / "bin", "echo holochain 0.6.3")
    assert [found(each) for each in await Programs(places).list()] == [("0.6.3", Source.PATH)]


async def test_a_program_is_asked_once_until_it_changes(places: Places, tmp_path: Path) -> None:
    assert places.folder is not None
    count = tmp_path / "count"
    path = program(places.folder / "0.6.3", "echo holochain 0.6.3", count=count)
    looked = Programs(places)
    for _ in range(3):
        await looked.find("0.6")
    assert count.read_text() == "asked\n"
    program(places.folder / "0.6.3", "echo holochain 0.6.30", count=count)
    os.utime(path, ns=(1, 1))
    assert str((await looked.find("0.6")).version) == "0.6.30"
    assert count.read_text() == "asked\nasked\n"


async def test_nothing_anywhere_is_no_program(tmp_path: Path) -> None:
    assert await Programs(Places(folder=None, path="", cache=tmp_path / "none")).list() == []


async def test_a_program_that_hangs_is_given_up_on_and_ended(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PROBE_TIMEOUT_S", 0.2)
    pids = tmp_path / "pids"
    path = program(places.cache / "0.6.3", f"echo $$ >> {pids}\nexec sleep 60")
    looked = Programs(places)
    assert await looked.list() == []
    with pytest.raises(TransientError, match=r"no answer in 0\.2 s"):
        await looked.config_schema(path)
    assert still_running(pids) == []


async def test_a_schema_that_is_none_is_said_to_be_none(places: Places) -> None:
    old = program(places.cache / "0.4.4", "exit 2")
    strange = program(places.cache / "0.6.3", "echo hello")
    looked = Programs(places)
    assert await looked.config_schema(old) is None
    with pytest.raises(PermanentError, match="config-schema"):
        await looked.config_schema(strange)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("holochain 0.6.3", Version(0, 6, 3)),
        ("holochain 0.7.0-rc.3\n", Version(0, 7, 0, released=False, pre="-rc.3")),
        ("holochain 0.6", None),
        ("hc 0.6.3", None),
        ("", None),
    ],
)
def test_versions_are_read(text: str, version: Version | None) -> None:
    assert programs.parse_version(text) == version


@pytest.mark.conductor
async def test_the_real_program_says_its_version_and_takes_our_configuration() -> None:
    """Our configuration passes the schema that this very program prints."""
    conductors.real_program()
    looked = conductors.programs()
    there = await looked.find("0.6")
    schema = await looked.config_schema(there.path)
    assert schema is not None
    for network in [HolochainNetwork(), HolochainNetwork(advanced={"coreFetch": {}})]:
        config.validate(
            config.render("0.6", data_root="/d", admin_port=1, network=network), schema
        )
    wrong = config.render(
        "0.6",
        data_root="/d",
        admin_port=1,
        network=HolochainNetwork(advanced={"irohTransport": {"maxFrameBytes": "many"}}),
    )
    with pytest.raises(UserError, match=r"network\.advanced"):
        config.validate(wrong, schema)
