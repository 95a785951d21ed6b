"""Whatever bytes come, decoders return or raise what they say; what is encoded comes back."""

import contextlib
import gzip

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import happ_bundles
from hivekeeper.holochain import access, admin, app, bundles, hashes, transcode, wire
from hivekeeper.holochain.access import Access, CellAccess
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.errors import AnswerLostError, ConductorError
from hivekeeper.holochain.hashes import HashType
from hivekeeper.holochain.signing import SigningCredentials
from hivekeeper.model.errors import HiveError, PermanentError, UserError

CORES = st.binary(min_size=32, max_size=32)
TYPES: list[HashType[bytes]] = [
    hashes.AGENT,
    hashes.DNA,
    hashes.ACTION,
    hashes.ENTRY,
    hashes.WASM,
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ENDPOINTS = [each for module in (admin, app) for each in vars(module).values()]
ENDPOINTS = [each for each in ENDPOINTS if isinstance(each, wire.Endpoint)]


@given(CORES, st.sampled_from(TYPES))
def test_a_hash_is_its_text(core: bytes, kind: HashType[bytes]) -> None:
    made = kind.of(core)
    assert len(made) == hashes.HASH_BYTES
    assert len(hashes.text(made)) == 53
    assert kind.parse(hashes.text(made)) == kind.check(made) == made


@given(CORES, st.integers(0, 38), st.integers(1, 255))
def test_no_byte_of_a_hash_may_be_another(core: bytes, at: int, flip: int) -> None:
    damaged = bytearray(hashes.DNA.of(core))
    damaged[at] ^= flip
    with pytest.raises(UserError):
        hashes.DNA.parse(hashes.text(bytes(damaged)))


@given(st.text(max_size=60))
def test_text_is_a_hash_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        assert hashes.text(hashes.DNA.parse(text)) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_unreadable(data: bytes) -> None:
    with contextlib.suppress(*wire.UNREADABLE):
        wire.decode_message(data)


@given(st.binary(max_size=200), st.sampled_from(ENDPOINTS))
def test_any_bytes_are_an_answer_or_a_lost_one(
    data: bytes, endpoint: wire.Endpoint[object, object]
) -> None:
    for content in (
        data,
        wire.encode(wire.Tagged(endpoint.response, msgspec.Raw(data or b"\xc0"))),
    ):
        with contextlib.suppress(AnswerLostError, ConductorError):
            endpoint.decode_response(content)


@given(st.integers(0, 2**64 - 1), st.binary())
def test_an_envelope_comes_back(number: int, data: bytes) -> None:
    for message in [
        wire.Request(number, data),
        wire.Response(number, data),
        wire.Signal(data),
        wire.Authenticate(data),
    ]:
        assert wire.decode_message(wire.encode(message)) == message


@given(JSON)
def test_json_goes_to_a_zome_and_back(value: object) -> None:
    coded = msgspec.json.encode(value, order="sorted")
    assert transcode.to_json(transcode.to_msgpack(coded)) == coded


@given(st.binary(max_size=100))
def test_any_bytes_are_json_both_ways_or_refused(data: bytes) -> None:
    with contextlib.suppress(UserError):
        transcode.to_msgpack(data)
    with contextlib.suppress(PermanentError):
        msgspec.json.decode(transcode.to_json(data))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    for each in (data, gzip.compress(data, compresslevel=1)):
        with contextlib.suppress(UserError):
            bundles.read_happ(each)


@given(st.data())
def test_a_damaged_bundle_is_read_or_refused(data: st.DataObject) -> None:
    small = bytearray(happ_bundles.small())
    at = data.draw(st.integers(0, len(small) - 1))
    small[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UserError):
        bundles.read_happ(bytes(small[: data.draw(st.integers(0, len(small)))]))


@given(
    st.text(),
    st.integers(1, 65_535),
    st.binary(min_size=1, max_size=64),
    st.dictionaries(st.text(), st.tuples(CORES, CORES, CORES)),
)
def test_an_access_file_comes_back(
    app_id: str, port: int, token: bytes, cells: dict[str, tuple[bytes, bytes, bytes]]
) -> None:
    made = Access(
        installed_app_id=app_id,
        app_port=port,
        token=token,
        cells={
            role: CellAccess(
                cell=CellId(hashes.DNA.of(dna), hashes.AGENT.of(agent)),
                credentials=SigningCredentials(seed, seed * 2),
            )
            for role, (dna, agent, seed) in cells.items()
        },
    )
    assert access.decode(access.encode(made)) == made


@given(st.binary(max_size=200))
def test_any_bytes_are_an_access_file_or_refused(data: bytes) -> None:
    with contextlib.suppress(HiveError):
        access.decode(data)
