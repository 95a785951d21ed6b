"""JSON to a zome function's argument, and its result to JSON, as Holochain's own gateway does it.

Compared with `hc-http-gw` 0.3.5 answer by answer (tests/integration/test_holochain_transcode.py).
What differs: the argument `-0` (0 here, -0.0 there), the last digit of some floating point numbers
(exact here), and results that no Rust guest gives: bytes after the end, text that is not UTF-8,
nesting beyond a few hundred.
"""

from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from hivekeeper.holochain import wire
from hivekeeper.model import limits
from hivekeeper.model.errors import PermanentError, UserError

I64_MIN: Final = -(2**63)
U64_MAX: Final = 2**64 - 1

_encode_msgpack: Final = msgspec.msgpack.Encoder(order="sorted").encode
_encode_json: Final = msgspec.json.Encoder(order="sorted").encode


def to_msgpack(json: bytes) -> bytes:
    """Return what a zome function is given for the argument `json`.

    Keys are sorted. Integers beyond 64 bits become floating point, as in Rust's JSON.

    Raises:
        UserError: It is not JSON, nested too deep, or holds a number beyond floating point.
    """
    try:
        return _encode_msgpack(_argument(msgspec.json.decode(json), limits.JSON_DEPTH))
    except (*wire.UNREADABLE, OverflowError) as error:
        raise UserError(f"cannot read the argument as JSON: {error}") from error


def to_json(result: bytes) -> bytes:
    """Return what a zome function's `result` is in JSON.

    Keys are sorted, bytes are arrays of numbers, and what is no finite number is null.

    Raises:
        PermanentError: JSON cannot say it: keys that are no text, or MessagePack extensions.
    """
    try:
        return _encode_json(_plain(msgspec.msgpack.decode(result)))
    except (*wire.UNREADABLE, TypeError) as error:
        raise PermanentError(f"cannot say the result in JSON: {error}") from error


def _argument(value: Any, depth: int) -> Any:
    match value:
        case dict():
            depth = _deeper(depth)
            return {key: _argument(each, depth) for key, each in value.items()}
        case list():
            depth = _deeper(depth)
            return [_argument(each, depth) for each in value]
        case int() if not I64_MIN <= value <= U64_MAX:
            return float(value)
    return value


def _deeper(depth: int) -> int:
    if depth == 0:
        raise RecursionError(f"nested deeper than {limits.JSON_DEPTH}")
    return depth - 1


def _plain(value: Any) -> Any:
    match value:
        case str() | int() | float() | None:
            return value
        case list():
            return [_plain(each) for each in value]
        case bytes():
            return list(value)
        case dict():
            return {_key(key): _plain(each) for key, each in value.items()}
        case Ext():
            raise TypeError(f"it holds a MessagePack extension ({value.code})")
    raise TypeError(f"it holds a {type(value).__name__}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"it holds a key that is no text, but {type(key).__name__}")
    return key
