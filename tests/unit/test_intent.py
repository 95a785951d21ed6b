"""What users' words do to a workload: what changes, what does not, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hivekeeper.core import intent
from hivekeeper.core.intent import Applied
from hivekeeper.model.allocation import Allocation, Desired, Workload
from hivekeeper.model.errors import ConflictError, UserError
from hivekeeper.model.ids import Generation, HostId, Revision, WorkloadName
from hivekeeper.model.manifest import Asked, Holochain, Kind, Manifest, Placement, Process

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
T1: Final = datetime(2026, 1, 2, tzinfo=UTC)
NOTES: Final = WorkloadName("notes")
HOME, ATTIC = HostId("home"), HostId("attic")
MANIFEST: Final = Manifest(name=NOTES, kind=Kind.PROCESS, process=Process(command=("sleep", "1")))
CHANGED: Final = replace(MANIFEST, process=Process(command=("sleep", "2")))


def apply(
    manifest: Manifest = MANIFEST,
    workload: Workload | None = None,
    newest: Manifest | None = MANIFEST,
    *placed: Allocation,
    hold: bool = False,
) -> Applied:
    return intent.apply(
        manifest, workload, newest, list(placed), hold=hold, first=Generation(7), now=T1
    )


def workload(desired: Desired = Desired.RUNNING, **more: object) -> Workload:
    return replace(
        Workload(
            name=NOTES,
            kind=Kind.PROCESS,
            revision=Revision(3),
            generation=Generation(5),
            desired=desired,
            created_at=T0,
            changed_at=T0,
        ),
        **more,
    )


def on(host: HostId, desired: Desired = Desired.RUNNING) -> Allocation:
    return Allocation(
        workload=NOTES,
        host=host,
        revision=Revision(3),
        generation=Generation(5),
        desired=desired,
        changed_at=T0,
    )


def test_a_new_manifest_becomes_a_workload_that_is_to_run() -> None:
    assert apply(newest=None) == Applied(
        workload=Workload(
            name=NOTES,
            kind=Kind.PROCESS,
            revision=Revision(1),
            generation=Generation(7),
            desired=Desired.RUNNING,
            created_at=T1,
            changed_at=T1,
        ),
        new_revision=True,
        changed=True,
    )


def test_a_new_workload_can_be_stopped_and_held() -> None:
    made = apply(replace(MANIFEST, desired=Asked.STOPPED), newest=None, hold=True).workload
    assert (made.desired, made.held) == (Desired.STOPPED, True)


def test_the_same_manifest_again_changes_nothing() -> None:
    before = workload()
    assert apply(workload=before) == Applied(workload=before, new_revision=False, changed=False)


def test_a_changed_manifest_is_a_new_revision() -> None:
    applied = apply(CHANGED, workload())
    after = applied.workload
    assert applied.new_revision
    assert (after.revision, after.generation, after.changed_at) == (4, 6, T1)
    assert after.created_at == T0


def test_the_same_manifest_starts_what_was_stopped_without_a_new_revision() -> None:
    applied = apply(workload=workload(Desired.STOPPED))
    assert (applied.changed, applied.new_revision) == (True, False)
    assert (applied.workload.desired, applied.workload.revision) == (Desired.RUNNING, 3)


def test_what_was_deleted_is_back_and_its_data_no_longer_to_be_purged() -> None:
    applied = apply(
        MANIFEST,
        workload(Desired.UNINSTALLED, purge=True),
        MANIFEST,
        on(HOME, Desired.UNINSTALLED),
    )
    after = applied.workload
    assert (after.desired, after.purge, after.generation) == (Desired.RUNNING, False, 6)


def test_hold_is_for_new_workloads_and_does_not_hold_an_old_one() -> None:
    assert not apply(CHANGED, workload(), hold=True).workload.held


def test_a_held_workload_stays_held_when_its_manifest_changes() -> None:
    assert apply(CHANGED, workload(held=True)).workload.held


def test_another_kind_under_the_same_name_is_refused() -> None:
    happ = Manifest(name=NOTES, kind=Kind.HOLOCHAIN, holochain=Holochain(happ="notes.happ"))
    with pytest.raises(ConflictError, match="it is of kind process, not holochain"):
        apply(happ, workload())


@pytest.mark.parametrize("desired", [Desired.RUNNING, Desired.UNINSTALLED])
def test_a_manifest_that_would_leave_the_data_behind_is_refused(desired: Desired) -> None:
    there = replace(MANIFEST, placement=Placement(host=ATTIC))
    with pytest.raises(ConflictError, match="its data is on host home, not attic") as refused:
        apply(there, workload(), MANIFEST, on(HOME, desired))
    assert refused.value.field == "placement.host"


def test_a_manifest_that_names_the_host_where_it_is_already_is_fine() -> None:
    here = replace(MANIFEST, placement=Placement(host=HOME))
    assert apply(here, workload(), MANIFEST, on(HOME)).new_revision


def test_differences_name_fields_by_path_and_no_values() -> None:
    after = replace(CHANGED, placement=Placement(host=HOME), desired=Asked.STOPPED)
    assert intent.differences(MANIFEST, after) == ("desired", "placement.host", "process.command")
    assert intent.differences(MANIFEST, MANIFEST) == ()
    assert "process" in intent.differences(None, MANIFEST)


def test_deleting_twice_changes_nothing_and_purging_what_was_deleted_does() -> None:
    deleted = intent.delete(workload(), purge=False, now=T1)
    assert (deleted.desired, deleted.generation) == (Desired.UNINSTALLED, 6)
    assert intent.delete(deleted, purge=False, now=T1) == deleted
    purged = intent.delete(deleted, purge=True, now=T1)
    assert (purged.purge, purged.generation) == (True, 7)
    assert intent.delete(purged, purge=False, now=T1) == purged


def test_starting_what_is_to_run_asks_again() -> None:
    assert intent.run(workload(), now=T1).generation == 6


def test_stopping_twice_changes_nothing() -> None:
    stopped = intent.stop(workload(), now=T1)
    assert stopped.desired is Desired.STOPPED
    assert intent.stop(stopped, now=T1) == stopped


def test_each_restart_is_another_one() -> None:
    once = intent.restart(workload(), now=T1)
    assert (once.restart_nonce, once.generation) == (1, 6)
    assert intent.restart(once, now=T1).restart_nonce == 2


def test_what_is_to_be_stopped_is_not_restarted() -> None:
    with pytest.raises(ConflictError, match="it is to be stopped"):
        intent.restart(workload(Desired.STOPPED), now=T1)


@pytest.mark.parametrize("verb", [intent.run, intent.stop, intent.restart])
def test_what_was_deleted_takes_no_orders_but_apply(verb: Callable[..., Workload]) -> None:
    with pytest.raises(UserError, match="it was deleted") as refused:
        verb(workload(Desired.UNINSTALLED), now=T1)
    assert refused.value.hint == "apply its manifest again"


def test_assigning_ends_a_hold_and_doing_it_again_changes_nothing() -> None:
    there = intent.assign(workload(held=True), [], ATTIC, now=T1)
    assert (there.assigned, there.held, there.generation) == (ATTIC, False, 6)
    assert intent.assign(there, [on(ATTIC)], ATTIC, now=T1) == there


def test_what_has_data_on_a_host_is_not_assigned_to_another() -> None:
    with pytest.raises(ConflictError, match="its data is on host home"):
        intent.assign(workload(), [on(HOME)], ATTIC, now=T1)


WORDS: Final = ["apply", "change", "delete", "purge", "start", "stop", "restart", "assign"]


def say(word: str, before: Workload | None, newest: Manifest | None) -> tuple[Workload, Manifest]:
    """Return what a word leaves behind; what is refused leaves everything as it was."""
    if word in {"apply", "change"} or before is None or newest is None:
        manifest = CHANGED if word == "change" else MANIFEST
        return apply(manifest, before, newest).workload, manifest
    verbs: dict[str, Callable[[], Workload]] = {
        "delete": lambda: intent.delete(before, purge=False, now=T1),
        "purge": lambda: intent.delete(before, purge=True, now=T1),
        "start": lambda: intent.run(before, now=T1),
        "stop": lambda: intent.stop(before, now=T1),
        "restart": lambda: intent.restart(before, now=T1),
        "assign": lambda: intent.assign(before, [], HOME, now=T1),
    }
    try:
        return verbs[word](), newest
    except UserError:
        return before, newest


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30))
def test_whatever_is_said_generations_grow_with_every_change_and_only_then(
    words: list[str],
) -> None:
    before, newest = say("apply", None, None)
    for word in words:
        after, manifest = say(word, before, newest)
        assert after.generation == before.generation + (after != before)
        assert after.revision == before.revision + (manifest != newest)
        assert say("apply" if manifest == MANIFEST else "change", after, manifest)[1] == manifest
        before, newest = after, manifest


@given(st.lists(st.sampled_from(WORDS), max_size=10), st.sampled_from([MANIFEST, CHANGED]))
def test_applying_twice_is_applying_once(words: list[str], manifest: Manifest) -> None:
    before, newest = say("apply", None, None)
    for word in words:
        before, newest = say(word, before, newest)
    once = apply(manifest, before, newest).workload
    assert apply(manifest, once, manifest) == Applied(
        workload=once, new_revision=False, changed=False
    )
