"""The audit chain: every link's hash covers the one before it and the exact bytes of its entry.

Whoever kept a head (a number and a hash) can tell later whether anything up to it was changed,
dropped, added or moved. It cannot tell who did, and it cannot see links cut off after the last
head that anybody kept: publish heads where the owner of the store cannot reach them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from hivekeeper.model.errors import PermanentError
from hivekeeper.model.record import AuditEntry, AuditRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last link of a chain: which, and its hash."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first link that is not what it was, and how that shows, in a sentence."""

    number: int
    because: str


START: Final = Head(number=0, hash="0" * 64)
"""The head of a chain without links."""

_encoder = msgspec.json.Encoder(order="deterministic")


def encode(entry: AuditEntry) -> bytes:
    """Return the canonical bytes of `entry`; equal entries give equal bytes."""
    assert entry.at.utcoffset() == timedelta(0), "times are UTC"
    return _encoder.encode(entry)


def decode(data: bytes) -> AuditEntry:
    """Return the entry in `data`.

    Raises:
        PermanentError: It is none. Links that verify hold what `encode` made.
    """
    try:
        return msgspec.json.decode(data, type=AuditEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PermanentError(
            f"cannot read an audit entry: {error}", hint="Find where with `hive audit verify`."
        ) from error


def link(head: Head, entry: AuditEntry) -> AuditRecord:
    """Return the link that follows `head`."""
    data = encode(entry)
    return AuditRecord(
        number=head.number + 1, previous=head.hash, hash=_hash(head.hash, data), entry=data
    )


def verify(
    links: Iterable[AuditRecord], *, after: Head = START, kept: Head | None = None
) -> Head | Break:
    """Return the head of `links`, or the first link that is not what it was.

    Args:
        links: The links that follow `after`, in order; a long chain goes through page by page.
        after: The head of what was verified before.
        kept: A head that was kept elsewhere. If the chain ends before it, links were cut off:
            compare its number with the last page's head.
    """
    head = after
    for record in links:
        because = _fault(head, record) or _contradiction(record, kept)
        if because:
            return Break(number=head.number + 1, because=because)
        head = Head(number=record.number, hash=record.hash)
    return head


def _hash(previous: str, entry: bytes) -> str:
    """Return the hash of a link. `previous` always has 32 bytes: the two cannot run together."""
    return hashlib.sha256(bytes.fromhex(previous) + entry).hexdigest()


def _fault(head: Head, record: AuditRecord) -> str:
    if record.number != head.number + 1:
        return f"link {record.number} follows link {head.number}"
    if record.previous != head.hash:
        return "it does not follow from the link before it"
    if record.hash != _hash(head.hash, record.entry):
        return "its hash is not that of its content"
    return ""


def _contradiction(record: AuditRecord, kept: Head | None) -> str:
    if kept is not None and record.number == kept.number and record.hash != kept.hash:
        return f"its hash was {kept.hash} when it was kept"
    return ""
