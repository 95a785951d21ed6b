"""Users' verbs: stored whole and audited before they are answered, and only once."""

from collections.abc import Sequence as SequenceOf
from typing import Any

import msgspec
import pytest

from hivekeeper.core import audit as chain
from hivekeeper.model import limits
from hivekeeper.model.allocation import Desired
from hivekeeper.model.errors import ConflictError, NotFoundError, TransientError, UserError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.record import AuditEntry, Change, Put, RecordKind
from hivekeeper.orchestrator.commands import StaleError, etag
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import manifests
from orchestrating import NoBlobs, command, manifest, parts

NOTES = WorkloadName("notes")
SHA256 = "a" * 64
HAPP = manifest(kind="holochain", process="", holochain=f"{{happ: 'blob:{SHA256}'}}").replace(
    "process: \n", ""
)


async def test_an_applied_manifest_is_stored_with_its_event_and_its_audit_entry() -> None:
    there = await parts()
    outcome = await there.apply(manifest(), body=b"exactly this", request_id="r7")
    fleet = there.made.fleet
    stored = fleet.workloads.kept[NOTES]
    assert (stored.value, stored.sequence) == (outcome.answer.workload, outcome.sequence)
    assert fleet.manifest(stored.value).name == NOTES
    assert there.told() == [("applied", "revision 1 is to be running")]
    (link,) = await there.store.audit()
    entry = chain.decode(link.entry)
    said = (entry.actor, entry.action, entry.target, entry.request_id, entry.body)
    assert said == ("admin", "apply", "notes", "r7", b"exactly this")


async def test_the_same_manifest_again_is_neither_stored_nor_audited() -> None:
    there = await parts()
    first = await there.apply(manifest())
    again = await there.apply(manifest())
    assert (again.answer.changed, again.sequence) == (False, first.sequence)
    assert again.answer.changes == ()
    assert there.made.fleet.sequence == first.sequence
    assert len(await there.store.audit()) == 1


async def test_a_changed_manifest_is_a_new_revision_and_says_what_changed() -> None:
    there = await parts()
    await there.apply(manifest())
    outcome = await there.apply(manifest(restart="{max_retries: 7}"))
    assert outcome.answer.workload.revision == 2
    assert outcome.answer.changes == ("restart.max_retries",)


async def test_only_the_newest_revisions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REVISIONS_KEPT", 3)
    there = await parts()
    for retries in range(1, 6):
        await there.apply(manifest(restart=f"{{max_retries: {retries}}}"))
    revisions = sorted(there.made.fleet.manifests.kept)
    assert revisions == [f"notes/{number:010}" for number in (3, 4, 5)]


async def test_a_revision_that_a_host_was_told_is_kept_until_it_is_told_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "REVISIONS_KEPT", 2)
    there = await parts("home")
    await there.apply(manifest())
    await there.place()
    for retries in range(1, 5):
        await there.apply(manifest(restart=f"{{max_retries: {retries}}}"))
    assert there.made.fleet.revisions(NOTES) == [1, 4, 5]
    await there.place()
    await there.apply(manifest())
    assert there.made.fleet.revisions(NOTES) == [5, 6]


async def test_a_preview_says_what_would_change_and_changes_nothing() -> None:
    there = await parts()
    await there.apply(manifest())
    before = there.made.fleet.sequence
    text = manifest(restart="{max_retries: 7}")
    (wanted,) = manifests.decode(text.encode(), source="test")
    answer = there.made.service.preview(wanted, hold=False)
    assert (answer.changed, answer.workload.revision) == (True, 2)
    assert answer.changes == ("restart.max_retries",)
    assert there.made.fleet.sequence == before


async def test_a_new_life_under_an_old_name_begins_with_a_greater_generation() -> None:
    there = await parts()
    await there.apply(manifest())
    for _ in range(3):
        await there.made.service.run(command(), NOTES, "start")
    last = there.made.fleet.workloads.kept[NOTES].value.generation
    await there.made.service.delete(command(), NOTES, purge=True)
    await there.place()
    assert there.made.fleet.workloads.get(NOTES) is None
    outcome = await there.apply(manifest())
    assert outcome.answer.workload.generation > last + 1


async def test_each_verb_changes_what_is_wanted_and_is_told_and_audited() -> None:
    there = await parts("home")
    service = there.made.service
    await there.apply(manifest())
    wanted = [
        (await service.run(command(), NOTES, "stop")).answer.workload.desired,
        (await service.run(command(), NOTES, "start")).answer.workload.desired,
        (await service.run(command(), NOTES, "restart")).answer.workload.restart_nonce,
        (await service.assign(command(), NOTES, HostId("home"))).answer.workload.assigned,
        (await service.delete(command(), NOTES, purge=False)).answer.workload.desired,
        (await service.delete(command(), NOTES, purge=True)).answer.workload.purge,
    ]
    assert wanted == [Desired.STOPPED, Desired.RUNNING, 1, "home", Desired.UNINSTALLED, True]
    verbs = [chain.decode(link.entry).action for link in await there.store.audit()]
    assert verbs == ["apply", "stop", "start", "restart", "assign", "delete", "purge"]
    told = [what for what, _ in there.told()]
    assert told == ["applied", "stopped", "started", "restarted", "assigned", "deleted", "deleted"]


async def test_verbs_on_what_is_not_there_are_refused() -> None:
    there = await parts("home")
    service, nobody = there.made.service, WorkloadName("nobody")
    for asked in (
        service.run(command(), nobody, "start"),
        service.delete(command(), nobody, purge=False),
        service.assign(command(), nobody, HostId("home")),
    ):
        with pytest.raises(NotFoundError, match="cannot find workload nobody"):
            await asked
    await there.apply(manifest())
    with pytest.raises(NotFoundError, match="no host has that name"):
        await service.assign(command(), NOTES, HostId("attic"))


async def test_a_happ_must_be_a_blob_that_is_there() -> None:
    with pytest.raises(UserError, match="is not there") as refused:
        await (await parts()).apply(HAPP)
    assert refused.value.hint == f"PUT it to /v1/blobs/{SHA256} first"
    path = HAPP.replace(f"blob:{SHA256}", "notes.happ")
    with pytest.raises(UserError, match=r"hosts cannot fetch notes\.happ") as refused:
        await (await parts()).apply(path)
    assert refused.value.field == "holochain.happ"
    there = await parts(blobs=NoBlobs(SHA256))
    assert (await there.apply(HAPP)).answer.changed


async def test_there_is_an_end_to_how_many_workloads_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WORKLOADS", 1)
    there = await parts()
    await there.apply(manifest())
    await there.apply(manifest(restart="{max_retries: 7}"))
    with pytest.raises(ConflictError, match="there are 1 workloads"):
        await there.apply(manifest("another"))


async def test_if_match_lets_a_write_through_only_to_what_was_meant() -> None:
    there = await parts()
    first = (await there.apply(manifest())).sequence
    second = (
        await there.made.service.run(command(match=frozenset({etag(first)})), NOTES, "stop")
    ).sequence
    with pytest.raises(StaleError, match=f'it is at "{second}", not at "{first}"'):
        await there.made.service.run(command(match=frozenset({etag(first)})), NOTES, "start")
    either = frozenset({etag(first), etag(second)})
    assert (await there.made.service.run(command(match=either), NOTES, "start")).answer.changed
    assert (await there.apply(manifest(), match=frozenset("*"))).sequence


async def test_if_match_keeps_a_write_from_making_what_was_gone() -> None:
    there = await parts()
    with pytest.raises(StaleError, match="it is not there"):
        await there.apply(manifest(), match=frozenset("*"))
    assert there.made.fleet.workloads.kept == {}


KEYED: dict[str, Any] = {"idempotency_key": "k1", "digest": "d1"}


async def test_the_same_request_again_gets_the_same_answer_and_is_not_done_again() -> None:
    there = await parts()
    await there.apply(manifest())
    first = await there.made.service.run(command(**KEYED), NOTES, "restart")
    again = await there.made.service.run(command(**KEYED), NOTES, "restart")
    assert again == first
    assert there.made.fleet.workloads.kept[NOTES].value.restart_nonce == 1
    assert len(await there.store.audit()) == 2


async def test_what_was_answered_is_remembered_over_a_restart_of_ours() -> None:
    store = MemoryStore()
    first = await (await parts(store=store)).apply(manifest(), **KEYED)
    again = await (await parts(store=store)).apply(manifest(), **KEYED)
    assert again == first


async def test_an_answer_that_nothing_changed_is_remembered_too_and_not_audited() -> None:
    there = await parts()
    await there.apply(manifest())
    first = await there.apply(manifest(), **KEYED)
    await there.made.service.run(command(), NOTES, "stop")
    assert await there.apply(manifest(), **KEYED) == first
    assert there.made.fleet.workloads.kept[NOTES].value.desired is Desired.STOPPED
    assert len(await there.store.audit()) == 2


async def test_a_key_that_was_used_for_another_request_is_refused() -> None:
    there = await parts()
    await there.apply(manifest(), **KEYED)
    with pytest.raises(UserError, match="used for another request") as refused:
        await there.apply(manifest(), idempotency_key="k1", digest="d2")
    assert refused.value.field == "Idempotency-Key"


async def test_a_request_that_was_refused_is_not_remembered() -> None:
    there = await parts()
    with pytest.raises(NotFoundError):
        await there.made.service.run(command(**KEYED), NOTES, "start")
    await there.apply(manifest())
    assert (await there.made.service.run(command(**KEYED), NOTES, "start")).answer.changed


async def test_after_a_day_a_key_is_new_again() -> None:
    there = await parts()
    await there.apply(manifest())
    await there.made.service.run(command(**KEYED), NOTES, "restart")
    there.clock.advance(limits.IDEMPOTENCY_KEPT_S)
    await there.made.service.run(command(**KEYED), NOTES, "restart")
    assert there.made.fleet.workloads.kept[NOTES].value.restart_nonce == 2


class Rival(MemoryStore):
    """A store that somebody else writes, just before we do, as often as told."""

    times = 0

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        there = await self.get(RecordKind.WORKLOAD, NOTES)
        if self.times and there is not None:
            self.times -= 1
            stopped = msgspec.json.decode(there.value) | {"desired": "stopped", "generation": 90}
            theirs = Put(
                kind=RecordKind.WORKLOAD,
                key=NOTES,
                expected=there.sequence,
                value=msgspec.json.encode(stopped),
            )
            await super().commit([theirs])
        return await super().commit(changes, audit=audit)


async def test_when_somebody_else_wrote_meanwhile_it_is_decided_anew_from_what_is_there() -> None:
    store = Rival()
    there = await parts(store=store)
    await there.apply(manifest())
    store.times = 2
    outcome = await there.made.service.run(command(), NOTES, "start")
    workload = outcome.answer.workload
    assert (workload.desired, workload.generation) == (Desired.RUNNING, 91)


async def test_one_who_said_what_was_meant_is_not_decided_for_anew() -> None:
    store = Rival()
    there = await parts(store=store)
    first = (await there.apply(manifest())).sequence
    store.times = 1
    with pytest.raises(StaleError):
        await there.made.service.run(command(match=frozenset({etag(first)})), NOTES, "start")


async def test_there_is_an_end_to_deciding_anew() -> None:
    store = Rival()
    there = await parts(store=store)
    await there.apply(manifest())
    store.times = 100
    with pytest.raises(TransientError, match="somebody else writes the store"):
        await there.made.service.run(command(), NOTES, "start")
    assert store.times == 97
