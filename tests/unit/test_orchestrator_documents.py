"""Documents: a host ends with exactly its orders, whatever it has, whatever it missed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivekeeper.core import documents
from hivekeeper.model import limits
from hivekeeper.model.allocation import Desired, Document, Phase
from hivekeeper.model.errors import PermissionRefusedError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import DocumentReply, DocumentRequest, ReportMessage
from orchestrating import Parts, command, manifest, parts, report

HOME = HostId("home")


async def ask(there: Parts, had: Document | None = None, host: HostId = HOME) -> DocumentReply:
    request = DocumentRequest(
        cluster=had.cluster if had else "",
        epoch=had.epoch if had else 0,
        since=had.version if had else Sequence(0),
    )
    answer = await there.made.hosts.document(subjects.document(host), messages.encode(request))
    assert len(answer) <= limits.MESSAGE_BYTES
    return messages.decode(answer, DocumentReply)


async def fetch(there: Parts, had: Document | None = None) -> Document:
    """Ask once, and take it in as a host does."""
    reply = await ask(there, had)
    return documents.merge(had, reply.document, complete=reply.complete, withdrawn=reply.withdrawn)


async def removed(there: Parts, name: str) -> None:
    """Have a workload purged, and its host confirm that nothing is left."""
    await there.made.service.delete(command(), WorkloadName(name), purge=True)
    await there.place()
    (kept,) = there.made.fleet.allocations_of(WorkloadName(name))
    gone = report(name, Phase.GONE, generation=kept.value.generation)
    await there.deliver(HOME, ReportMessage(number=next_number(there), reports=(gone,)))
    await there.place()


def next_number(there: Parts) -> int:
    heard = there.made.fleet.heard.get(HOME)
    return 1 if heard is None else heard.number + 1


async def test_a_host_without_a_document_gets_all_of_it() -> None:
    there = await parts("home")
    for name in ("a", "b"):
        await there.apply(manifest(name))
    await there.place()
    reply = await ask(there)
    assert reply.complete
    assert sorted(reply.document.orders) == ["a", "b"]
    order = reply.document.orders[WorkloadName("a")]
    assert order.manifest == there.made.fleet.manifest(order.allocation)
    assert reply.document.version == there.made.fleet.documents.sequence(HOME)


async def test_a_host_that_has_nothing_to_do_is_told_so() -> None:
    document = await fetch(await parts("home"))
    assert (document.version, document.orders) == (0, {})


async def test_what_is_for_another_host_is_not_told() -> None:
    there = await parts("home", "attic")
    await there.apply(manifest("a", placement="{host: attic}"))
    await there.place()
    assert (await ask(there)).document.orders == {}
    assert list((await ask(there, host=HostId("attic"))).document.orders) == ["a"]


async def test_afterwards_it_gets_only_what_is_new() -> None:
    there = await parts("home")
    await there.apply(manifest("a"))
    await there.place()
    had = await fetch(there)
    reply = await ask(there, had)
    assert (reply.complete, reply.document.orders, reply.withdrawn) == (False, {}, ())
    await there.apply(manifest("b"))
    await there.place()
    assert list((await ask(there, had)).document.orders) == ["b"]


async def test_a_change_of_what_it_has_is_told_again() -> None:
    there = await parts("home")
    await there.apply(manifest("a"))
    await there.place()
    had = await fetch(there)
    await there.made.service.run(command(), WorkloadName("a"), "stop")
    await there.place()
    order = (await ask(there, had)).document.orders[WorkloadName("a")]
    assert order.allocation.desired is Desired.STOPPED


async def test_what_is_gone_is_withdrawn_until_it_is_known_that_the_host_has_heard() -> None:
    there = await parts("home")
    for name in ("a", "b", "c"):
        await there.apply(manifest(name))
    await there.place()
    had = await fetch(there)
    await removed(there, "a")
    assert (await ask(there, had)).withdrawn == ("a",)
    now = await fetch(there, had)
    assert list(now.orders) == ["b", "c"]
    assert (await ask(there, now)).withdrawn == ()
    await removed(there, "b")
    document = there.made.fleet.documents.get(HOME)
    assert document is not None
    assert [each.workload for each in document.withdrawn] == ["b"]


@pytest.mark.parametrize("change", ["cluster", "epoch", "since"])
async def test_a_document_of_another_store_or_time_is_replaced_as_a_whole(change: str) -> None:
    there = await parts("home")
    await there.apply(manifest("a"))
    await there.place()
    had = await fetch(there)
    asked = {
        "cluster": Document(cluster="another", epoch=1, version=had.version),
        "epoch": Document(cluster=had.cluster, epoch=0, version=had.version),
        "since": Document(cluster=had.cluster, epoch=1, version=Sequence(had.version + 100)),
    }
    reply = await ask(there, asked[change])
    assert (reply.complete, list(reply.document.orders)) == (True, ["a"])


async def test_who_does_not_belong_to_the_fleet_gets_no_answer() -> None:
    there = await parts("home")
    with pytest.raises(PermissionRefusedError, match="does not belong to the fleet"):
        await ask(there, host=HostId("stranger"))
    await there.made.membership.leave(command(), HOME, force=False)
    with pytest.raises(PermissionRefusedError):
        await ask(there)


async def test_a_document_larger_than_a_message_comes_in_pieces() -> None:
    there = await parts("home")
    long = "{command: [sleep, '" + "x" * 60_000 + "']}"
    for number in range(30):
        await there.apply(manifest(f"w{number}", process=long))
    await there.place()
    document, requests = await fetch(there), 1
    while document.version < there.made.fleet.documents.sequence(HOME):
        document, requests = await fetch(there, document), requests + 1
    assert len(document.orders) == 30
    assert 3 <= requests <= 8


async def test_what_is_gone_is_not_forgotten_while_the_host_has_the_version_that_had_it() -> None:
    there = await parts("home")
    for name in ("a", "b"):
        await there.apply(manifest(name))
    await there.place()
    await there.made.service.delete(command(), WorkloadName("a"), purge=True)
    await there.place()
    had = await fetch(there)
    had = await fetch(there, had)  # says so what it has
    await confirm(there, had)
    await there.place()
    await there.made.service.run(command(), WorkloadName("b"), "stop")
    await there.place()
    assert (await ask(there, had)).withdrawn == ("a",)


async def confirm(there: Parts, had: Document) -> None:
    """Have the host report that nothing is left of all that it was told to remove."""
    reports = [
        report(name, Phase.GONE, generation=order.allocation.generation)
        for name, order in had.orders.items()
        if order.allocation.desired is Desired.UNINSTALLED
    ]
    message = ReportMessage(number=next_number(there), reports=tuple(reports))
    await there.deliver(HOME, message)


steps = st.tuples(
    st.sampled_from(["apply", "change", "stop", "delete", "confirm", "fetch", "fetch", "forget"]),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(steps, min_size=10, max_size=30))
@settings(max_examples=25, deadline=None)
async def test_whenever_a_host_fetches_it_ends_with_exactly_its_orders(
    history: list[tuple[str, str]],
) -> None:
    there = await parts("home")
    had: Document | None = None
    for count, (what, name) in enumerate(history):
        match what:
            case "apply" | "change":
                retries = count if what == "change" else 5
                await there.apply(manifest(name, restart=f"{{max_retries: {retries}}}"))
            case "stop" if there.wanted(name):
                await there.made.service.run(command(), WorkloadName(name), "stop")
            case "delete" if there.wanted(name):
                await there.made.service.delete(command(), WorkloadName(name), purge=True)
            case "confirm" if had is not None:
                await confirm(there, had)
            case "fetch":
                had = await fetch(there, had)
            case "forget":
                had = None
        await there.place()
    had = await fetch(there, had)
    stored = {kept.value.workload: kept.value for kept in there.made.fleet.allocations_on(HOME)}
    assert {name: order.allocation for name, order in had.orders.items()} == stored
