"""NATS user keys (Ed25519, "nkeys"): made here, kept in files of their owner's, never sent.

A seed (`SU…`) is the secret, the public key (`U…`) what others know. Nothing prints a seed.
"""

import secrets
from pathlib import Path

import nkeys  # type: ignore[import-untyped]

from hivekeeper.model.errors import UserError
from hivekeeper.ports import Disk


def new_seed() -> str:
    """Return the seed of a new key."""
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


def public_key(seed: str) -> str:
    """Return the public half; raises `UserError`, without the text, if `seed` is none."""
    text = seed.strip().encode(errors="replace")
    try:
        raw = bytes(nkeys.decode_seed(text)[1])
        whole = nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER) == text  # with its checksum
    except (nkeys.NkeysError, ValueError):
        whole = False
    if not whole:
        raise UserError("cannot use the key: it is not the seed of a NATS user, or it is damaged")
    public: bytes = nkeys.from_seed(bytearray(text)).public_key
    return public.decode()


def read_seed(disk: Disk, path: Path) -> str:
    """Return the seed kept in the file; raises `UserError` if there is none, or it is damaged."""
    kept = disk.read(path)
    if kept is None:
        raise UserError(f"cannot read the key {path}: there is no such file")
    seed = kept.decode(errors="replace").strip()
    try:
        public_key(seed)
    except UserError as error:
        raise UserError(
            f"cannot read the key {path}: it is damaged",
            hint="restore it, or remove it: then a new key is made, and must be let in again",
        ) from error
    return seed


def ensure_seed(disk: Disk, path: Path) -> str:
    """Return the seed kept in the file; one is made if there is no such file.

    Only one process at a time may do this for one file; others use `read_seed`.
    """
    if disk.read(path) is None:
        disk.write(path, new_seed().encode() + b"\n")
    return read_seed(disk, path)
