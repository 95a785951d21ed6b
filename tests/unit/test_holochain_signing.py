"""A zome call is signed as Holochain verifies it."""

from datetime import UTC, datetime

import msgspec
import pytest

from hivekeeper.holochain import hashes
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.signing import (
    UNIT,
    VALID_FOR,
    Signer,
    SigningCredentials,
    ZomeCallParams,
)

CREDENTIALS = SigningCredentials(b"\x07" * 32, b"\x03" * 64)
CELL = CellId(hashes.DNA.of(b"\x01" * 32), hashes.AGENT.of(b"\x02" * 32))
EXPIRES = datetime.fromtimestamp(1_700_000_000, UTC)


def test_the_worked_example_has_its_bytes_and_its_signature() -> None:
    signer = Signer(CREDENTIALS)
    signed = signer.sign(CELL, "foo", "foo", UNIT, nonce=b"\x04" * 32, now=EXPIRES - VALID_FOR)
    assert hashes.text(signer.agent) == "uhCAk6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iycnBzo"
    assert len(signed.params) == 318
    assert signed.params.hex().startswith("88aa70726f76656e616e6365c427842024ea4a6c63")
    assert signed.params.hex().endswith("aa657870697265735f6174cf00060a24181e4000")
    assert signed.signature.hex() == (
        "b7b9904496a70af1a2dcc7f717d34b057b0c5fe49c3a802e82bbd65ca2daf4f8"
        "0a19322c3c72d00760de2a54fc008e5746fc5ff0f43f1a4ee200853f20be160a"
    )


def test_a_signed_call_is_sent_as_bytes_and_signature() -> None:
    signed = Signer(CREDENTIALS).sign(CELL, "z", "f", UNIT, nonce=b"\x04" * 32, now=EXPIRES)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(signed))
    assert list(sent) == ["bytes", "signature"]
    params = msgspec.msgpack.decode(sent["bytes"], type=ZomeCallParams)
    assert (params.cell_id, params.zome_name, params.fn_name) == (CELL, "z", "f")
    assert params.cap_secret == CREDENTIALS.cap_secret


def test_credentials_hide_themselves() -> None:
    assert repr(CREDENTIALS) == "SigningCredentials()"


@pytest.mark.parametrize(("seed", "secret"), [(b"", b"\x03" * 64), (b"\x07" * 32, b"\x03" * 63)])
def test_credentials_of_another_size_are_a_bug(seed: bytes, secret: bytes) -> None:
    with pytest.raises(AssertionError):
        SigningCredentials(seed, secret)
