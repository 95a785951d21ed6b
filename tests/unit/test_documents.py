"""A host's document takes in what is new, and nothing that is older or a stranger's."""

from datetime import UTC, datetime

import pytest

from hivekeeper.core import documents
from hivekeeper.model.allocation import Allocation, Desired, Document, Order
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.ids import Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest, Process

A, B = WorkloadName("a"), WorkloadName("b")


def order(name: WorkloadName, generation: int = 1) -> Order:
    allocation = Allocation(
        workload=name,
        host=HostId("h"),
        revision=Revision(1),
        generation=Generation(generation),
        desired=Desired.RUNNING,
        changed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    manifest = Manifest(name=name, kind=Kind.PROCESS, process=Process(command=("true",)))
    return Order(allocation=allocation, manifest=manifest)


def document(version: int, *orders: Order, cluster: str = "c", epoch: int = 1) -> Document:
    named = {each.allocation.workload: each for each in orders}
    return Document(cluster=cluster, epoch=epoch, version=Sequence(version), orders=named)


def test_all_of_it_replaces_what_was_there() -> None:
    new = document(2, order(B))
    assert documents.merge(document(1, order(A)), new, complete=True, withdrawn=()) == new


def test_changes_replace_add_and_withdraw_and_leave_the_rest() -> None:
    stored = document(1, order(A), order(B))
    new = document(2, order(A, generation=2))
    merged = documents.merge(stored, new, complete=False, withdrawn=(B,))
    assert merged == document(2, order(A, generation=2))
    kept = documents.merge(stored, document(2), complete=False, withdrawn=())
    assert kept.orders == stored.orders


def test_a_part_is_no_beginning() -> None:
    with pytest.raises(TransientError, match="part"):
        documents.merge(None, document(1), complete=False, withdrawn=())


def test_orders_of_another_cluster_are_refused_for_good() -> None:
    with pytest.raises(PermanentError, match="joined c"):
        documents.merge(document(1), document(9, cluster="d"), complete=True, withdrawn=())


@pytest.mark.parametrize("old", [document(1), document(9, epoch=0)])
def test_an_older_document_is_refused(old: Document) -> None:
    with pytest.raises(TransientError, match="newer"):
        documents.merge(document(2), old, complete=True, withdrawn=())


def test_a_new_epoch_comes_whole() -> None:
    new = document(1, order(A), epoch=2)
    assert documents.merge(document(5, order(B)), new, complete=True, withdrawn=()) == new
    with pytest.raises(TransientError, match="epoch"):
        documents.merge(document(5), new, complete=False, withdrawn=())
