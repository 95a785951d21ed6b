"""What is said on the hub, as JSON.

Requests and replies carry `v`; an unknown version is refused, unknown fields are not.
"""

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from hivekeeper.model import ids, limits
from hivekeeper.model.allocation import Document, Named, Report
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import Sequence, WorkloadName
from hivekeeper.model.text import Sha256

VERSION: Final = 1

M = TypeVar("M", bound=Struct)

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What others say of how many and which one: fits a file's offset and a store's column."""


class DocumentRequest(Struct, frozen=True, kw_only=True):
    """A host asks for its document. This request is also its sign of life."""

    v: int = VERSION
    cluster: str = ""
    """Of the document it has; empty: it has none."""
    epoch: Count = 0
    since: Annotated[Sequence, Meta(ge=0, le=2**63 - 1)] = Sequence(0)
    """The version it has stored."""


class DocumentReply(Struct, frozen=True, kw_only=True):
    """What is new since then: all of it (`complete`), or only the orders that changed."""

    v: int = VERSION
    complete: bool
    document: Document
    withdrawn: tuple[Named, ...] = ()
    """Without `complete`: orders that are no longer there."""
    poll_s: float = limits.HOST_POLL_S
    """When to ask again, in seconds; grows with the fleet."""


class ReportMessage(Struct, frozen=True, kw_only=True):
    """All that has changed on a host since the last acknowledged number; repeated until then."""

    v: int = VERSION
    number: Count
    """Grows by one with every new message, also over restarts of the host agent."""
    complete: bool = False
    """Everything there is to say, not only what has changed: what is missing is not there."""
    reports: Annotated[tuple[Report, ...], Meta(max_length=limits.ALLOCATIONS_PER_HOST)]


class ReportReply(Struct, frozen=True, kw_only=True):
    """Stored."""

    v: int = VERSION
    number: int


class BlobRequest(Struct, frozen=True, kw_only=True):
    """A piece of a blob, from `offset`."""

    v: int = VERSION
    sha256: Sha256
    offset: Count


class BlobReply(Struct, frozen=True, kw_only=True):
    """At most `CHUNK_BYTES` of it."""

    v: int = VERSION
    size: int
    data: bytes


class LogRequest(Struct, frozen=True, kw_only=True):
    """A piece of a workload's log."""

    v: int = VERSION
    workload: Named
    back: Annotated[int, Meta(ge=0, le=limits.LOG_RUNS)] = 0
    """0: the present or last run; 1: the one before, …"""
    run: Count | None = None
    """Which run exactly; over `back`."""
    offset: Count | None = None
    """Where to go on; none: `tail` lines before the end."""
    tail: Annotated[int, Meta(ge=0, le=100_000)] = 100


class LogReply(Struct, frozen=True, kw_only=True):
    """At most `CHUNK_BYTES` of the log."""

    v: int = VERSION
    run: int
    offset: int
    """Where to go on."""
    data: bytes
    more: bool
    """There is more already."""
    ended: bool
    """That run is over: no more will come."""


class JoinRequest(Struct, frozen=True, kw_only=True):
    """Let me in: a one-time token, and the public half of a key that never leaves its host."""

    v: int = VERSION
    token: Annotated[str, Meta(max_length=256)]
    public_key: Annotated[str, Meta(pattern="^U[A-Z2-7]{55}" + ids.END)]


class JoinReply(Struct, frozen=True, kw_only=True):
    """Let in, under this name. Nothing secret: everybody who holds an invitation could read it."""

    v: int = VERSION
    host: str
    cluster: str


class Route(Struct, frozen=True, kw_only=True):
    """Which functions of which app may be called on which host."""

    app_id: str
    workload: WorkloadName
    host: str
    functions: tuple[str, ...]


class RoutesReply(Struct, frozen=True, kw_only=True):
    """All routes."""

    v: int = VERSION
    routes: tuple[Route, ...]


RefusalKind = Literal["user", "not-found", "conflict", "permission", "transient", "permanent"]


class Refusal(Struct, frozen=True, kw_only=True):
    """The answer to a request that was refused or failed: a `HiveError` on its way to the asker.

    A bus marks such a reply outside its payload, so that no other payload can pass for one.
    """

    v: int = VERSION
    kind: RefusalKind
    message: str
    hint: str = ""
    field: str = ""
    retry_after_s: float = 1.0


_KINDS: Final[dict[type[HiveError], RefusalKind]] = {  # special ones first
    NotFoundError: "not-found",
    ConflictError: "conflict",
    PermissionRefusedError: "permission",
    UserError: "user",
    TransientError: "transient",
    PermanentError: "permanent",
}
_USER_ERRORS: Final = {kind: form for form, kind in _KINDS.items() if issubclass(form, UserError)}
_REFUSAL_CHARACTERS: Final = 16_384
"""Kept of each text of a refusal: a whole error with its context, but no flood."""


def refusal(error: HiveError) -> Refusal:
    """Return `error` as it is sent to whoever asked."""
    kinds = (kind for form, kind in _KINDS.items() if isinstance(error, form))
    return Refusal(
        kind=next(kinds, "permanent"),
        message=str(error)[:_REFUSAL_CHARACTERS],
        hint=getattr(error, "hint", "")[:_REFUSAL_CHARACTERS],
        field=getattr(error, "field", "")[:_REFUSAL_CHARACTERS],
        retry_after_s=getattr(error, "retry_after_s", 1.0),
    )


def refused(refusal: Refusal) -> HiveError:
    """Return the error that a refusal stands for, to be raised again where it was asked."""
    match refusal.kind:
        case "transient":
            return TransientError(refusal.message, retry_after_s=refusal.retry_after_s)
        case "permanent":
            return PermanentError(refusal.message, hint=refusal.hint)
        case kind:
            form = _USER_ERRORS[kind]
            return form(refusal.message, hint=refusal.hint, field=refusal.field)


_encoder = msgspec.json.Encoder(order="deterministic")


def encode(message: Struct) -> bytes:
    """Return the bytes of `message`; equal messages give equal bytes."""
    return _encoder.encode(message)


def decode(data: bytes, form: type[M]) -> M:
    """Return the message in `data`; raises `UserError` for all that is not a whole, known one."""
    if len(data) > limits.MESSAGE_BYTES:
        raise UserError(
            f"cannot read a {form.__name__} of {len(data)} bytes:"
            f" larger than {limits.MESSAGE_BYTES}"
        )
    try:
        version = msgspec.json.decode(data, type=_Versioned).v
        if version != VERSION:
            raise UserError(
                f"cannot read a {form.__name__} of version {version}: this is version {VERSION}"
            )
        return msgspec.json.decode(data, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"cannot read a {form.__name__}: {error}") from error


class _Versioned(Struct):
    """What every version of every message has."""

    v: int = VERSION
