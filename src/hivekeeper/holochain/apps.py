"""What a conductor says of the hApps in it, as Holochain names it. Shapes only.

Line 0.6. Where a later line adds to a set of words (a status), it is a `Tagged` and not refused.
"""

from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from hivekeeper.holochain import hashes
from hivekeeper.holochain.hashes import AgentPubKey, DnaHash, WasmHash
from hivekeeper.holochain.wire import Tagged


class CellId(NamedTuple):
    """One agent in one DNA's network: a source chain."""

    dna_hash: DnaHash
    agent_pub_key: AgentPubKey


# Words of `AppInfo.status`.
ENABLED: Final = "enabled"
DISABLED: Final = "disabled"
AWAITING_MEMPROOFS: Final = "awaiting_memproofs"


class DnaModifiers(Struct, frozen=True):
    """What makes two networks of the same DNA."""

    network_seed: str
    properties: bytes
    """MessagePack of whatever the DNA reads."""


class ProvisionedCell(Struct, frozen=True):
    """A cell that came with the hApp."""

    cell_id: CellId
    dna_modifiers: DnaModifiers
    name: str


class ClonedCell(Struct, frozen=True):
    """A cell made later from a role's DNA, with other modifiers."""

    cell_id: CellId
    clone_id: str
    original_dna_hash: DnaHash
    dna_modifiers: DnaModifiers
    name: str
    enabled: bool


class StemCell(Struct, frozen=True):
    """A role that has no cell yet."""

    original_dna_hash: DnaHash
    dna_modifiers: DnaModifiers
    name: str | None = None


class Provisioned(Struct, frozen=True, tag_field="type", tag="provisioned"):
    """See `ProvisionedCell`."""

    value: ProvisionedCell


class Cloned(Struct, frozen=True, tag_field="type", tag="cloned"):
    """See `ClonedCell`."""

    value: ClonedCell


class Stem(Struct, frozen=True, tag_field="type", tag="stem"):
    """See `StemCell`."""

    value: StemCell


CellInfo = Provisioned | Cloned | Stem


class AppInfo(Struct, frozen=True):
    """A hApp that is installed."""

    installed_app_id: str
    cell_info: dict[str, list[CellInfo]]
    status: Tagged
    agent_pub_key: AgentPubKey
    manifest: dict[str, Any]
    installed_at: int
    """In microseconds since 1970."""

    def provisioned(self) -> dict[str, CellId]:
        """Return each role's own cell; roles without one are left out."""
        return {
            role: cell.value.cell_id
            for role, cells in self.cell_info.items()
            for cell in cells
            if isinstance(cell, Provisioned)
        }


class WasmZome(Struct, frozen=True):
    """A zome's program, by its hash."""

    wasm_hash: WasmHash
    dependencies: list[str] = []


class DnaDef(Struct, frozen=True):
    """A DNA as the conductor holds it: what runs, not what a bundle once said."""

    name: str
    modifiers: DnaModifiers
    integrity_zomes: list[tuple[str, WasmZome]]
    coordinator_zomes: list[tuple[str, WasmZome]]


def describe(info: AppInfo) -> dict[str, Any]:
    """Return `info` as JSON can say it: hashes as text, properties as what they mean."""
    described: dict[str, Any] = _readable(msgspec.to_builtins(info, builtin_types=(bytes,)))
    return described


def _readable(value: Any) -> Any:
    match value:
        case dict():
            return {key: _readable(each) for key, each in value.items()}
        case list() | tuple():
            return [_readable(each) for each in value]
        case bytes() if len(value) == hashes.HASH_BYTES:
            return hashes.text(value)
        case bytes():
            return _meaning(value)
    return value


def _meaning(packed: bytes) -> Any:
    """Return what properties say, where JSON can say it too."""
    try:
        return msgspec.json.decode(msgspec.json.encode(msgspec.msgpack.decode(packed)))
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
        return list(packed)
