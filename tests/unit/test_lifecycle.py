"""The table of words and the function that derives them say the same, wherever one can get."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from hivekeeper.core import lifecycle
from hivekeeper.core.lifecycle import TRANSITIONS, Event, Facts
from hivekeeper.model.allocation import (
    Actual,
    Allocation,
    Desired,
    Phase,
    Report,
    Workload,
)
from hivekeeper.model.ids import Generation, HostId, Revision, WorkloadName
from hivekeeper.model.manifest import Kind

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOTES, HOST = WorkloadName("notes"), HostId("h1")
PHASES: Final = {
    Event.REPORT_PREPARING: [Phase.PREPARING],
    Event.REPORT_INSTALLED: [Phase.INSTALLED],
    Event.REPORT_STARTING: [Phase.STARTING],
    Event.REPORT_READY: [Phase.READY],
    Event.REPORT_STOPPING: [Phase.STOPPING],
    Event.REPORT_FAILURE: [Phase.BACKOFF, Phase.FAILED],
    Event.REPORT_REMOVING: [Phase.REMOVING],
    Event.REPORT_GONE: [Phase.GONE],
}
LEAVING: Final = {Phase.REMOVING, Phase.GONE}
STAYING: Final = {Phase.PREPARING, Phase.INSTALLED, Phase.STARTING, Phase.READY}


def wanted(generation: int, revision: int, desired: Desired) -> Allocation:
    return Allocation(
        workload=NOTES,
        host=HOST,
        revision=Revision(revision),
        generation=Generation(generation),
        desired=desired,
        changed_at=T0,
    )


def said(
    order: Allocation, phase: Phase, *, ready: int | None = None, error: str = "", **more: object
) -> Report:
    return Report(
        workload=NOTES,
        generation=order.generation,
        revision=order.revision,
        ready_revision=None if ready is None else Revision(ready),
        phase=phase,
        since=T0,
        error=error,
        **more,  # type: ignore[arg-type]
    )


def after(facts: Facts, event: Event) -> Iterator[Facts]:
    """Yield every way in which `event` can change `facts`.

    A small world of one host and one workload.
    """
    order = facts.allocation
    if order is None:
        if event is Event.ASSIGN:
            yield Facts(allocation=wanted(1, 1, Desired.RUNNING))
    elif event in PHASES:
        yield from reported(facts, order, PHASES[event])
    elif event is Event.FETCH and not facts.fetched:
        yield replace(facts, fetched=True, silent=False)
    elif event is Event.FALL_SILENT and not facts.silent:
        yield replace(facts, silent=True)
    elif event is Event.BE_HEARD and facts.silent:
        yield replace(facts, silent=False)
    else:
        yield from asked(facts, order, event)


def asked(facts: Facts, order: Allocation, event: Event) -> Iterator[Facts]:
    gone = order.desired is Desired.UNINSTALLED
    generation, revision = order.generation + 1, order.revision
    if event is Event.ASK_UPDATE:
        new = [wanted(generation, revision + 1, Desired.RUNNING)]
    elif event is Event.ASK_CHANGE and not gone:
        new = [wanted(generation, revision, each) for each in (Desired.RUNNING, Desired.STOPPED)]
    elif event is Event.ASK_DELETE and not gone:
        new = [wanted(generation, revision, Desired.UNINSTALLED)]
    else:
        new = []
    yield from (replace(facts, allocation=each, fetched=False) for each in new)


def reported(facts: Facts, order: Allocation, phases: list[Phase]) -> Iterator[Facts]:
    """A host reports on the order it has fetched, and only what that order can lead to."""
    before = facts.report
    finished = before and before.phase is Phase.GONE and before.generation == order.generation
    if not facts.fetched or finished:
        return
    impossible = STAYING if order.desired is Desired.UNINSTALLED else LEAVING
    for phase in phases:
        if phase in impossible or (phase is Phase.STOPPING and before is None):
            continue
        ready = before.ready_revision if before and before.phase is not Phase.GONE else None
        ready = order.revision if phase is Phase.READY else None if phase is Phase.GONE else ready
        yield replace(facts, report=said(order, phase, ready=ready), silent=False)


def kind_of(facts: Facts) -> object:
    """What distinguishes facts: how far apart the numbers are, not how large they have grown."""
    order, report = facts.allocation, facts.report
    if order is None or report is None:
        return (order and order.desired, facts.fetched, facts.silent, None)
    ready = report.ready_revision
    return (
        order.desired,
        facts.fetched,
        facts.silent,
        report.phase,
        min(2, order.generation - report.generation),
        min(2, order.revision - report.revision),
        None if ready is None else min(2, order.revision - ready),
    )


def explore() -> dict[tuple[Actual, Event], set[Actual]]:
    seen, found = set(), {key: set[Actual]() for key in TRANSITIONS}
    waiting = [Facts(allocation=None)]
    while waiting:
        facts = waiting.pop()
        if kind_of(facts) in seen:
            continue
        seen.add(kind_of(facts))
        for event in Event:
            for then in after(facts, event):
                found[lifecycle.word(facts), event].add(lifecycle.word(then))
                waiting.append(then)
    return found


def test_the_table_is_total_and_is_exactly_what_the_derived_words_do() -> None:
    assert set(TRANSITIONS) == {(word, event) for word in Actual for event in Event}
    assert explore() == {key: set(words) for key, words in TRANSITIONS.items()}


def test_every_word_can_be_reached() -> None:
    reached = {word for words in TRANSITIONS.values() for word in words}
    assert reached | {Actual.REPORTED} == set(Actual)


@pytest.mark.parametrize(
    ("desired", "phase", "word"),
    [
        (Desired.RUNNING, Phase.STARTING, Actual.INSTALLED),
        (Desired.RUNNING, Phase.READY, Actual.RUNNING),
        (Desired.STOPPED, Phase.INSTALLED, Actual.INSTALLED),
        (Desired.STOPPED, Phase.STOPPING, Actual.RUNNING),
        (Desired.RUNNING, Phase.BACKOFF, Actual.ERROR),
        (Desired.UNINSTALLED, Phase.REMOVING, Actual.REMOVED),
        (Desired.UNINSTALLED, Phase.GONE, Actual.UNINSTALLED),
    ],
)
def test_what_the_host_says_shows_in_the_users_words(
    desired: Desired, phase: Phase, word: Actual
) -> None:
    order = wanted(1, 1, desired)
    assert lifecycle.word(Facts(allocation=order, report=said(order, phase), fetched=True)) is word


def workload(desired: Desired = Desired.RUNNING) -> Workload:
    return Workload(
        name=NOTES,
        kind=Kind.PROCESS,
        revision=Revision(1),
        generation=Generation(1),
        desired=desired,
        created_at=T0,
        changed_at=T0,
    )


def test_without_a_host_there_is_a_row_all_the_same_with_the_reason() -> None:
    row = lifecycle.status(workload(), Facts(allocation=None), reason="no host is called h9")
    assert (row.host, row.actual, row.payload) == (
        None,
        Actual.REPORTED,
        {"reason": "no host is called h9"},
    )


def test_a_failure_shows_its_error_and_when_it_is_tried_again_and_not_what_is_empty() -> None:
    order = wanted(1, 1, Desired.RUNNING)
    retry_at = datetime(2026, 1, 2, tzinfo=UTC)
    report = said(order, Phase.BACKOFF, error="exited with code 42", retry_at=retry_at)
    row = lifecycle.status(workload(), Facts(allocation=order, report=report, fetched=True))
    assert row.payload == {
        "error": "exited with code 42",
        "phase": "backoff",
        "retry_at": retry_at,
    }


def test_given_up_is_told_and_names_no_time() -> None:
    order = wanted(1, 1, Desired.RUNNING)
    report = said(order, Phase.FAILED, error="no", retry_at=T0)
    row = lifecycle.status(workload(), Facts(allocation=order, report=report, fetched=True))
    assert row.payload == {"error": "no", "given_up": True}


def test_what_ended_and_is_not_started_again_shows_as_finished() -> None:
    order = wanted(1, 1, Desired.RUNNING)
    for finished, payload in ((True, {"finished": True}), (False, {})):
        report = said(order, Phase.INSTALLED, finished=finished)
        row = lifecycle.status(workload(), Facts(allocation=order, report=report, fetched=True))
        assert (row.actual, row.payload) == (Actual.INSTALLED, payload)


def test_what_was_given_up_is_not_any_more_once_something_newer_is_asked() -> None:
    before, now = wanted(1, 1, Desired.RUNNING), wanted(2, 1, Desired.RUNNING)
    report = said(before, Phase.FAILED, error="no")
    row = lifecycle.status(workload(), Facts(allocation=now, report=report, fetched=True))
    assert row.payload == {"error": "no"}
