"""What is said on the HTTP API, where the model's own types are not enough.

JSON; the types are the definition, and `/v1/openapi.json` is made from them. No I/O.
"""

from datetime import datetime
from enum import StrEnum, auto
from typing import Annotated

from msgspec import Struct

from hivekeeper.model.allocation import Status, Workload
from hivekeeper.model.ids import HostId, Sequence
from hivekeeper.model.manifest import Manifest
from hivekeeper.model.text import NAME


class WorkloadAnswer(Struct, frozen=True, kw_only=True):
    """What a word about a workload came to; with `dry_run`, what it would come to."""

    workload: Workload
    changed: bool
    """Whether anything was to be stored at all."""
    changes: tuple[str, ...] = ()
    """Fields of the manifest that are not as they were, by path."""


class WorkloadDetail(Struct, frozen=True, kw_only=True):
    """All of one workload."""

    workload: Workload
    manifest: Manifest
    """Of its newest revision."""
    allocations: list[Status]


class Assignment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to put a workload."""

    host: Annotated[HostId, NAME]


class LogText(Struct, frozen=True, kw_only=True):
    """A piece of a workload's log."""

    run: int
    offset: int
    """Where to go on."""
    text: str
    """What is no UTF-8 in the log is replaced."""
    more: bool
    """There is more already."""
    ended: bool
    """That run is over: no more will come."""


class HostState(StrEnum):
    """Whether a host is heard of."""

    READY = auto()
    SILENT = auto()
    """Not for longer than its lease; what it runs shows as `unknown`."""


class HostRow(Struct, frozen=True, kw_only=True):
    """A host, and when it was heard of."""

    id: HostId
    state: HostState
    joined_at: datetime
    heard_at: datetime | None
    """None: not since the orchestrator started."""
    allocations: int
    version: Sequence
    """Of the document that is meant for it."""
    fetched: Sequence
    """Of the document that it has; 0: it has not asked since the orchestrator started."""


class Invited(Struct, frozen=True, kw_only=True):
    """An invitation: a secret that lets one host in, once."""

    host: HostId
    invitation: str
    expires_at: datetime


class EventRow(Struct, frozen=True, kw_only=True):
    """Something that happened."""

    sequence: Sequence
    """Give the last one's as `after` to read on; several events may share one."""
    at: datetime
    workload: str
    host: str | None
    what: str
    because: str


class BlobStored(Struct, frozen=True, kw_only=True):
    """A blob that is there."""

    sha256: str
    size: int


class Health(Struct, frozen=True, kw_only=True):
    """It answers."""

    status: str = "ok"


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was not done (RFC 9457, `application/problem+json`)."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """What is wrong: `cannot <verb> <object>: <cause>`."""
    hint: str = ""
    """What to do about it."""
    field: str = ""
    """The path of the offending field, parameter or header."""
    request_id: str
