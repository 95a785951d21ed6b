"""The examples are what they say, and the bundle tells nothing of who built it."""

from pathlib import Path

import pytest

from hivekeeper.holochain import bundles, hashes
from hivekeeper.wire import manifests

EXAMPLES = Path(__file__).parents[2] / "examples"
HAPP = EXAMPLES / "notes" / "notes.happ"
PLACES = (b"/root", b"/home", b"/usr/", b"/tmp", b"/opt", b"/var/", b"/build", b".cargo", b"://")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_an_examples_manifest_decodes_and_what_it_names_is_there(path: Path) -> None:
    (manifest,) = manifests.decode(path.read_bytes(), source=str(path))
    assert manifest.name == path.stem
    if manifest.holochain is not None:
        assert (path.parent / manifest.holochain.happ).exists()


def test_no_path_of_the_building_machine_and_no_address_is_in_the_bundle() -> None:
    (role,) = bundles.read_happ(HAPP.read_bytes()).roles
    for zome in (*role.dna.integrity, *role.dna.coordinators):
        assert len(zome.wasm) > 100_000
        assert [place for place in PLACES if place in zome.wasm] == []


def test_the_bundle_is_the_network_that_its_readme_names() -> None:
    happ = bundles.read_happ(HAPP.read_bytes())
    (dna,) = happ.dna_hashes("0.6", "example", {}).values()
    assert hashes.text(dna) in (EXAMPLES / "notes" / "README.md").read_text()
