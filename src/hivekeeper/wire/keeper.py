"""What is said on the keeper's socket: one JSON document a line, each with its `type`.

The client begins with `hello` and the versions it speaks; the keeper answers `welcome` with the
highest that both do, or `refused`, and closes. Then requests are answered in order: `hold` and
`restart` with `held`, `list` with a `held` for each program and `done`, `release` and `shutdown`
with `done` once that is so, `changes` with a `held` whenever there is something to say, for good.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from hivekeeper.model import limits
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.program import ProgramSpec, ProgramStatus

VERSIONS: Final = (1,)
"""That this release speaks."""

SOCKET: Final = "keeper.sock"
"""In the keeper's folder."""


class _Message(Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Anything on the socket."""


class Hello(_Message, frozen=True):
    """From the client, first."""

    versions: Annotated[tuple[int, ...], Meta(min_length=1, max_length=64)]


class Welcome(_Message, frozen=True):
    """From the keeper, first."""

    version: int
    """Spoken from here on."""
    release: str
    """Of the keeper's program."""
    pid: int


class Hold(_Message, frozen=True):
    """Hold this program so. Also what the keeper keeps on disk of it."""

    spec: ProgramSpec
    wanted: bool
    generation: Annotated[Generation, Meta(ge=0)]


class Restart(_Message, frozen=True):
    """Stop it and start it again."""

    program: ProgramId


class Release(_Message, frozen=True):
    """Stop it, forget it."""

    program: ProgramId
    logs: bool
    """Its logs go too."""


class List(_Message, frozen=True):
    """Say what is held."""


class Changes(_Message, frozen=True):
    """Say what is held, then what changes. Nothing else can be asked on this connection."""


class Shutdown(_Message, frozen=True):
    """Stop everything, and end. What was wanted stays wanted: the next keeper starts it."""

    last: tuple[ProgramId, ...] = ()
    """Stopped after all others, one after another in this order."""


class Held(_Message, frozen=True):
    """How a program is."""

    status: ProgramStatus


class Done(_Message, frozen=True):
    """The request is fulfilled."""


class Refused(_Message, frozen=True):
    """The request is not."""

    error: str
    """One of `ERRORS`."""
    message: str
    hint: str = ""


Request = Hold | Restart | Release | List | Changes | Shutdown
Reply = Welcome | Held | Done | Refused

ERRORS: Final[dict[str, type[HiveError]]] = {
    "conflict": ConflictError,
    "not_found": NotFoundError,
    "permission": PermissionRefusedError,
    "user": UserError,
    "transient": TransientError,
    "permanent": PermanentError,
}
"""Errors that travel: the first whose class fits is sent, and its class is raised again."""

_encoder = msgspec.json.Encoder(order="deterministic")
_hello = msgspec.json.Decoder(Hello)
_request = msgspec.json.Decoder(Request)
_reply = msgspec.json.Decoder(Reply)


def line(message: Request | Reply | Hello) -> bytes:
    """Return the message as it is sent; JSON has no bare newline, so that a line is a message."""
    return _encoder.encode(message) + b"\n"


def read_hello(data: bytes) -> Hello:
    """Return the client's first line; raises `UserError`."""
    hello: Hello = _read(data, _hello, "a greeting")
    return hello


def read_request(data: bytes) -> Request:
    """Return a request; raises `UserError` for anything that is not a whole, known one."""
    request: Request = _read(data, _request, "a request")
    return request


def read_reply(data: bytes) -> Reply:
    """Return a reply; raises `UserError` for anything that is not a whole, known one."""
    reply: Reply = _read(data, _reply, "the keeper's reply")
    return reply


def _read(data: bytes, decoder: msgspec.json.Decoder[Any], what: str) -> Any:
    if len(data) > limits.KEEPER_LINE_BYTES:
        raise UserError(f"cannot read {what}: longer than {limits.KEEPER_LINE_BYTES} bytes")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {what}: {error}") from error


def agree(versions: tuple[int, ...]) -> int:
    """Return the version to speak with who speaks `versions`; raises `PermanentError`."""
    common = set(versions) & set(VERSIONS)
    if not common:
        raise PermanentError(
            f"cannot talk to the keeper: it speaks version {_words(VERSIONS)}, "
            f"the client {_words(versions)}",
            hint="use the same release of hive for both, or restart the keeper: programs stay up",
        )
    return max(common)


def _words(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions))


def refusal(error: HiveError) -> Refused:
    """Return how `error` is told."""
    code = next(code for code, form in ERRORS.items() if isinstance(error, form))
    return Refused(error=code, message=str(error), hint=getattr(error, "hint", ""))


def error(refused: Refused) -> HiveError:
    """Return what was told as the error it was."""
    form = ERRORS.get(refused.error, PermanentError)
    if issubclass(form, UserError | PermanentError):
        return form(refused.message, hint=refused.hint)
    return form(refused.message)
