"""The conductor's wire protocol: envelopes, and requests with the answers that belong to them.

MessagePack in MessagePack: an envelope carries its content as bytes. Content is `{type, value}`
(line 0.5 and later). Decoders skip fields they don't know, since Holochain adds some within a
line, and refuse what is not whole. Knows no sockets; `admin` and `app` say which requests exist.
"""

from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from hivekeeper.holochain.errors import AnswerLostError, ConductorError

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")

NOTHING: Final = type(None)
"""What a request or an answer carries that is only a name."""
_NIL: Final = Raw(b"\xc0")


class Request(Struct, frozen=True, tag_field="type", tag="request"):
    """Asks for a `Response` with the same id."""

    id: int
    data: bytes


class Response(Struct, frozen=True, tag_field="type", tag="response"):
    """Answers a `Request`; without data if whoever was to answer is gone."""

    id: int
    data: bytes | None = None


class Signal(Struct, frozen=True, tag_field="type", tag="signal"):
    """What a zome or the conductor says unasked."""

    data: bytes


class Authenticate(Struct, frozen=True, tag_field="type", tag="authenticate"):
    """The first message on an app connection; there is no answer to it."""

    data: bytes


Message = Request | Response | Signal | Authenticate


class Tagged(Struct, frozen=True):
    """One of several things, by name: how Holochain writes a Rust enum."""

    type: str
    value: Any = None


class _Content(Struct, frozen=True):
    type: str
    value: Raw = _NIL


class _Bare(Struct, frozen=True):
    type: str


class _Error(Struct, frozen=True):
    type: str
    value: str = ""


ERROR: Final = "error"

encode: Final = msgspec.msgpack.Encoder().encode
_decode_message: Final = msgspec.msgpack.Decoder(Message).decode
_decode_content: Final = msgspec.msgpack.Decoder(_Content).decode
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be."""


def decode_message(data: bytes) -> Message:
    """Return the envelope in `data`; raises one of `UNREADABLE` for anything else."""
    message: Message = _decode_message(data)
    return message


def encode_error(kind: str, text: str) -> bytes:
    """Return the content that says that a request failed."""
    return encode(Tagged(ERROR, _Error(kind, text)))


def read_type(content: bytes) -> str:
    """Return which request or response `content` is."""
    return _decode_content(content).type


class Endpoint(Generic[Q, A]):
    """A request by name, what it carries, and the answer that belongs to it.

    Args:
        request: What Holochain calls it (`enable_app`).
        asks: What it carries; `NOTHING` if that is nothing.
        response: What Holochain calls the answer (`app_enabled`).
        answers: What that carries; `NOTHING` if that is nothing.
    """

    __slots__ = ("answers", "asks", "request", "response")

    def __init__(self, request: str, asks: type[Q], response: str, answers: type[A]) -> None:
        self.request = request
        self.asks = asks
        self.response = response
        self.answers = answers

    def encode_request(self, value: Q) -> bytes:
        """Return the content that asks for it."""
        return _encode_content(self.request, value, self.asks)

    def decode_request(self, content: bytes) -> Q:
        """Return what a request of this name carries; for whoever plays the conductor."""
        return _read(_decode_content(content).value, self.asks)

    def encode_response(self, value: A) -> bytes:
        """Return the content that answers it; for whoever plays the conductor."""
        return _encode_content(self.response, value, self.answers)

    def decode_response(self, data: bytes) -> A:
        """Return what the answer carries.

        Raises:
            ConductorError: The answer is that it failed.
            AnswerLostError: It is no answer to this request, or cannot be read.
        """
        try:
            content = _decode_content(data)
            if content.type == self.response:
                return _read(content.value, self.answers)
            if content.type != ERROR:
                raise AnswerLostError(f"cannot use a {content.type} as answer to {self.request}")
            failure = _read(content.value, _Error)
        except UNREADABLE as error:
            raise AnswerLostError(f"cannot read the answer to {self.request}: {error}") from error
        raise ConductorError(self.request, failure.type, failure.value)


def _encode_content(name: str, value: object, form: type[Any]) -> bytes:
    return encode(_Bare(name) if form is NOTHING else Tagged(name, value))


def _read(value: Raw, form: type[T]) -> T:
    """Return `value` as a `form`; where nothing is expected, whatever comes is skipped."""
    return msgspec.msgpack.decode(_NIL if form is NOTHING else value, type=form)
