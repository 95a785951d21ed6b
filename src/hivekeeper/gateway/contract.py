"""What a request means and how it is answered: the contract of Holochain's own gateway.

Pure: knows no sockets, no hApps and no conductor. Every text, status and order of checks here was
seen on `hc-http-gw` 0.3.5, whose clients are to work unchanged, with two exceptions. A path that
begins with two slashes is always 404 (there, its handler panics if three names follow). And 502
always means that nothing was sent, so that trying again is safe; where a call was sent and its
answer is lost, we answer 500, while there it is sent up to three times and then answered 502.
"""

import base64
import binascii
import functools
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from hivekeeper.holochain import hashes, transcode
from hivekeeper.holochain.errors import ConductorError, NotSentError
from hivekeeper.holochain.hashes import DnaHash
from hivekeeper.holochain.signing import UNIT
from hivekeeper.model import limits
from hivekeeper.model.errors import HiveError, UserError

_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer but for its length and date."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class AnsweredError(HiveError):
    """The request is not carried out, and this is why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"answered {answer.status} {answer.body.decode(errors='replace')}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ZomeCall:
    """What is asked for; nothing of it is known to exist, and the payload is not decoded yet."""

    dna_hash: DnaHash
    app_id: str
    zome: str
    fn: str
    payload: str | None


def failure(status: int, message: str) -> Answer:
    """Return the answer that says what went wrong."""
    return Answer(status, (_JSON,), msgspec.json.encode({"error": message}))


def result(json: bytes) -> Answer:
    """Return the answer that holds what a function returned."""
    return Answer(200, (_TEXT,), json)


_SELECTING: Final = "Error selecting a valid app: "
HEALTHY: Final = Answer(200, (_TEXT,), b"Ok")
NO_SUCH_PATH: Final = Answer(404)
NO_SUCH_METHOD: Final = Answer(405, ((b"allow", b"GET,HEAD"),))
TWO_PAYLOADS: Final = Answer(
    400, (_TEXT,), b"Failed to deserialize query string: duplicate field `payload`"
)
NOT_INSTALLED: Final = failure(404, f"{_SELECTING}App is not installed on the conductor")
NOT_LISTED: Final = failure(403, f"{_SELECTING}App is not in the list of allowed apps")
SEVERAL_INSTALLED: Final = failure(
    500, f"{_SELECTING}Multiple matching apps were found, could not determine which to call"
)
UNREACHABLE: Final = failure(502, "Could not connect to Holochain")
FAILED: Final = failure(500, "Something went wrong")

_RIBOSOME_ERROR: Final = "ribosome_error"
_parse_dna_hash: Final = functools.lru_cache(maxsize=1024)(hashes.DNA.parse)
_NAMES: Final = ("dna_hash", "coordinator_identifier", "zome_name", "fn_name")


def read(method: str, path: bytes, query: bytes) -> ZomeCall | None:
    """Return the call that is asked for; None: what is asked is whether we are well.

    Args:
        method: In capitals.
        path: As it came, still encoded.
        query: What came after the question mark.

    Raises:
        AnsweredError: It is neither; checked in the contract's order.
    """
    parts = path.split(b"/")
    is_call = len(parts) == 1 + len(_NAMES) and parts[0] == b"" != parts[1] and parts[-1] != b""
    if not is_call and path != b"/health":
        raise AnsweredError(NO_SUCH_PATH)
    if method not in {"GET", "HEAD"}:
        raise AnsweredError(NO_SUCH_METHOD)
    return _read_call(parts[1:], query) if is_call else None


def _read_call(parts: list[bytes], query: bytes) -> ZomeCall:
    names = [_text(part, name) for part, name in zip(parts, _NAMES, strict=True)]
    dna_hash, app_id, zome, fn = names
    try:
        dna = _parse_dna_hash(dna_hash)
    except UserError as error:
        raise _malformed("Invalid DNA hash") from error
    for name in (app_id, zome, fn):
        if len(name) > limits.GATEWAY_IDENTIFIER_LENGTH:
            raise _malformed(
                f"Identifier {name} longer than {limits.GATEWAY_IDENTIFIER_LENGTH} characters"
            )
    return ZomeCall(dna_hash=dna, app_id=app_id, zome=zome, fn=fn, payload=_payload(query))


def _text(part: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        raise _malformed(f"Invalid UTF-8 in `{name}`") from error


def _payload(query: bytes) -> str | None:
    """Return the payload as it was sent; names that nobody knows are skipped."""
    if not query:
        return None
    text = query.decode(errors="replace")
    given = [value for name, value in parse_qsl(text, keep_blank_values=True) if name == "payload"]
    if len(given) > 1:
        raise AnsweredError(TWO_PAYLOADS)
    if not given:
        return None
    if len(given[0].encode()) > limits.GATEWAY_PAYLOAD_BYTES:
        raise _malformed(f"Payload exceeds {limits.GATEWAY_PAYLOAD_BYTES} bytes")
    return given[0]


def argument(payload: str | None) -> bytes:
    """Return what the function is given, as MessagePack; raises `AnsweredError`."""
    if payload is None:
        return UNIT
    json = _base64(payload)
    try:
        return transcode.to_msgpack(json)
    except UserError as error:
        raise _malformed("Invalid JSON value") from error


def _base64(payload: str) -> bytes:
    """Decode strictly: the URL's alphabet, padded, and no bit left over."""
    try:
        data = payload.encode("ascii")
        decoded = base64.urlsafe_b64decode(data)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _malformed("Invalid base64 encoding") from error
    if base64.urlsafe_b64encode(decoded) != data:
        raise _malformed("Invalid base64 encoding")
    return decoded


def _malformed(why: str) -> AnsweredError:
    return AnsweredError(failure(400, f"Request is malformed: {why}"))


def forbidden(call: ZomeCall) -> AnsweredError:
    """Return that this function of a hApp that may be called may not."""
    message = f"Function {call.fn} in zome {call.zome} in app {call.app_id} is not allowed"
    return AnsweredError(failure(403, message))


def failed(error: HiveError) -> Answer:
    """Return how a call that failed is answered."""
    match error:
        case NotSentError():
            return UNREACHABLE
        case ConductorError(kind=kind, text=text) if kind == _RIBOSOME_ERROR:
            return failure(500, text)
    return FAILED
