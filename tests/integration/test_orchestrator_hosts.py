"""The orchestrator and hosts over a real nats-server, each with its own user and permissions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from hivekeeper.adapters import keys, nats, sqlite
from hivekeeper.model.allocation import Phase
from hivekeeper.model.errors import HiveError, PermissionRefusedError, TransientError
from hivekeeper.model.ids import HostId
from hivekeeper.orchestrator.membership import Door
from hivekeeper.ports import Bus
from hivekeeper.wire import authority, invitations, messages, subjects
from hivekeeper.wire.messages import JoinReply, JoinRequest, RoutesReply
from orchestrating import SLEEPER, PlayedHost, Running, eventually, orchestrator, played
from real_hub import ALPHA, BETA, RealHub

GAMMA = HostId("gamma")
PATIENCE_S = 20.0


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealHub]:
    hub = RealHub(tmp_path)
    hub.hub.prepare()
    await hub.start()
    try:
        yield hub
    finally:
        hub.kill()


@asynccontextmanager
async def running_on(real: RealHub, *own: HostId) -> AsyncIterator[Running]:
    """Run an orchestrator on a real hub and store, with hosts of its own."""

    async def admit(hosts: Mapping[HostId, str]) -> None:
        await real.hub.admit({authority.host(host): key for host, key in hosts.items()})

    members = {host: keys.public_key(real.seeds[authority.host(host)]) for host in own}
    door = Door(url=real.hub.url, seed=real.hub.seed(authority.JOINER))
    async with (
        sqlite.open_store(real.folder / "store.db") as store,
        orchestrator(
            real.folder, store=store, hub=real, members=members, door=door, admit=admit
        ) as running,
    ):
        yield running


async def fetched(host: PlayedHost) -> bool:
    """Return whether the host got an answer; until it is let in, it does not."""
    try:
        await host.fetch()
    except TransientError:
        return False
    return True


async def ask_to_join(invitation: invitations.Invitation, public_key: str) -> JoinReply:
    """Ask until there is an answer: a hub that reads its users anew loses those under way."""
    request = messages.encode(JoinRequest(token=invitation.token, public_key=public_key))
    async with nats.connect(
        invitation.url, authority.JOINER, invitation.seed, name="test join"
    ) as bus:
        while True:
            try:
                answer = await bus.request(subjects.JOIN, request, timeout_s=1)
                return messages.decode(answer, JoinReply)
            except TransientError:
                continue


async def test_a_write_wakes_the_host_and_its_report_shows(real: RealHub) -> None:
    async with running_on(real, ALPHA) as running, played(real, ALPHA) as host:
        await eventually(lambda: fetched(host))
        woken = host.woken
        await running.apply(SLEEPER)
        await eventually(lambda: host.woken > woken)
        await host.fetch()
        await host.report(host.says("sleeper", Phase.READY, pid=42))
        row = await running.row("sleeper")
        assert (row["actual"], row["pid"], row["host"]) == ("running", 42, "alpha")


async def test_a_host_joins_with_an_invitation_and_is_let_go_again(real: RealHub) -> None:
    seed = keys.new_seed()
    async with running_on(real, ALPHA) as running, AsyncExitStack() as until:
        invited = await running.ask("POST", "/v1/hosts/gamma/invitation")
        invitation = invitations.decode(invited.body["invitation"])
        reply = await ask_to_join(invitation, keys.public_key(seed))
        assert reply.host == GAMMA
        with pytest.raises(PermissionRefusedError, match="unknown, used"):
            await ask_to_join(invitation, keys.public_key(keys.new_seed()))
        real.seeds[authority.host(GAMMA)] = seed
        host = await until.enter_async_context(played(real, GAMMA))
        await running.apply(f"{SLEEPER}placement: {{host: gamma}}\n")
        await eventually(lambda: _has_order(host, "sleeper"))
        assert (await running.ask("DELETE", "/v1/hosts/gamma")).status == 409
        assert (await running.ask("DELETE", "/v1/hosts/gamma?force=true")).status == 204
        await eventually(lambda: _is_refused(host))


async def _has_order(host: PlayedHost, name: str) -> bool:
    return await fetched(host) and host.document is not None and name in host.document.orders


async def _is_refused(host: PlayedHost) -> bool:
    try:
        async with asyncio.timeout(1):
            await host.fetch()
    except (HiveError, TimeoutError):
        return True
    return False


async def test_no_host_hears_or_says_anything_in_the_name_of_another(real: RealHub) -> None:
    async with running_on(real, ALPHA, BETA) as running, played(real, ALPHA) as host:
        await eventually(lambda: fetched(host))
        await running.apply(SLEEPER)
        for subject in (subjects.document(BETA), subjects.report(BETA), subjects.blob(BETA)):
            with pytest.raises(HiveError, match="does not allow"):
                await host.bus.request(subject, b"{}", timeout_s=PATIENCE_S)


async def test_what_is_asked_while_the_hub_is_gone_is_done_when_it_is_back(real: RealHub) -> None:
    async with running_on(real, ALPHA) as running, played(real, ALPHA) as host:
        await eventually(lambda: fetched(host))
        real.kill()
        applied = await running.apply(SLEEPER)
        assert applied.status == 200
        logs = await running.ask("GET", "/v1/workloads/sleeper/logs")
        assert logs.status in {404, 503}
        await real.start()
        await eventually(lambda: _has_order(host, "sleeper"))
        await host.report(host.says("sleeper", Phase.READY))
        assert (await running.row("sleeper"))["actual"] == "running"


async def test_a_gateway_gets_the_routes(real: RealHub) -> None:
    async with running_on(real, ALPHA), real.connect(authority.GATEWAY) as bus:
        answer = await eventually(lambda: _routes(bus))
        assert messages.decode(answer, RoutesReply).routes == ()


async def _routes(bus: Bus) -> bytes:
    try:
        return await bus.request(subjects.ROUTES, b"", timeout_s=PATIENCE_S)
    except TransientError:
        return b""
