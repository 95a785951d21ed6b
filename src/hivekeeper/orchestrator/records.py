"""What the orchestrator stores for itself: shapes of records, and how their keys are made."""

import hashlib
from datetime import datetime

from msgspec import Struct

from hivekeeper.model.ids import HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.record import ABSENT
from hivekeeper.wire.api import WorkloadAnswer


class Cluster(Struct, frozen=True, kw_only=True):
    """Which store this is."""

    cluster: str
    """Random, made with the store."""
    epoch: int
    """Grows when the store is restored from a backup."""


CLUSTER_KEY = "self"


class Heard(Struct, frozen=True, kw_only=True):
    """The number of a host's last report that was stored."""

    number: int


class Invitation(Struct, frozen=True, kw_only=True):
    """A name that is kept for whoever has the token; the token itself is not stored."""

    host: HostId
    expires_at: datetime


class Withdrawal(Struct, frozen=True, kw_only=True):
    """An order that is gone from a host's document."""

    workload: WorkloadName
    after: Sequence
    """The last version of the document that had it."""


class Withdrawals(Struct, frozen=True, kw_only=True):
    """What a document says of itself: all that its host may not know to be gone."""

    withdrawn: tuple[Withdrawal, ...] = ()


class Remembered(Struct, frozen=True, kw_only=True):
    """What was answered to a request with an idempotency key."""

    request: str
    """SHA-256 of all that was asked, hex."""
    answer: WorkloadAnswer
    sequence: Sequence = ABSENT
    """Of the workload then; ABSENT: it was written together with this."""
    until: datetime


def placed(host: HostId, workload: WorkloadName) -> str:
    """Return the key of an allocation, and of its report."""
    return f"{host}/{workload}"


def revision(workload: WorkloadName, number: Revision) -> str:
    """Return the key of a manifest."""
    return f"{workload}/{number:010}"


def secret_key(text: str) -> str:
    """Return the key of a record that is found by a text which is not stored."""
    return hashlib.sha256(text.encode()).hexdigest()
