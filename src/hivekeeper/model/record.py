"""What a store holds: records by kind and key, changes that compare and set, and the audit chain.

Values are opaque bytes here: the store never looks into them, and the audit chain is over exactly
these bytes.
"""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum, auto

from msgspec import Struct

from hivekeeper.model import limits
from hivekeeper.model.errors import ConflictError
from hivekeeper.model.ids import Sequence

ABSENT = Sequence(0)
"""What to expect of a record that must not be there."""


class RecordKind(StrEnum):
    """What a record is about; each kind's key is named here."""

    CLUSTER = auto()
    """`self`: identity and epoch."""
    WORKLOAD = auto()
    """Its name."""
    MANIFEST = auto()
    """`<workload>/<revision>`, the revision with leading zeros to ten digits."""
    ALLOCATION = auto()
    """`<host>/<workload>`."""
    REPORT = auto()
    """`<host>/<workload>`."""
    HOST = auto()
    """Its id."""
    HEARD = auto()
    """A host's id: the number of its last report that was stored."""
    INVITATION = auto()
    """SHA-256 of the token, hex."""
    DOCUMENT = auto()
    """A host's id; the record's sequence is the version of the host's document."""
    EVENT = auto()
    """When, and a number: sorts by time."""
    IDEMPOTENCY = auto()
    """SHA-256 of the key, hex."""


class Record(Struct, frozen=True, kw_only=True):
    """A value that is stored."""

    kind: RecordKind
    key: str
    sequence: Sequence
    """Which commit wrote it; give it as `expected` to change it."""
    value: bytes


class Put(Struct, frozen=True, kw_only=True):
    """Write `value` if the record's sequence is still `expected`; ABSENT: if there is none."""

    kind: RecordKind
    key: str
    expected: Sequence
    value: bytes

    def __post_init__(self) -> None:
        _assert_key(self.key)
        assert len(self.value) <= limits.RECORD_BYTES, "a record is bounded"


class Delete(Struct, frozen=True, kw_only=True):
    """Remove the record if its sequence is still `expected`; ABSENT: see that there is none."""

    kind: RecordKind
    key: str
    expected: Sequence

    def __post_init__(self) -> None:
        _assert_key(self.key)


Change = Put | Delete


def _assert_key(key: str) -> None:
    """Keys sort alike, byte by byte or letter by letter, in every store: printable ASCII."""
    assert 0 < len(key) <= limits.KEY_LENGTH, "a key is bounded"
    assert key.isascii(), "a key is ASCII"
    assert key.isprintable(), "a key is printable"


def conflict(change: Change, found: Sequence) -> ConflictError | None:
    """Return why `change` cannot be made to a record that is at `found`, or None if it can."""
    if found == change.expected:
        return None
    there = "it is not there" if found == ABSENT else f"it is at {found}"
    wanted = "expected none" if change.expected == ABSENT else f"expected {change.expected}"
    return ConflictError(
        f"cannot change {change.kind} `{change.key}`: {there}, {wanted}",
        hint="It was changed meanwhile: look at it again, then decide.",
    )


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A user's write, before it is chained."""

    at: datetime
    actor: str
    """Who: the token's name."""
    action: str
    """`apply`, `delete`, `assign`, …"""
    target: str
    request_id: str
    body: bytes
    """What was asked, exactly as stored."""


class AuditRecord(Struct, frozen=True, kw_only=True):
    """A link of the chain: `hash` covers `previous` and the entry's exact bytes."""

    number: int
    """1, 2, 3, … without a gap."""
    previous: str
    hash: str
    entry: bytes
    """The entry's canonical bytes (core.audit)."""


def assert_commit(changes: Collection[Change], audit: AuditEntry | None) -> None:
    """Every store begins a commit with this: what fails here is a bug of whoever commits."""
    assert changes or audit is not None, "a commit has something to say"
    assert len(changes) <= limits.COMMIT_CHANGES, "a commit is bounded"
    named = {(change.kind, change.key) for change in changes}
    assert len(named) == len(changes), "a commit names no record twice"


class Event(Struct, frozen=True, kw_only=True):
    """Something worth telling a person, with its reason."""

    at: datetime
    workload: str
    host: str | None = None
    what: str
    """One word: `placed`, `running`, `error`, `deleted`, …"""
    because: str
