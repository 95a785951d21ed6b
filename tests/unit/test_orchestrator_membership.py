"""Hosts join with an invitation, once; the hub lets in exactly those who are stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hivekeeper.adapters import keys
from hivekeeper.core import audit as chain
from hivekeeper.model import limits
from hivekeeper.model.allocation import Phase
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import HostId
from hivekeeper.orchestrator import membership
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import invitations
from hivekeeper.wire.messages import JoinReply, JoinRequest, ReportMessage
from orchestrating import DOOR, Parts, command, eventually, manifest, parts, report

HOME, ATTIC, BARN = HostId("home"), HostId("attic"), HostId("barn")
KEYS = [keys.public_key(keys.new_seed()) for _ in range(3)]


@asynccontextmanager
async def admitting(there: Parts) -> AsyncIterator[None]:
    """Have the hub told who is let in, while the context lasts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(there.made.membership.run())
        try:
            yield
        finally:
            task.cancel()


async def invite(there: Parts, host: HostId = ATTIC) -> invitations.Invitation:
    invited = await there.made.membership.invite(command(), host)
    return invitations.decode(invited.invitation)


async def join(there: Parts, token: str, key: str = KEYS[0]) -> JoinReply:
    return await there.made.membership.join(JoinRequest(token=token, public_key=key))


def hosts(there: Parts) -> dict[str, str]:
    return {id_: host.public_key for id_, host in there.made.fleet.present_hosts().items()}


async def test_an_invitation_tells_a_host_all_that_it_needs_to_ask() -> None:
    there = await parts("home")
    invitation = await invite(there)
    cluster = there.made.fleet.cluster.cluster
    said = (invitation.host, invitation.url, invitation.seed, invitation.cluster)
    assert said == (ATTIC, DOOR.url, DOOR.seed, cluster)


async def test_who_has_a_token_is_let_in_and_the_hub_told() -> None:
    there = await parts("home")
    invitation = await invite(there)
    async with admitting(there):
        reply = await join(there, invitation.token)
        await eventually(lambda: ATTIC in there.admissions.hosts)
    assert reply == JoinReply(host=ATTIC, cluster=there.made.fleet.cluster.cluster)
    assert there.admissions.hosts == {HOME: "key of home", ATTIC: KEYS[0]} == hosts(there)
    entries = [chain.decode(link.entry) for link in await there.store.audit()]
    said = [(entry.actor, entry.action, entry.target) for entry in entries]
    assert said == [("admin", "invite", "attic"), ("invitation", "join", "attic")]


async def test_the_token_itself_is_not_stored() -> None:
    there = await parts("home")
    invitation = await invite(there)
    stored = repr(vars(there.store)) + repr(await there.store.audit())
    assert ATTIC in stored
    assert invitation.token not in stored


async def test_a_host_that_did_not_hear_the_answer_may_ask_again() -> None:
    there = await parts("home")
    invitation = await invite(there)
    async with admitting(there):
        first = await join(there, invitation.token)
        assert await join(there, invitation.token) == first


async def test_a_token_is_good_for_one_host() -> None:
    there = await parts("home")
    invitation = await invite(there)
    async with admitting(there):
        await join(there, invitation.token)
        with pytest.raises(PermissionRefusedError, match="unknown, used, or has run out"):
            await join(there, invitation.token, KEYS[1])
    assert hosts(there)[ATTIC] == KEYS[0]


async def test_an_unknown_token_lets_nobody_in() -> None:
    there = await parts("home")
    with pytest.raises(PermissionRefusedError):
        await join(there, "guessed" * 4)
    assert hosts(there) == {"home": "key of home"}


async def test_an_invitation_runs_out() -> None:
    there = await parts("home")
    invitation = await invite(there)
    there.clock.advance(limits.INVITATION_S)
    with pytest.raises(PermissionRefusedError):
        await join(there, invitation.token)


async def test_a_newer_invitation_voids_the_older_one_for_the_same_name() -> None:
    there = await parts("home")
    older, other, newer = await invite(there), await invite(there, BARN), await invite(there)
    async with admitting(there):
        with pytest.raises(PermissionRefusedError):
            await join(there, older.token)
        assert (await join(there, other.token)).host == BARN
        assert (await join(there, newer.token, KEYS[1])).host == ATTIC


async def test_nobody_is_invited_under_a_name_that_is_taken() -> None:
    there = await parts("home")
    with pytest.raises(ConflictError, match="a host of that name is in already"):
        await invite(there, HOME)


async def test_there_is_an_end_to_how_many_hosts_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = await parts("home")
    monkeypatch.setattr(limits, "HOSTS", 1)
    with pytest.raises(ConflictError, match="there are 1 hosts"):
        await invite(there)


@pytest.mark.parametrize("key", ["U" + "A" * 55, KEYS[0][:-1] + "A", "U" * 56])
async def test_a_key_that_would_break_the_hub_is_refused_and_the_invitation_stays_good(
    key: str,
) -> None:
    there = await parts("home")
    invitation = await invite(there)
    with pytest.raises(UserError, match="no public key"):
        await join(there, invitation.token, key)
    async with admitting(there):
        assert (await join(there, invitation.token)).host == ATTIC


@pytest.mark.parametrize(
    "error", [TransientError("it is gone", retry_after_s=0.001), PermanentError("it refuses")]
)
async def test_a_hub_that_cannot_be_told_is_told_later(
    error: HiveError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_LOOK_EVERY_S", 0.001)
    there = await parts("home")
    there.admissions.error = error
    invitation = await invite(there)
    async with admitting(there):
        assert (await join(there, invitation.token)).host == ATTIC
        await eventually(lambda: there.admissions.times > 2)
        assert there.admissions.hosts == {}
        there.admissions.error = None
        await eventually(lambda: there.admissions.hosts.get(ATTIC) == KEYS[0])


async def test_a_hub_that_was_told_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_LOOK_EVERY_S", 0.0)
    there = await parts("home")
    async with admitting(there):
        await eventually(lambda: there.admissions.times)
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert there.admissions.times == 1


async def test_at_its_start_the_hub_is_told_who_belongs_to_the_fleet() -> None:
    store = MemoryStore()
    await parts("home", "attic", store=store)
    again = await parts("home", store=store)
    async with admitting(again):
        await eventually(lambda: set(again.admissions.hosts) == {HOME, ATTIC})


async def test_the_stacks_own_host_may_come_with_a_new_key() -> None:
    store = MemoryStore()
    await parts("home", store=store)
    again = await parts(store=store)
    await again.made.membership.enrol({HOME: "another key"})
    assert hosts(again) == {HOME: "another key"}
    before = again.made.fleet.sequence
    await again.made.membership.enrol({HOME: "another key"})
    assert again.made.fleet.sequence == before


async def test_a_host_that_leaves_is_refused_by_the_hub() -> None:
    there = await parts("home", "attic")
    async with admitting(there):
        await there.made.membership.leave(command(), ATTIC, force=False)
        await eventually(lambda: there.admissions.hosts == {HOME: "key of home"})
    assert [row.id for row in there.made.view.hosts()] == [HOME]


async def test_a_host_with_workloads_does_not_leave_unless_forced() -> None:
    there = await parts("home", "attic")
    for number in range(7):
        await there.apply(manifest(f"w{number}", placement="{host: attic}"))
    await there.place()
    with pytest.raises(ConflictError, match="it has w0, w1, w2, w3, w4 and 2 more") as refused:
        await there.made.membership.leave(command(), ATTIC, force=False)
    assert "force" in refused.value.hint
    assert ATTIC in hosts(there)


async def test_what_was_on_a_host_that_was_forced_out_begins_anew_elsewhere() -> None:
    there = await parts("home", "attic")
    await there.apply(manifest("notes"))
    await there.place()
    assert there.rows() == [("notes", "attic", "assigned")]
    await there.made.membership.leave(command(), ATTIC, force=True)
    await there.place()
    assert there.rows() == [("notes", "home", "assigned")]
    assert ("lost", "its host left, and its data with it") in there.told()


async def test_a_host_that_is_not_there_cannot_leave() -> None:
    there = await parts("home")
    for _ in range(2):
        with pytest.raises(NotFoundError, match="cannot find host attic"):
            await there.made.membership.leave(command(), ATTIC, force=True)


async def test_who_joins_under_an_old_name_counts_its_reports_from_the_start() -> None:
    there = await parts("home", "attic")
    await there.apply(manifest("notes", placement="{host: attic}"))
    await there.place()
    await there.deliver(ATTIC, ReportMessage(number=2**40, reports=()))
    await there.made.membership.leave(command(), ATTIC, force=True)
    invitation = await invite(there)
    async with admitting(there):
        await join(there, invitation.token)
    await there.place()
    said = report("notes", Phase.READY, generation=100)
    await there.deliver(ATTIC, ReportMessage(number=1, reports=(said,)))
    assert there.rows() == [("notes", "attic", "running")]


async def test_who_just_joined_is_not_silent() -> None:
    there = await parts("home")
    there.clock.advance(3600)
    invitation = await invite(there)
    async with admitting(there):
        await join(there, invitation.token)
    assert [(row.id, row.state) for row in there.made.view.hosts()] == [
        (ATTIC, "ready"),
        (HOME, "silent"),
    ]
