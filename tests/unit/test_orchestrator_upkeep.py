"""Silence, what is told of it, and what is kept only for a time."""

import asyncio
from datetime import timedelta

import pytest

from hivekeeper.model import limits
from hivekeeper.model.allocation import Phase
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.testing.clock import BEGIN, FakeClock
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import DocumentRequest, ReportMessage
from orchestrating import Parts, command, eventually, manifest, parts, report

HOME, ATTIC = HostId("home"), HostId("attic")
LOST_S = limits.HOST_LOST_AFTER_S


async def heard(there: Parts, host: HostId = HOME) -> None:
    await there.made.hosts.document(subjects.document(host), messages.encode(DocumentRequest()))


async def pass_by(there: Parts, seconds: float) -> None:
    """Let time pass with the loop looking every second, as it does."""
    for _ in range(round(seconds)):
        there.clock.advance(1)
        await there.made.liveness.look()


async def running(store: MemoryStore | None = None) -> Parts:
    there = await parts("home", "attic", store=store)
    await there.apply(manifest("notes", placement="{host: home}"))
    await there.place()
    (kept,) = there.made.fleet.allocations_of(WorkloadName("notes"))
    said = report("notes", Phase.READY, generation=kept.value.generation)
    await there.deliver(HOME, ReportMessage(number=1, reports=(said,)))
    return there


async def test_a_host_that_is_silent_for_too_long_shows_as_unknown_and_that_is_told() -> None:
    there = await running()
    await pass_by(there, LOST_S)
    assert there.rows() == [("notes", "home", "running")]
    await pass_by(there, 1)
    assert there.rows() == [("notes", "home", "unknown")]
    because = "its host was not heard of for 20 s; it stays where it is"
    assert there.told()[-1] == ("unknown", because)


async def test_silence_is_told_once_and_its_end_too() -> None:
    there = await running()
    await pass_by(there, LOST_S + 5)
    assert [what for what, _ in there.told()].count("unknown") == 1
    await heard(there)
    await pass_by(there, 3)
    assert there.told()[-1] == ("heard", "its host is heard of again")
    assert there.rows() == [("notes", "home", "running")]


async def test_a_report_is_a_sign_of_life_too() -> None:
    there = await running()
    await pass_by(there, LOST_S)
    await there.deliver(HOME, ReportMessage(number=2, reports=()))
    await pass_by(there, LOST_S)
    assert there.rows() == [("notes", "home", "running")]


async def test_a_silent_host_gets_nothing_new_and_its_workloads_stay() -> None:
    there = await running()
    await pass_by(there, LOST_S - 1)
    await heard(there, ATTIC)
    await pass_by(there, 5)
    for name in ("a", "b", "c"):
        await there.apply(manifest(name))
    await there.place()
    assert there.rows() == [
        ("a", "attic", "assigned"),
        ("b", "attic", "assigned"),
        ("c", "attic", "assigned"),
        ("notes", "home", "unknown"),
    ]


async def test_what_no_host_could_take_is_placed_when_one_is_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RECONCILE_S", 3600.0)
    there = await parts("home")
    await pass_by(there, LOST_S + 1)
    await there.apply(manifest())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(there.made.placement.run())
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert there.rows() == [("notes", None, "reported")]
        await heard(there)
        await there.made.liveness.look()
        await eventually(lambda: there.rows() == [("notes", "home", "assigned")])
        task.cancel()


async def test_after_a_start_every_host_gets_its_time_to_be_heard() -> None:
    store = MemoryStore()
    await running(store)
    again = await parts("home", "attic", store=store)
    await pass_by(again, LOST_S)
    assert again.rows() == [("notes", "home", "running")]
    await pass_by(again, 1)
    assert again.rows() == [("notes", "home", "unknown")]


async def test_when_we_were_suspended_ourselves_nobody_is_blamed() -> None:
    there = await running()
    await pass_by(there, 5)
    there.clock.advance(3600)
    await there.made.liveness.look()
    assert there.rows() == [("notes", "home", "running")]
    await pass_by(there, LOST_S + 1)
    assert there.rows() == [("notes", "home", "unknown")]


async def test_what_was_removed_and_left_data_is_not_told_to_be_unknown() -> None:
    there = await running()
    await there.made.service.delete(command(), WorkloadName("notes"), purge=False)
    await there.place()
    (kept,) = there.made.fleet.allocations_of(WorkloadName("notes"))
    gone = report("notes", Phase.GONE, generation=kept.value.generation, data_kept=True)
    await there.deliver(HOME, ReportMessage(number=2, reports=(gone,)))
    await pass_by(there, LOST_S + 5)
    assert "unknown" not in [what for what, _ in there.told()]


def test_a_large_fleet_asks_less_often_and_may_be_silent_longer() -> None:
    hearing = Hearing(FakeClock())
    hearing.expect(limits.HOSTS)
    assert limits.HOSTS / hearing.poll_s <= limits.HOST_REQUESTS_PER_S
    assert hearing.lost_after_s == 4 * hearing.poll_s
    hearing.expect(1)
    assert (hearing.poll_s, hearing.lost_after_s) == (limits.HOST_POLL_S, LOST_S)


def test_it_is_known_when_a_host_was_heard_by_the_wall_clock() -> None:
    clock = FakeClock()
    hearing = Hearing(clock)
    assert hearing.heard_at(HOME) is None
    clock.advance(10)
    hearing.heard(HOME)
    clock.advance(5)
    assert hearing.heard_at(HOME) == BEGIN + timedelta(seconds=10)


async def deliver(there: Parts, number: int, phase: Phase, **more: object) -> None:
    (kept,) = there.made.fleet.allocations_of(WorkloadName("notes"))
    said = report("notes", phase, generation=kept.value.generation, **more)
    await there.deliver(HOME, ReportMessage(number=number, reports=(said,)))


def of(there: Parts, *words: str) -> list[tuple[str, str]]:
    return [(what, because) for what, because in there.told() if what in words]


async def test_a_program_that_crashes_again_and_again_is_told_once_a_minute() -> None:
    there = await running()
    for number in range(10):
        error = f"exited with code 1; retry {number} of 99 after 0.{number} s"
        await deliver(there, 2 + 2 * number, Phase.BACKOFF, error=error)
        await deliver(there, 3 + 2 * number, Phase.READY, restarts=number + 1)
    assert of(there, "running", "error") == [
        ("running", "its program is ready"),
        ("error", "exited with code 1; retry 0 of 99 after 0.0 s"),
    ]
    there.clock.advance(60)
    await deliver(there, 30, Phase.BACKOFF, error="exited with code 1; retry 11 of 99")
    await deliver(there, 31, Phase.READY, restarts=11)
    assert of(there, "running", "error")[2:] == [
        ("error", "exited with code 1; retry 11 of 99"),
        ("running", "its program is ready again (restart 11)"),
    ]


async def test_another_error_and_giving_up_are_news_at_once() -> None:
    there = await running()
    await deliver(there, 2, Phase.BACKOFF, error="exited with code 1")
    await deliver(there, 3, Phase.BACKOFF, error="killed by SIGKILL")
    await deliver(there, 4, Phase.FAILED, error="killed by SIGKILL")
    assert [because for _, because in of(there, "error")] == [
        "exited with code 1",
        "killed by SIGKILL",
        "killed by SIGKILL",
    ]


async def test_a_restart_that_was_quicker_than_a_report_is_told() -> None:
    there = await running()
    there.clock.advance(60)
    await deliver(there, 2, Phase.READY, restarts=1, pid=7)
    assert of(there, "running")[-1] == ("running", "its program is ready again (restart 1)")


async def test_starting_and_stopping_by_themselves_are_chatter() -> None:
    there = await running()
    before = there.told()
    for number, phase in enumerate([Phase.STOPPING, Phase.INSTALLED, Phase.STARTING], start=2):
        await deliver(there, number, phase)
    assert there.told() == before


async def test_being_stopped_as_asked_is_told() -> None:
    there = await running()
    await there.made.service.run(command(), WorkloadName("notes"), "stop")
    await there.place()
    await deliver(there, 2, Phase.INSTALLED)
    assert there.told()[-1] == ("installed", "stopped, as it is to be")


async def test_an_events_text_is_bounded() -> None:
    there = await running()
    await deliver(there, 2, Phase.BACKOFF, error="x" * 5_000)
    assert len(of(there, "error")[0][1]) == 500


async def test_the_oldest_events_go_and_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    there = await running()
    monkeypatch.setattr(limits, "EVENTS_KEPT", 2)
    newest = there.told()[-2:]
    await there.made.pruning.prune()
    assert there.told() == newest


async def test_answers_that_were_remembered_for_a_day_go(monkeypatch: pytest.MonkeyPatch) -> None:
    there = await parts("home")
    remembered = there.made.fleet.remembered
    for number in range(3):
        await there.apply(manifest(f"w{number}"), idempotency_key=f"k{number}", digest="d")
        there.clock.advance(100)
    await there.made.pruning.prune()
    assert len(remembered.kept) == 3
    there.clock.advance(limits.IDEMPOTENCY_KEPT_S - 200)
    await there.made.pruning.prune()
    assert len(remembered.kept) == 1
    monkeypatch.setattr(limits, "IDEMPOTENCY_KEYS", 0)
    await there.made.pruning.prune()
    assert remembered.kept == {}


async def test_invitations_that_ran_out_go() -> None:
    there = await parts("home")
    await there.made.membership.invite(command(), ATTIC)
    there.clock.advance(limits.INVITATION_S - 1)
    await there.made.pruning.prune()
    assert len(there.made.fleet.invitations.kept) == 1
    there.clock.advance(1)
    await there.made.pruning.prune()
    assert there.made.fleet.invitations.kept == {}


async def test_what_is_due_goes_in_as_many_commits_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = await running()
    monkeypatch.setattr(limits, "EVENTS_KEPT", 0)
    monkeypatch.setattr(limits, "COMMIT_CHANGES", 2)
    await there.made.pruning.prune()
    assert there.made.fleet.events.kept == {}


async def test_without_anything_due_nothing_is_written() -> None:
    there = await running()
    before = there.made.fleet.sequence
    await there.made.pruning.prune()
    assert there.made.fleet.sequence == before
