"""JSON in and out, as Holochain's own gateway was recorded to do it (0.3.5)."""

import struct

import msgspec
import pytest

from hivekeeper.holochain import transcode
from hivekeeper.model.errors import PermanentError, UserError

RESULTS = [
    ("nil", "c0", b"null"),
    ("f32", "ca3dcccccd", b"0.10000000149011612"),
    ("nan", "cb7ff8000000000000", b"null"),
    ("inf", "cb7ff0000000000000", b"null"),
    ("f1", "cb3ff0000000000000", b"1.0"),
    ("bin", "c4030102ff", b"[1,2,255]"),
    ("binin", "81a161c4020102", b'{"a":[1,2]}'),
    ("dup", "82a16101a16102", b'{"a":2}'),
    ("arr", "93010203", b"[1,2,3]"),
    ("u64", "cfffffffffffffffff", b"18446744073709551615"),
    ("i64", "d38000000000000000", b"-9223372036854775808"),
    ("sorted", "83a16201a16102a2c3a903", b'{"a":2,"b":1,"\xc3\xa9":3}'),
    (
        "str",
        "b861225c2f080c0a0d09001f7fe280a8c3a9f09f98803c3e26",
        b'"a\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xe2\x80\xa8\xc3\xa9\xf0\x9f\x98\x80<>&"',
    ),
    (
        "big floats",
        "9ccb430c6bf526340000cb4341c37937e08000cb4376345785d8a000cb444b1ae4d6e2ef50cb3ee4f8b588e368f1cb3eb0c6f7a0b5ed8dcb3e7ad7f29abcaf48cb437b69b4ba630f35cb0000000000000001cb8000000000000000cb41678c29dccccccdcb7fefffffffffffff",
        b"[1000000000000000.0,1e16,1e17,1e21,0.00001,1e-6,1e-7,1.2345678901234568e17,5e-324,-0.0,12345678.9,1.7976931348623157e308]",
    ),
    (
        "deep100",
        "91919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191c0",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[null]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ),
    (
        "deep127",
        "91919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191c0",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[null]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ),
    (
        "deep130",
        "91919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191c0",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[null]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ),
    (
        "hash",
        "c427842d243131313131313131313131313131313131313131313131313131313131313131947109a3",
        b"[132,45,36,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,49,148,113,9,163]",
    ),
]
REFUSED_RESULTS = [
    ("ext", "c7010561"),
    ("intkey", "810102"),
    ("binkey", "81c4016102"),
    ("nilkey", "81c001"),
    ("boolkey", "81c301"),
    ("fkey", "81cb3ff800000000000001"),
    ("timestamp", "d6ff00000001"),
    ("c1", "c1"),
    ("arrkey", "819001"),
    ("trunc", "9201"),
]
ARGUMENTS = [
    (b"null", b"null"),
    (b"1", b"1"),
    (b"-1", b"-1"),
    (b"1.0", b"1.0"),
    (b"1e5", b"100000.0"),
    (b"123456789012345678901234567890", b"1.2345678901234568e29"),
    (b"18446744073709551615", b"18446744073709551615"),
    (b"18446744073709551616", b"1.8446744073709552e19"),
    (b"-9223372036854775808", b"-9223372036854775808"),
    (b"-9223372036854775809", b"-9.223372036854776e18"),
    (b"-0.0", b"-0.0"),
    (b'"\\ud83d\\ude00"', b'"\xf0\x9f\x98\x80"'),
    (b'{"a":1,"a":2}', b'{"a":2}'),
    (b'{"b":1,"a":2}', b'{"a":2,"b":1}'),
    (b" 1 ", b"1"),
    (b'"\x7f"', b'"\x7f"'),
    (b"0.1e-400", b"0.0"),
    (b"1E+2", b"100.0"),
    (b"0.1", b"0.1"),
    (b"[]", b"[]"),
    (b"{}", b"{}"),
    (b"true", b"true"),
    (b'"\\u00e9"', b'"\xc3\xa9"'),
    (b"9007199254740993", b"9007199254740993"),
    (b"4.35", b"4.35"),
    (b'{"$serde_json::private::Number":"1"}', b'{"$serde_json::private::Number":"1"}'),
]
REFUSED_ARGUMENTS = [
    b"1e400",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b"NaN",
    b"[1,]",
    b'"\xff"',
    b"\xef\xbb\xbf1",
    b"1 2",
    b"01",
    b"1.",
    b".5",
    b'"a\tb"',
    b"\x0b1",
    b'"\\x"',
    b'{"a":1}x',
    b"{1:2}",
    b"1.7976931348623159e308",
]


@pytest.mark.parametrize(("packed", "json"), [each[1:] for each in RESULTS], ids=lambda _: "")
def test_a_result_is_said_as_holochains_gateway_says_it(packed: str, json: bytes) -> None:
    assert transcode.to_json(bytes.fromhex(packed)) == json


@pytest.mark.parametrize("packed", [each[1] for each in REFUSED_RESULTS])
def test_a_result_that_json_cannot_say_is_an_error_there_and_here(packed: str) -> None:
    with pytest.raises(PermanentError, match="in JSON"):
        transcode.to_json(bytes.fromhex(packed))


@pytest.mark.parametrize(("argument", "echoed"), ARGUMENTS)
def test_an_argument_arrives_as_it_does_through_holochains_gateway(
    argument: bytes, echoed: bytes
) -> None:
    """Echoed by a zome, it comes back in the same bytes."""
    assert transcode.to_json(transcode.to_msgpack(argument)) == echoed


@pytest.mark.parametrize("argument", [*REFUSED_ARGUMENTS, b"1" + b"0" * 400])
def test_an_argument_that_is_no_json_is_refused_there_and_here(argument: bytes) -> None:
    with pytest.raises(UserError, match="as JSON"):
        transcode.to_msgpack(argument)


def test_an_argument_may_be_nested_as_deep_as_there_and_no_deeper() -> None:
    transcode.to_msgpack(b"[" * 127 + b"]" * 127)
    transcode.to_msgpack(b'{"a":' * 127 + b"1" + b"}" * 127)
    for deep in (b"[" * 128 + b"]" * 128, b'{"a":' * 128 + b"1" + b"}" * 128, b"[" * 9_999):
        with pytest.raises(UserError):
            transcode.to_msgpack(deep)


def test_integers_keep_all_their_64_bits_and_become_floats_beyond() -> None:
    for number in (0, -1, 2**53 + 1, 2**64 - 1, -(2**63)):
        packed = transcode.to_msgpack(str(number).encode())
        assert msgspec.msgpack.decode(packed) == number
    beyond = transcode.to_msgpack(str(2**64).encode())
    assert beyond == b"\xcb" + struct.pack(">d", 2.0**64)


def test_no_argument_is_unit() -> None:
    assert transcode.to_msgpack(b"null") == b"\xc0"
