"""Bundles for tests: the example hApp with something changed in it, and small ones made up."""

import gzip
from collections.abc import Callable
from typing import Any

import msgspec

import conductors

Bundle = dict[str, Any]
WASM_SECTION = b"\x00\x05\x04test"
"""A custom section: the program does the same, and is another one."""


def pack(bundle: Bundle) -> bytes:
    """Return a bundle's file."""
    return gzip.compress(msgspec.msgpack.encode(bundle), compresslevel=1, mtime=0)


def unpack(data: bytes) -> Bundle:
    """Return what is in a bundle's file."""
    bundle: Bundle = msgspec.msgpack.decode(gzip.decompress(data))
    return bundle


def notes(
    *,
    happ: Callable[[Bundle], None] = lambda _: None,
    dna: Callable[[Bundle], None] = lambda _: None,
) -> bytes:
    """Return the example hApp after `happ` has changed it, and `dna` its DNA."""
    outer = unpack(conductors.NOTES.read_bytes())
    inner = unpack(outer["resources"]["notes.dna"])
    dna(inner)
    outer["resources"]["notes.dna"] = pack(inner)
    happ(outer)
    return pack(outer)


def new_coordinator(dna: Bundle) -> None:
    """Change the coordinator's program, and not what it does."""
    dna["resources"]["notes.wasm"] += WASM_SECTION


def new_integrity(dna: Bundle) -> None:
    """Change the integrity zome's program, and so the DNA."""
    dna["resources"]["notes_integrity.wasm"] += WASM_SECTION


def deferred(happ: Bundle) -> None:
    """Let membrane proofs come after the installation."""
    happ["manifest"]["allow_deferred_memproofs"] = True


def small(
    *,
    wasms: dict[str, bytes] | None = None,
    seed: str | None = None,
    properties: Any = None,
    role: Bundle | None = None,
) -> bytes:
    """Return a hApp with one role of zomes that are no WebAssembly: good for hashing."""
    wasms = {"one": b"This is a totally fake wasm\n"} if wasms is None else wasms
    zomes = [{"name": name, "path": f"{name}.wasm", "dependencies": None} for name in wasms]
    manifest = {
        "manifest_version": "0",
        "name": "small",
        "integrity": {"network_seed": seed, "properties": properties, "zomes": zomes},
        "coordinator": {"zomes": []},
    }
    dna = pack(
        {
            "manifest": manifest,
            "resources": {f"{name}.wasm": wasm for name, wasm in wasms.items()},
        }
    )
    main = {"name": "main", "provisioning": None, "dna": {"path": "a.dna", "modifiers": role}}
    happ = {"manifest_version": "0", "name": "small", "description": None, "roles": [main]}
    return pack({"manifest": happ, "resources": {"a.dna": dna}})
