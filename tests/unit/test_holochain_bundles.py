"""What is in a bundle is told; what is no bundle is refused, with what is wrong with it."""

import gzip
import tracemalloc
from typing import Any

import msgspec
import pytest

import conductors
import happ_bundles
from hivekeeper.holochain import bundles, hashes
from hivekeeper.holochain.bundles import Modifiers
from hivekeeper.model import limits
from hivekeeper.model.errors import UserError


def test_the_example_tells_its_role_and_zomes() -> None:
    happ = bundles.read_happ(conductors.NOTES.read_bytes())
    (role,) = happ.roles
    assert (happ.name, role.name, role.has_cell) == ("notes", "notes", True)
    assert [zome.name for zome in role.dna.integrity] == ["notes_integrity"]
    assert [zome.name for zome in role.dna.coordinators] == ["notes"]
    assert role.dna.coordinators[0].dependencies == ("notes_integrity",)
    assert len(happ.sha256) == 64
    assert len(repr(happ)) < 2_000  # programs are not printed


def test_the_hash_of_holochains_fixture_comes_out_of_a_bundle() -> None:
    wasms = {"zome1": b"This is a totally fake wasm\n", "zome2": b"So is this\n"}
    happ = bundles.read_happ(happ_bundles.small(wasms=wasms))
    seed = "00000000-0000-0000-0000-000000000000"
    found = happ.dna_hashes("0.6", seed, {})
    assert hashes.text(found["main"]) == "uhC0klF08DnZkYBN3YiE7knVHdl5eK-9f7m9Co1ICK7Xwgaxct8h5"


def test_what_is_said_nearest_to_the_cell_counts() -> None:
    """Role settings, then the installation's seed, then the hApp's manifest, then the DNA's."""

    def plain(seed: str | None, properties: Any = None) -> hashes.DnaHash:
        happ = bundles.read_happ(happ_bundles.small(seed=seed, properties=properties))
        return happ.dna_hashes("0.6", None, {})["main"]

    happ = bundles.read_happ(happ_bundles.small(seed="dna", properties={"a": 1}))
    assert happ.dna_hashes("0.6", None, {})["main"] == plain("dna", {"a": 1})
    assert happ.dna_hashes("0.6", "install", {})["main"] == plain("install", {"a": 1})
    settings = {"main": Modifiers("role", {"b": 2})}
    assert happ.dna_hashes("0.6", "install", settings)["main"] == plain("role", {"b": 2})
    assert plain(None) == plain("")
    happ = bundles.read_happ(
        happ_bundles.small(seed="dna", properties=1, role={"network_seed": "r", "properties": 2})
    )
    assert happ.dna_hashes("0.6", None, {})["main"] == plain("r", 2)
    assert happ.dna_hashes("0.6", None, {"main": Modifiers(None, 3)})["main"] == plain("r", 3)


def test_settings_for_a_role_that_is_not_there_are_refused() -> None:
    happ = bundles.read_happ(happ_bundles.small())
    with pytest.raises(UserError, match="role `other`: the hApp has main") as caught:
        happ.dna_hashes("0.6", None, {"other": Modifiers()})
    assert caught.value.field == "holochain.roles.other"


def test_a_role_whose_cells_are_only_clones_has_no_hash_of_its_own() -> None:
    def only_clones(happ: happ_bundles.Bundle) -> None:
        happ["manifest"]["roles"][0]["provisioning"] = {"strategy": "clone_only"}

    happ = bundles.read_happ(happ_bundles.notes(happ=only_clones))
    assert happ.dna_hashes("0.6", None, {}) == {}


def change(key: str, value: Any) -> bytes:
    def happ(outer: happ_bundles.Bundle) -> None:
        outer["manifest"]["roles"][0][key] = value

    return happ_bundles.notes(happ=happ)


def zome_path(path: str) -> bytes:
    def dna(inner: happ_bundles.Bundle) -> None:
        inner["manifest"]["integrity"]["zomes"][0]["path"] = path

    return happ_bundles.notes(dna=dna)


def with_manifest(key: str, value: Any) -> bytes:
    return happ_bundles.notes(happ=lambda outer: outer["manifest"].update({key: value}))


SMALL = happ_bundles.small()
DEEP = gzip.compress(b"\x82\xa8manifest" + b"\x91" * 100_000)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not gzip"),
        (b"PK\x03\x04 a zip", "not gzip"),
        (b"\x1f\x8b", "cut off"),
        (SMALL[:-5], "cut off"),
        (SMALL[:12] + b"\x00" * 20 + SMALL[32:], "damaged|cut off|not a bundle"),
        (gzip.compress(b"hello"), "not a bundle"),
        (gzip.compress(b""), "not a bundle"),
        (gzip.compress(msgspec.msgpack.encode({"manifest": {}})), "not a bundle"),
        (DEEP, "not a bundle"),
        (with_manifest("manifest_version", "1"), "version 1"),
        (with_manifest("manifest_version", 0), "manifest"),
        (with_manifest("roles", []), "roles"),
        (with_manifest("roles", "none"), "manifest"),
        (change("dna", {"path": "gone.dna"}), "`gone.dna` is not in the bundle"),
        (change("dna", {"path": "../../etc/passwd"}), "is not in the bundle"),
        (change("dna", {"path": None}), "not supported"),
        (change("provisioning", {"strategy": "use_existing"}), "not supported"),
        (zome_path("/etc/passwd"), "`/etc/passwd` is not in the bundle"),
        (
            happ_bundles.notes(happ=lambda o: o["resources"].update({"notes.dna": b"x"})),
            "not gzip",
        ),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        bundles.read_happ(data)


def test_two_roles_of_one_name_are_refused() -> None:
    def twice(outer: happ_bundles.Bundle) -> None:
        outer["manifest"]["roles"] *= 2

    with pytest.raises(UserError, match="names of their own"):
        bundles.read_happ(happ_bundles.notes(happ=twice))


def test_what_unpacks_to_too_much_is_refused_before_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound is for all bundles in a bundle together."""
    monkeypatch.setattr(limits, "BUNDLE_UNPACKED_BYTES", 10_000)
    outer = gzip.compress(bytes(10_000_000), compresslevel=1)
    inner = happ_bundles.small(wasms={"one": bytes(9_900)})
    tracemalloc.start()
    for data in (outer, inner):
        with pytest.raises(UserError, match="over 10000 bytes"):
            bundles.read_happ(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
