"""Pack two compiled zomes into `notes.happ`, byte for byte the same each time.

A bundle is gzip over msgpack of `{"manifest": {...}, "resources": {id: bytes}}`; a hApp bundle
holds its DNA bundle as a resource, and that one the zomes. Nothing here knows how the zomes were
compiled, and nothing reads a clock or a path.

Source: what `hc app unpack` and `hc dna unpack` of Holochain 0.6.3 read; manifest version "0"
belongs to line 0.6.
"""

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import msgspec

INTEGRITY = "notes_integrity"
COORDINATOR = "notes"
ROLE = "notes"
DNA_ID = "notes.dna"
CLONES_MAX = 8  # Enough to try clones; each one is a cell of its own with its own database.

Manifest = dict[str, Any]


def dna(integrity_wasm: bytes, coordinator_wasm: bytes) -> bytes:
    """Return the DNA bundle. Its hash leaves the coordinator out: a new one keeps the network."""
    zomes = {f"{INTEGRITY}.wasm": integrity_wasm, f"{COORDINATOR}.wasm": coordinator_wasm}
    manifest = {
        "manifest_version": "0",
        "name": "notes",
        "integrity": {
            "network_seed": None,
            "properties": None,
            "zomes": [_zome(INTEGRITY, dependencies=None)],
        },
        "coordinator": {"zomes": [_zome(COORDINATOR, dependencies=[{"name": INTEGRITY}])]},
    }
    return _bundle(manifest, zomes)


def happ(dna_bundle: bytes) -> bytes:
    """Return the hApp bundle. Whoever installs it sets the network seed and the properties."""
    manifest = {
        "manifest_version": "0",
        "name": "notes",
        "description": "Notes with a title: Hivekeeper's example hApp.",
        "roles": [
            {
                "name": ROLE,
                "provisioning": {"strategy": "create", "deferred": False},
                "dna": {
                    "path": DNA_ID,
                    "modifiers": {"network_seed": None, "properties": None},
                    "installed_hash": None,
                    "clone_limit": CLONES_MAX,
                },
            }
        ],
        "allow_deferred_memproofs": False,
    }
    return _bundle(manifest, {DNA_ID: dna_bundle})


def main(arguments: list[str]) -> int:
    """Pack the two files named into the third."""
    try:
        integrity, coordinator, target = map(Path, arguments)
    except ValueError:
        print("usage: pack.py INTEGRITY_WASM COORDINATOR_WASM HAPP", file=sys.stderr)
        return 2
    target.write_bytes(happ(dna(integrity.read_bytes(), coordinator.read_bytes())))
    return 0


def _zome(name: str, *, dependencies: list[Manifest] | None) -> Manifest:
    return {
        "name": name,
        "hash": None,
        "path": f"{name}.wasm",
        "dependencies": dependencies,
    }


def _bundle(manifest: Manifest, resources: dict[str, bytes]) -> bytes:
    packed = msgspec.msgpack.encode({"manifest": manifest, "resources": resources})
    # Some versions of gzip.compress() write the operating system into the header; GzipFile never
    # does. Without a name and a time, nothing is left that would differ from build to build.
    target = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=target, mtime=0) as stream:
        stream.write(packed)
    return target.getvalue()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
