"""What is in a `.happ`: its roles, their zomes, and the DNA hashes they will have.

A bundle is gzip over MessagePack; a hApp's holds DNAs, each a bundle again. Reads untrusted
bytes: what unpacks to too much, is cut off, nested too deep or no bundle is refused here, with the
reason, before a conductor sees it. Line 0.6 (manifest version "0"). Writes nothing to disk, so a
name in a bundle is never a path.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct

from hivekeeper.holochain import hashes, wire
from hivekeeper.holochain.hashes import DnaHash, WasmHash
from hivekeeper.model import limits
from hivekeeper.model.errors import UserError

GZIP: Final = b"\x1f\x8b"
MANIFEST_VERSION: Final = "0"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_HINT: Final = "Build it with `hc app pack` of the same release line."


class Modifiers(Struct, frozen=True):
    """What a manifest sets of a DNA; None: it does not."""

    network_seed: str | None = None
    properties: Any = None


@dataclass(frozen=True, slots=True)
class Zome:
    """A zome's program."""

    name: str
    wasm_hash: WasmHash
    wasm: bytes
    dependencies: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Zome({self.name}, {hashes.text(self.wasm_hash)})"


@dataclass(frozen=True, slots=True)
class Dna:
    """A DNA: what decides which network it is, and the coordinators, which don't."""

    name: str
    modifiers: Modifiers
    integrity: tuple[Zome, ...]
    coordinators: tuple[Zome, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A part that a DNA plays in a hApp.

    Args:
        name: What the hApp calls it.
        dna: Its DNA; None where it uses another hApp's cell.
        modifiers: What the hApp sets of the DNA.
        has_cell: Whether installing the hApp makes a cell of it.
    """

    name: str
    dna: Dna
    modifiers: Modifiers
    has_cell: bool


@dataclass(frozen=True, slots=True)
class Happ:
    """A hApp that can be installed."""

    name: str
    sha256: str
    """Of the file, hex."""
    roles: tuple[Role, ...]
    allow_deferred_memproofs: bool

    def dna_hashes(
        self, line: str, network_seed: str | None, settings: Mapping[str, Modifiers]
    ) -> dict[str, DnaHash]:
        """Return the DNA hash that each role's cell will have when it is installed so.

        Args:
            line: The conductor's release line.
            network_seed: For all roles; None leaves what the bundle says.
            settings: What is set of single roles.

        Raises:
            UserError: `settings` names a role that there is not.
        """
        known = [role.name for role in self.roles]
        for name in settings:
            if name not in known:
                raise UserError(
                    f"cannot set role `{name}`: the hApp has {', '.join(known)}",
                    field=f"holochain.roles.{name}",
                )
        return {
            role.name: _dna_hash(line, role, network_seed, settings.get(role.name, Modifiers()))
            for role in self.roles
            if role.has_cell
        }


def _dna_hash(line: str, role: Role, seed_of_all: str | None, settings: Modifiers) -> DnaHash:
    """The nearest to the cell wins: role settings, install, hApp manifest, DNA manifest."""
    seeds = [settings.network_seed, seed_of_all]
    layers = [settings, role.modifiers, role.dna.modifiers]
    seeds += [role.modifiers.network_seed, role.dna.modifiers.network_seed]
    seed = next((seed for seed in seeds if seed is not None), "")
    properties = next((each.properties for each in layers if each.properties is not None), None)
    zomes = [(zome.name, zome.wasm_hash) for zome in role.dna.integrity]
    return hashes.dna_hash(line, zomes, network_seed=seed, properties=properties)


class _Bundle(Struct, frozen=True):
    manifest: msgspec.Raw
    resources: dict[str, bytes]


class _Dependency(Struct, frozen=True):
    name: str


class _Zome(Struct, frozen=True):
    name: str
    path: str
    dependencies: list[_Dependency] | None = None


class _Zomes(Struct, frozen=True):
    zomes: list[_Zome]


class _Integrity(Struct, frozen=True):
    zomes: list[_Zome]
    network_seed: str | None = None
    properties: Any = None


class _DnaManifest(Struct, frozen=True):
    name: str
    integrity: _Integrity
    coordinator: _Zomes = _Zomes([])


class _Provisioning(Struct, frozen=True):
    strategy: str = "create"
    deferred: bool = False


class _RoleDna(Struct, frozen=True):
    path: str | None = None
    modifiers: Modifiers | None = None


class _Role(Struct, frozen=True):
    name: str
    dna: _RoleDna
    provisioning: _Provisioning | None = None


class _AppManifest(Struct, frozen=True):
    name: str
    roles: list[_Role]
    allow_deferred_memproofs: bool = False


class _Version(Struct, frozen=True):
    manifest_version: str


def read_happ(data: bytes) -> Happ:
    """Return what is in a `.happ`; raises `UserError` for anything that is not a whole one."""
    room = _Room(limits.BUNDLE_UNPACKED_BYTES)
    bundle = _unpack(data, room, "the hApp bundle")
    manifest = _manifest(bundle, _AppManifest, "the hApp bundle")
    dnas: dict[str, Dna] = {}
    roles = tuple(_role(role, bundle, dnas, room) for role in manifest.roles)
    if len(roles) != len({role.name for role in roles}) or not roles:
        raise UserError("cannot use the hApp bundle: its roles have no names of their own")
    digest = hashlib.sha256(data).hexdigest()
    return Happ(manifest.name, digest, roles, manifest.allow_deferred_memproofs)


def coordinator_bundle(dna: Dna) -> dict[str, Any]:
    """Return a DNA's coordinators as a conductor takes them (`update_coordinators`)."""
    zomes = [
        {
            "name": zome.name,
            "hash": None,
            "path": zome.name,
            "dependencies": [{"name": name} for name in zome.dependencies],
        }
        for zome in dna.coordinators
    ]
    resources = {zome.name: zome.wasm for zome in dna.coordinators}
    return {"manifest": {"zomes": zomes}, "resources": resources}


class _Room:
    """How many bytes may still be unpacked, of all bundles in a bundle together."""

    def __init__(self, left: int) -> None:
        self.left = left


def _role(role: _Role, bundle: _Bundle, dnas: dict[str, Dna], room: _Room) -> Role:
    strategy = role.provisioning.strategy if role.provisioning else "create"
    deferred = role.provisioning.deferred if role.provisioning else False
    if strategy == "use_existing" or role.dna.path is None:
        raise UserError(
            f"cannot use role `{role.name}`: using another hApp's cell is not supported"
        )
    path = role.dna.path
    if path not in dnas:
        data = _resource(bundle, path, f"role `{role.name}`")
        dnas[path] = _dna(_unpack(data, room, f"DNA `{path}`"), f"DNA `{path}`")
    has_cell = strategy != "clone_only" and not deferred
    return Role(role.name, dnas[path], role.dna.modifiers or Modifiers(), has_cell)


def _dna(bundle: _Bundle, what: str) -> Dna:
    manifest = _manifest(bundle, _DnaManifest, what)
    integrity = manifest.integrity
    return Dna(
        manifest.name,
        Modifiers(integrity.network_seed, integrity.properties),
        tuple(_zome(zome, bundle, what) for zome in integrity.zomes),
        tuple(_zome(zome, bundle, what) for zome in manifest.coordinator.zomes),
    )


def _zome(zome: _Zome, bundle: _Bundle, what: str) -> Zome:
    wasm = _resource(bundle, zome.path, f"zome `{zome.name}` of {what}")
    names = tuple(each.name for each in zome.dependencies or ())
    return Zome(zome.name, hashes.wasm_hash(wasm), wasm, names)


def _resource(bundle: _Bundle, path: str, what: str) -> bytes:
    if path not in bundle.resources:
        raise UserError(f"cannot use {what}: `{path}` is not in the bundle", hint=_HINT)
    return bundle.resources[path]


def _manifest(bundle: _Bundle, form: type[wire.T], what: str) -> wire.T:
    try:
        version = msgspec.msgpack.decode(bundle.manifest, type=_Version).manifest_version
        if version != MANIFEST_VERSION:
            raise UserError(
                f"cannot use {what}: its manifest has version {version}; line 0.6 and later read"
                f" version {MANIFEST_VERSION}",
                hint=_HINT,
            )
        return msgspec.msgpack.decode(bundle.manifest, type=form)
    except wire.UNREADABLE as error:
        raise UserError(f"cannot use {what}: its manifest: {error}", hint=_HINT) from error


def _unpack(data: bytes, room: _Room, what: str) -> _Bundle:
    if data[:2] != GZIP:
        raise UserError(f"cannot use {what}: it is not a bundle (not gzip)", hint=_HINT)
    try:
        unpacked = _gunzip(data, room, what)
        return msgspec.msgpack.decode(unpacked, type=_Bundle)
    except zlib.error as error:
        raise UserError(f"cannot use {what}: it is damaged ({error})", hint=_HINT) from error
    except wire.UNREADABLE as error:
        raise UserError(f"cannot use {what}: it is not a bundle ({error})", hint=_HINT) from error


def _gunzip(data: bytes, room: _Room, what: str) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    unpacked = unpacker.decompress(data, room.left + 1)
    room.left -= len(unpacked)
    if room.left < 0:
        raise UserError(
            f"cannot use {what}: unpacked it is over {limits.BUNDLE_UNPACKED_BYTES} bytes"
        )
    if not unpacker.eof:
        raise UserError(f"cannot use {what}: it is cut off", hint="Copy or download it again.")
    return unpacked
