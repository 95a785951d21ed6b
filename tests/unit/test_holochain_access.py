"""An access file says all, and is refused, without telling its secrets, if it is damaged."""

import msgspec
import pytest

from hivekeeper.holochain import access, hashes
from hivekeeper.holochain.access import Access, CellAccess
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.signing import SigningCredentials
from hivekeeper.model.errors import PermanentError

CELL = CellId(hashes.DNA.of(b"\x01" * 32), hashes.AGENT.of(b"\x02" * 32))
ACCESS = Access(
    installed_app_id="notes",
    app_port=4567,
    token=b"tokentoken",
    cells={
        "notes": CellAccess(cell=CELL, credentials=SigningCredentials(b"S" * 32, b"C" * 64)),
        "other": CellAccess(cell=CELL, credentials=SigningCredentials(b"T" * 32, b"D" * 64)),
    },
)


def test_it_is_read_back_as_it_was_written() -> None:
    assert access.decode(access.encode(ACCESS)) == ACCESS
    assert access.encode(access.decode(access.encode(ACCESS))) == access.encode(ACCESS)


def test_it_hides_its_secrets() -> None:
    assert not any(secret in repr(ACCESS) for secret in ["tokentoken", "SSS", "CCC"])


def damaged(**change: object) -> bytes:
    file = msgspec.json.decode(access.encode(ACCESS))
    return msgspec.json.encode(file | change)


CELLS = msgspec.json.decode(access.encode(ACCESS))["cells"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        access.encode(ACCESS)[:-20],
        damaged(v=2),
        damaged(app_port=0),
        damaged(token="not base64!"),
        damaged(token=""),
        damaged(cells={"notes": CELLS["notes"] | {"dna_hash": "uhC0k"}}),
        damaged(cells={"notes": CELLS["notes"] | {"agent_pub_key": CELLS["notes"]["dna_hash"]}}),
        damaged(cells={"notes": CELLS["notes"] | {"signing_seed": "UyBTIFM="}}),
    ],
)
def test_a_damaged_file_is_refused_and_its_secrets_are_not_told(data: bytes) -> None:
    with pytest.raises(PermanentError, match="access file") as caught:
        access.decode(data)
    assert CELLS["notes"]["cap_secret"] not in str(caught.value)
    assert "not base64!" not in str(caught.value)
