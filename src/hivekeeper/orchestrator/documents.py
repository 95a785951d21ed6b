"""What a host is told when it asks for its document: all of it, or only what is new to it.

A document is as large as its orders; a reply is bounded. What does not fit comes with the next
request: the version in the reply is how far it went. A commit's orders for one host are never
split, so whoever commits sees to it that they fit (`ORDERS_BYTES`).
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Document, Order
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.orchestrator.fleet import Fleet, Kept, Write
from hivekeeper.orchestrator.records import Withdrawal, Withdrawals
from hivekeeper.wire import messages
from hivekeeper.wire.messages import DocumentReply, DocumentRequest

ORDERS_BYTES: Final = limits.MESSAGE_BYTES // 4
"""Of one commit, for one host, if it is more than one: fits a reply that is half full."""
_REPLY_BYTES: Final = limits.MESSAGE_BYTES // 2


def has(fleet: Fleet, request: DocumentRequest) -> Sequence | None:
    """Return which version of this store's document the asker has; None: one of another store."""
    cluster = fleet.cluster
    same = (request.cluster, request.epoch) == (cluster.cluster, cluster.epoch)
    return request.since if same else None


def reply(fleet: Fleet, host: HostId, request: DocumentRequest, *, poll_s: float) -> DocumentReply:
    """Return what is new to `host`."""
    version = fleet.documents.sequence(host)
    since = has(fleet, request) or Sequence(0)
    complete = not 0 < since <= version
    news = fleet.allocations_on(host)
    if not complete:
        news = [kept for kept in news if kept.sequence > since]
    orders, reached = _page(fleet, news, version)
    document = Document(
        cluster=fleet.cluster.cluster, epoch=fleet.cluster.epoch, version=reached, orders=orders
    )
    withdrawn = () if complete else tuple(_withdrawn(fleet, host, since))
    return DocumentReply(complete=complete, document=document, withdrawn=withdrawn, poll_s=poll_s)


def size(order: Struct) -> int:
    """Return how many bytes of a reply `order` takes."""
    return len(messages.encode(order))


def bump(fleet: Fleet, host: HostId, gone: list[WorkloadName], *, fetched: Sequence) -> Write:
    """Return the write that gives the document of `host` a new version.

    Args:
        fleet: As it is before.
        host: Whose allocations change in the same commit.
        gone: Orders that the new version no longer has.
        fetched: Which version the host has: what it knows to be gone is forgotten.
    """
    version = fleet.documents.sequence(host)
    before = fleet.documents.get(host) or Withdrawals()
    kept = [each for each in before.withdrawn if each.after >= fetched]
    new = [Withdrawal(workload=name, after=version) for name in gone]
    withdrawn = tuple((kept + new)[-limits.ALLOCATIONS_PER_HOST :])
    return fleet.documents.put(host, Withdrawals(withdrawn=withdrawn))


def _page(
    fleet: Fleet, news: list[Kept[Allocation]], version: Sequence
) -> tuple[dict[WorkloadName, Order], Sequence]:
    """Return as many orders as fit, oldest first and whole commits only, and how far they go."""
    orders: dict[WorkloadName, Order] = {}
    reached, total = Sequence(0), 0
    for kept in sorted(news, key=lambda kept: kept.sequence):
        if total > _REPLY_BYTES and kept.sequence > reached:
            return orders, reached
        order = Order(allocation=kept.value, manifest=fleet.manifest(kept.value))
        orders[kept.value.workload] = order
        reached, total = kept.sequence, total + size(order)
    return orders, version


def _withdrawn(fleet: Fleet, host: HostId, since: Sequence) -> Iterator[WorkloadName]:
    document = fleet.documents.get(host)
    for each in document.withdrawn if document is not None else ():
        if each.after >= since:
            yield each.workload
