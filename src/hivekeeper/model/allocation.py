"""One workload on one host: what is wanted of it, what its host says, and what users see.

Two facts with two owners. `Allocation` is the orchestrator's, `Report` is the host's; neither
writes the other's.
"""

from datetime import datetime
from enum import StrEnum, auto
from typing import Annotated, Any

from msgspec import Meta, Struct

from hivekeeper.model import ids, limits, text
from hivekeeper.model.ids import AllocationId, Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest

Instant = Annotated[datetime, Meta(tz=True)]
"""A time that can be compared with ours."""
Named = Annotated[WorkloadName, text.NAME]


class Desired(StrEnum):
    """What is wanted of an allocation."""

    RUNNING = auto()
    STOPPED = auto()
    UNINSTALLED = auto()


class Actual(StrEnum):
    """The word users see; derived, never stored (core.lifecycle)."""

    REPORTED = auto()
    ASSIGNED = auto()
    PENDING = auto()
    INSTALLED = auto()
    RUNNING = auto()
    UPDATING = auto()
    UPDATED = auto()
    DELETED = auto()
    REMOVED = auto()
    UNINSTALLED = auto()
    ERROR = auto()
    UNKNOWN = auto()


class Workload(Struct, frozen=True, kw_only=True):
    """What a user asked for, as stored: its newest revision and what is wanted of it."""

    name: WorkloadName
    kind: Kind
    revision: Revision
    generation: Generation
    """Grows with every change that hosts must hear of.

    Each allocation carries the one it was last changed at.
    """
    desired: Desired
    held: bool = False
    """Registered only: not placed until a user assigns it."""
    assigned: HostId | None = None
    """Where a user put it, over what the manifest says."""
    purge: bool = False
    restart_nonce: int = 0
    """Grows when a user asks for a restart."""
    created_at: datetime
    changed_at: datetime


class Allocation(Struct, frozen=True, kw_only=True):
    """One workload on one host, as the orchestrator wants it."""

    workload: Named
    host: Annotated[HostId, text.NAME]
    revision: Revision
    generation: Generation
    desired: Desired
    purge: bool = False
    """With UNINSTALLED: its data and keys go too."""
    restart_nonce: int = 0
    changed_at: datetime

    @property
    def id(self) -> AllocationId:
        """The workload and the host."""
        return ids.allocation_id(self.workload, self.host)


class Order(Struct, frozen=True, kw_only=True):
    """An allocation as its host is told: the document's entry.

    Complete, so that a host needs nothing else.

    `(cluster, epoch, generation)` orders them: a host refuses an older one.
    """

    allocation: Allocation
    manifest: Manifest


class Document(Struct, frozen=True, kw_only=True):
    """All that is wanted of one host."""

    cluster: str
    """Which store it comes from: random, made with the store."""
    epoch: int
    """Grows when a store is restored from a backup."""
    version: Sequence
    orders: dict[Named, Order] = {}


class Phase(StrEnum):
    """How far the host is with an allocation, in the host's words."""

    PREPARING = auto()
    """Being installed or changed; nothing of it runs yet."""
    INSTALLED = auto()
    """There, and not running because nobody wants it to, or because it has finished."""
    STARTING = auto()
    READY = auto()
    STOPPING = auto()
    BACKOFF = auto()
    """Failed, and will be tried again at `retry_at`."""
    FAILED = auto()
    """Failed, and given up."""
    REMOVING = auto()
    GONE = auto()
    """Nothing of it is left here, but its data unless that was to go too."""


class Report(Struct, frozen=True, kw_only=True):
    """What a host says of one allocation. The newest one replaces all before it."""

    workload: Named
    generation: Generation
    """Of the order that this is about."""
    revision: Revision
    """Which manifest is applied here; of the last one applied while a new one is on its way."""
    ready_revision: Revision | None = None
    """Which manifest was last seen ready here."""
    phase: Phase
    since: Instant
    pid: int | None = None
    restarts: int = 0
    ports: dict[str, int] = {}
    error: str = ""
    """The last failure, in full; never empty in BACKOFF and FAILED."""
    hint: str = ""
    retry_at: Instant | None = None
    doing: str = ""
    """What is being done just now, for people: `installing the hApp`."""
    finished: bool = False
    """With INSTALLED: it ran, ended, and its policy does not start it again."""
    data_kept: bool = False
    """With GONE: its data is still here."""
    facts: dict[str, Any] = {}
    """What its kind has to tell.

    For a hApp `conductor`, `dna_hashes`, `agent_pub_key`, `app_info`.
    """

    def __post_init__(self) -> None:
        if _is_deeper(self.facts, limits.FACTS_DEPTH):
            raise ValueError(f"facts nest at most {limits.FACTS_DEPTH} deep")


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether more than `depth` containers lie within each other."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(each, depth - 1) for each in inner)


class Host(Struct, frozen=True, kw_only=True):
    """A machine that was let in."""

    id: HostId
    public_key: str
    """Its NATS user key, `U…`."""
    joined_at: datetime
    left_at: datetime | None = None


class Status(Struct, frozen=True, kw_only=True):
    """A row of `hive status`, as users and their scripts see it (design §12)."""

    workload: WorkloadName
    kind: Kind
    revision: Revision
    host: HostId | None
    desired: Desired
    actual: Actual
    payload: dict[str, Any]
    since: datetime
    pid: int | None
    restarts: int
    generation: Generation
    ports: dict[str, int]
