"""What one needs to call a hApp: its port, a token, and for each cell a signing key with a grant.

Made by the host agent after each start of a conductor, and handed over in a file that its owner
alone can read: `encode` and `decode` are that file. All secrets; nothing here prints them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hivekeeper.holochain import hashes, wire
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.signing import CAP_SECRET_BYTES, SEED_BYTES, SigningCredentials
from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.policy import Port

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAccess:
    """A cell, and what signs calls to it."""

    cell: CellId
    credentials: SigningCredentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """All that a gateway needs to call one hApp.

    Args:
        installed_app_id: What the conductor calls it.
        app_port: Of its app interface, on loopback; the same after every restart.
        token: Good until the conductor stops.
        cells: By role.
    """

    installed_app_id: str
    app_port: int
    token: bytes = field(repr=False)
    cells: Mapping[str, CellAccess]


class _Cell(Struct, frozen=True, kw_only=True):
    dna_hash: str
    agent_pub_key: str
    signing_seed: Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    cap_secret: Annotated[bytes, Meta(min_length=CAP_SECRET_BYTES, max_length=CAP_SECRET_BYTES)]


class _File(Struct, frozen=True, kw_only=True):
    v: int = VERSION
    installed_app_id: str
    app_port: Port
    token: Annotated[bytes, Meta(min_length=1, max_length=1024)]
    cells: dict[str, _Cell]


def encode(access: Access) -> bytes:
    """Return the file's content; equal accesses give equal bytes."""
    cells = {
        role: _Cell(
            dna_hash=hashes.text(each.cell.dna_hash),
            agent_pub_key=hashes.text(each.cell.agent_pub_key),
            signing_seed=each.credentials.seed,
            cap_secret=each.credentials.cap_secret,
        )
        for role, each in access.cells.items()
    }
    file = _File(
        installed_app_id=access.installed_app_id,
        app_port=access.app_port,
        token=access.token,
        cells=cells,
    )
    return msgspec.json.format(msgspec.json.encode(file, order="deterministic")) + b"\n"


def decode(data: bytes) -> Access:
    """Return what `encode` was given; raises `PermanentError`, without secrets, if it can't."""
    try:
        file = msgspec.json.decode(data, type=_File)
        cells = {role: _cell_access(each) for role, each in file.cells.items()}
    except (*wire.UNREADABLE, UserError) as error:
        raise PermanentError(f"cannot read an access file: {error}") from error
    if file.v != VERSION:
        raise PermanentError(
            f"cannot read an access file of version {file.v}: this is version {VERSION}"
        )
    return Access(
        installed_app_id=file.installed_app_id,
        app_port=file.app_port,
        token=file.token,
        cells=cells,
    )


def _cell_access(cell: _Cell) -> CellAccess:
    return CellAccess(
        cell=CellId(hashes.DNA.parse(cell.dna_hash), hashes.AGENT.parse(cell.agent_pub_key)),
        credentials=SigningCredentials(cell.signing_seed, cell.cap_secret),
    )
