"""Holochain's hashes: 39 bytes each, and the text that people and URLs carry.

Three bytes say what is hashed, 32 are the hash, four (its location on the ring) follow from it
and catch typing errors. Computes a DNA's hash as each release line does, so that we know what a
bundle will be before a conductor sees it. Reads no files and no bundles.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, NewType, TypeVar

import msgspec
from msgspec import Meta

from hivekeeper.model.errors import UserError

HASH_BYTES: Final = 39
CORE_BYTES: Final = 32

_Raw = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
AgentPubKey = NewType("AgentPubKey", _Raw)
DnaHash = NewType("DnaHash", _Raw)
ActionHash = NewType("ActionHash", _Raw)
EntryHash = NewType("EntryHash", _Raw)
WasmHash = NewType("WasmHash", _Raw)

H_co = TypeVar("H_co", bound=bytes, covariant=True)

_TEXT: Final = re.compile(r"u[A-Za-z0-9_-]{52}")


@dataclass(frozen=True, slots=True)
class HashType(Generic[H_co]):
    """What a hash is of. Source: `holo_hash`, its table of prefixes."""

    name: str
    prefix: bytes
    make: Callable[[bytes], H_co]

    def of(self, core: bytes) -> H_co:
        """Return the hash whose core is `core`, 32 bytes; for an agent that is the public key."""
        assert len(core) == CORE_BYTES, "a core has 32 bytes"
        return self.make(self.prefix + core + _location(core))

    def check(self, raw: bytes) -> H_co:
        """Return `raw` if it is a hash of this type; raises `UserError` if not."""
        core = raw[3 : 3 + CORE_BYTES]
        if len(raw) != HASH_BYTES or raw[:3] != self.prefix or raw[-4:] != _location(core):
            raise UserError(f"cannot read {_short(raw)}: it is no {self.name} hash")
        return self.make(raw)

    def parse(self, text: str) -> H_co:
        """Return the hash that `text` (`uhC…`, 53 characters) is; raises `UserError` if none."""
        if _TEXT.fullmatch(text) is None:
            raise UserError(f"cannot read `{text[:64]}`: no {self.name} hash looks like this")
        try:
            return self.check(base64.urlsafe_b64decode(text[1:]))
        except (UserError, binascii.Error) as error:
            raise UserError(f"cannot read `{text}`: it is no {self.name} hash") from error


AGENT: Final = HashType("agent", b"\x84\x20\x24", AgentPubKey)
DNA: Final = HashType("DNA", b"\x84\x2d\x24", DnaHash)
ACTION: Final = HashType("action", b"\x84\x29\x24", ActionHash)
ENTRY: Final = HashType("entry", b"\x84\x21\x24", EntryHash)
WASM: Final = HashType("wasm", b"\x84\x2a\x24", WasmHash)


def text(raw: bytes) -> str:
    """Return the text of a hash, 53 characters."""
    return "u" + base64.urlsafe_b64encode(raw).decode()


def wasm_hash(wasm: bytes) -> WasmHash:
    """Return the hash of a zome's WebAssembly."""
    return WASM.of(_blake2b(wasm))


_SEEN_BY_LINE: Final[dict[str, Callable[[WasmHash], object]]] = {
    "0.4": lambda wasm: {"wasm_hash": wasm, "dependencies": [], "preserialized_path": None},
    "0.5": lambda wasm: {"wasm_hash": wasm, "dependencies": [], "preserialized_path": None},
    "0.6": lambda wasm: {"wasm_hash": wasm, "dependencies": []},
    "0.7": lambda wasm: {"Wasm": {"wasm_hash": wasm, "dependencies": []}},
}
"""How each line writes an integrity zome: why one DNA has another hash on each."""


def dna_hash(
    line: str,
    integrity_zomes: Iterable[tuple[str, WasmHash]],
    *,
    network_seed: str,
    properties: Any,
    origin_time: int = 0,
) -> DnaHash:
    """Return a DNA's hash on one release line.

    Args:
        line: `0.4` to `0.7`.
        integrity_zomes: Name and hash, in the manifest's order. Coordinators are not hashed.
        network_seed: Who has another one is on another network.
        properties: What MessagePack can say; None where there are none.
        origin_time: In microseconds; part of the hash on line 0.4 alone.

    Source: Holochain's own golden hashes, and those that its conductors reported.
    """
    seen = _SEEN_BY_LINE.get(line)
    if seen is None:
        raise UserError(f"cannot hash a DNA for line {line}: known are {', '.join(_SEEN_BY_LINE)}")
    modifiers: dict[str, Any] = {
        "network_seed": network_seed,
        "properties": msgspec.msgpack.encode(properties),
    }
    if line == "0.4":
        modifiers |= {"origin_time": origin_time, "quantum_time": {"secs": 300, "nanos": 0}}
    hashed = {
        "modifiers": modifiers,
        "integrity_zomes": [[name, seen(wasm)] for name, wasm in integrity_zomes],
    }
    return DNA.of(_blake2b(msgspec.msgpack.encode(hashed)))


def _blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CORE_BYTES).digest()


def _location(core: bytes) -> bytes:
    """Return where on the ring it lies: a 16-byte hash, folded to four."""
    folded = hashlib.blake2b(core, digest_size=16).digest()
    words = [int.from_bytes(folded[at : at + 4], "little") for at in range(0, 16, 4)]
    return (words[0] ^ words[1] ^ words[2] ^ words[3]).to_bytes(4, "little")


def _short(raw: bytes) -> str:
    return f"{len(raw)} bytes" if len(raw) != HASH_BYTES else f"`{text(raw)}`"
