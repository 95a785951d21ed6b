"""A user's write as it reached us: who asked, exactly what, and on which conditions."""

from datetime import datetime

from msgspec import Struct

from hivekeeper.model.errors import ConflictError
from hivekeeper.model.ids import Sequence
from hivekeeper.model.record import ABSENT, AuditEntry


class StaleError(ConflictError):
    """The asker had something else in mind than what is there (If-Match). HTTP 412."""


class Command(Struct, frozen=True, kw_only=True):
    """A user's write."""

    actor: str
    """The token's name."""
    request_id: str
    body: bytes = b""
    """Exactly as it came."""
    digest: str = ""
    """SHA-256 of all that was asked, hex: equal requests have equal ones."""
    idempotency_key: str | None = None
    match: frozenset[str] = frozenset()
    """ETags, one of which what is there must have; `*`: anything must be there; none: whatever."""

    def audit(self, action: str, target: str, at: datetime) -> AuditEntry:
        """Return what the audit chain says of it."""
        return AuditEntry(
            at=at,
            actor=self.actor,
            action=action,
            target=target,
            request_id=self.request_id,
            body=self.body,
        )

    def check_match(self, name: str, sequence: Sequence) -> None:
        """Raise `StaleError` unless what is there, as `sequence` wrote it, is what was meant."""
        there = {"*", etag(sequence)} if sequence != ABSENT else set()
        if self.match and not self.match & there:
            found = f"is at {etag(sequence)}" if there else "is not there"
            raise StaleError(
                f"cannot change {name}: it {found}, not at {' or '.join(sorted(self.match))}",
                hint="it was changed meanwhile: look at it again, then decide",
                field="If-Match",
            )


def etag(sequence: Sequence) -> str:
    """Return the ETag of what `sequence` wrote."""
    return f'"{sequence}"'
