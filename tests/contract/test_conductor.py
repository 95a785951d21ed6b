"""What every conductor of line 0.6 does for us: the fake and the real program alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import conductors
from hivekeeper.holochain import admin, app, apps, bundles, connection, hashes, installer, wire
from hivekeeper.holochain.access import CellAccess
from hivekeeper.holochain.app import AppClient
from hivekeeper.holochain.apps import AppInfo
from hivekeeper.holochain.connection import Connection
from hivekeeper.holochain.errors import ConductorError, NotSentError
from hivekeeper.holochain.signing import SignedZomeCall, Signer
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import TransientError

LONG_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyConductor:
    """A conductor that runs, and can be started again."""

    admin_port: int
    restart: Callable[[], Awaitable[None]]

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Connection]:
        async with connection.connect("127.0.0.1", self.admin_port) as opened:
            yield opened


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[conductors.RealConductor]:
    conductor = conductors.RealConductor(tmp_path_factory.mktemp("hc"), conductors.real_program())
    try:
        conductor.start()
        yield conductor
    finally:
        conductor.stop()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.conductor)])
async def conductor(request: pytest.FixtureRequest) -> AsyncIterator[AnyConductor]:
    if request.param == "real":
        real: conductors.RealConductor = request.getfixturevalue("real")

        async def restart_real() -> None:
            await asyncio.to_thread(real.stop)
            await asyncio.to_thread(real.start)

        yield AnyConductor(admin_port=real.admin_port, restart=restart_real)
        return
    fake = conductors.fake_conductor()
    runs = [fake.running()]

    async def restart_fake() -> None:
        await runs[-1].__aexit__(None, None, None)
        runs.append(fake.running())
        await runs[-1].__aenter__()

    await runs[-1].__aenter__()
    try:
        yield AnyConductor(admin_port=fake.admin_port, restart=restart_fake)
    finally:
        await runs[-1].__aexit__(None, None, None)


async def install(opened: Connection, app_id: str, **more: Any) -> AppInfo:
    asked = admin.InstallAppPayload(
        source=Tagged("path", str(conductors.NOTES)), installed_app_id=app_id, **more
    )
    return await opened.ask(admin.INSTALL_APP, asked, timeout_s=LONG_S)


async def enable(opened: Connection, app_id: str) -> AppInfo:
    return await opened.ask(admin.ENABLE_APP, admin.AppId(app_id), timeout_s=LONG_S)


@asynccontextmanager
async def called(
    conductor: AnyConductor, app_id: str
) -> AsyncIterator[tuple[AppClient, CellAccess]]:
    """Open the app, installing it if it is not there, and yield a client and its one cell."""
    async with conductor.admin() as opened:
        listed = await opened.ask(admin.LIST_APPS, admin.ListApps())
        if app_id not in [each.installed_app_id for each in listed]:
            await install(opened, app_id, network_seed=app_id)
        info = await enable(opened, app_id)
        port = await installer.attach(opened, app_id, 0)
        token = await installer.issue_token(opened, app_id)
        cells = await installer.authorise(opened, info, {})
    async with app.connect("127.0.0.1", port, token, clock=conductors.CLOCK) as client:
        yield client, cells["notes"]


async def call(client: AppClient, cell: CellAccess, fn: str, argument: Any = None) -> Any:
    payload = msgspec.msgpack.encode(argument)
    signer = Signer(cell.credentials)
    result = await client.call_zome(signer, cell.cell, "notes", fn, payload, timeout_s=LONG_S)
    return msgspec.msgpack.decode(result)


@pytest.mark.parametrize(
    ("seed", "properties", "proof"),
    [(None, {"fee": 3}, None), ("b", None, None), (None, None, b"\xc0")],
    ids=["properties", "seed", "proof"],
)
async def test_an_app_is_installed_with_the_hash_that_its_bundle_says(
    conductor: AnyConductor, seed: str | None, properties: Any, proof: bytes | None
) -> None:
    """What `bundles` computes from seed and properties is what the conductor reports."""
    happ = bundles.read_happ(conductors.NOTES.read_bytes())
    role = admin.RoleProvision(proof, admin.RoleModifiers(seed, properties))
    name = f"hashed-{seed}-{properties}"
    settings = {"notes": Tagged("provisioned", role)}
    async with conductor.admin() as opened:
        info = await install(opened, name, network_seed="a", roles_settings=settings)
        definition = await opened.ask(admin.GET_DNA_DEFINITION, info.provisioned()["notes"])
    expected = happ.dna_hashes("0.6", "a", {"notes": bundles.Modifiers(seed, properties)})
    assert {name: cell.dna_hash for name, cell in info.provisioned().items()} == expected
    assert info.status == Tagged(apps.DISABLED, {"type": "never_started"})
    zomes = {zome.name: zome.wasm_hash for zome in happ.roles[0].dna.coordinators}
    assert {name: zome.wasm_hash for name, zome in definition.coordinator_zomes} == zomes


async def test_apps_are_listed_by_status_newest_first(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        for name in ("first", "second"):
            await install(opened, name, network_seed=name)
        await enable(opened, "second")
        everything = await opened.ask(admin.LIST_APPS, admin.ListApps())
        disabled = await opened.ask(admin.LIST_APPS, admin.ListApps(apps.DISABLED))
        await opened.ask(admin.DISABLE_APP, admin.AppId("second"))
        after = await opened.ask(admin.LIST_APPS, admin.ListApps(apps.ENABLED))
    assert [each.installed_app_id for each in everything][:2] == ["second", "first"]
    assert "first" in [each.installed_app_id for each in disabled]
    assert "second" not in [each.installed_app_id for each in disabled]
    assert "second" not in [each.installed_app_id for each in after]


async def test_disabling_and_enabling_twice_is_fine(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        await install(opened, "twice", network_seed="twice")
        for _ in range(2):
            info = await enable(opened, "twice")
            assert info.status.type == apps.ENABLED
        for _ in range(2):
            await opened.ask(admin.DISABLE_APP, admin.AppId("twice"))


async def test_an_uninstalled_app_is_gone(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        info = await install(opened, "gone", network_seed="gone")
        await opened.ask(admin.UNINSTALL_APP, admin.UninstallApp("gone"))
        listed = await opened.ask(admin.LIST_APPS, admin.ListApps())
        cells = await opened.ask(admin.LIST_CELL_IDS, None)
        assert "gone" not in [each.installed_app_id for each in listed]
        assert info.provisioned()["notes"] not in cells
        with pytest.raises(ConductorError) as caught:
            await enable(opened, "gone")
    assert caught.value.is_about('AppNotInstalled("gone")')


async def test_installing_the_same_id_twice_is_refused_by_name(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        await install(opened, "same", network_seed="same")
        with pytest.raises(ConductorError) as caught:
            await install(opened, "same", network_seed="same")
    assert caught.value.kind == "internal_error"
    assert caught.value.is_about('AppAlreadyInstalled("same")')


@pytest.mark.parametrize("content", [b"no bundle", b"\x1f\x8b\x08\x00", b""])
async def test_what_is_no_bundle_is_refused(
    conductor: AnyConductor, content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "not-a.happ"
    file.write_bytes(content)
    asked = admin.InstallAppPayload(source=Tagged("path", str(file)), installed_app_id="no")
    async with conductor.admin() as opened:
        with pytest.raises(ConductorError) as caught:
            await opened.ask(admin.INSTALL_APP, asked)
    assert caught.value.is_about("AppBundleError")


async def test_an_unknown_request_is_answered_with_an_error(conductor: AnyConductor) -> None:
    unknown = wire.Endpoint("fly_to_the_moon", str, "moon_reached", wire.NOTHING)
    wrong = wire.Endpoint("enable_app", int, "app_enabled", wire.NOTHING)
    async with conductor.admin() as opened:
        for endpoint, value in [(unknown, "now"), (wrong, 3)]:
            with pytest.raises(ConductorError) as caught:
                await opened.ask(endpoint, value)  # type: ignore[arg-type]
            assert caught.value.kind == "deserialization"
        assert await opened.ask(admin.LIST_APPS, admin.ListApps()) is not None


async def test_who_comes_from_elsewhere_is_not_let_in(conductor: AnyConductor) -> None:
    """A web page names its own address; the admin interface is not for it."""
    for origin in ("https://example.com", "null"):
        with pytest.raises(NotSentError, match="400"):
            async with connection.connect("127.0.0.1", conductor.admin_port, origin=origin):
                pass


async def test_facts_about_the_network_are_told(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        await install(opened, "told", network_seed="told")
        await opened.ask(admin.STORAGE_INFO, None)
        await opened.ask(admin.DUMP_NETWORK_METRICS, admin.DumpNetworkMetrics())
        stats = await opened.ask(admin.DUMP_NETWORK_STATS, None)
        assert "backend" in stats.transport_stats
        await opened.ask(admin.AGENT_INFO, admin.AgentInfo())
        assert await opened.ask(admin.LIST_DNAS, None)
        key = await opened.ask(admin.GENERATE_AGENT_PUB_KEY, None)
        assert hashes.AGENT.check(key) == key


async def test_an_app_interface_is_there_again_after_a_restart_and_tokens_are_not(
    conductor: AnyConductor,
) -> None:
    async with conductor.admin() as opened:
        await install(opened, "again", network_seed="again")
        await enable(opened, "again")
        port = await installer.attach(opened, "again", conductors.free_port())
        token = await installer.issue_token(opened, "again")
        assert await installer.attach(opened, "again", port) == port
    async with app.connect("127.0.0.1", port, token, clock=conductors.CLOCK) as client:
        assert client.info.installed_app_id == "again"
    await conductor.restart()
    with pytest.raises(NotSentError, match="token"):
        async with app.connect("127.0.0.1", port, token, clock=conductors.CLOCK):
            pass
    async with conductor.admin() as opened:
        listed = await opened.ask(admin.LIST_APPS, admin.ListApps(apps.ENABLED))
        assert "again" in [each.installed_app_id for each in listed]
        assert await installer.attach(opened, "again", port) == port
        token = await installer.issue_token(opened, "again")
    for _ in range(2):  # many uses
        async with app.connect("127.0.0.1", port, token, clock=conductors.CLOCK) as client:
            assert client.info.status.type == apps.ENABLED


async def test_a_token_of_another_app_opens_nothing(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        for name in ("mine", "yours"):
            await install(opened, name, network_seed=name)
            await enable(opened, name)
        port = await installer.attach(opened, "mine", 0)
        token = await installer.issue_token(opened, "yours")
    with pytest.raises(NotSentError, match="token"):
        async with app.connect("127.0.0.1", port, token, clock=conductors.CLOCK):
            pass


async def test_a_taken_port_is_said_to_be_taken(conductor: AnyConductor) -> None:
    async with conductor.admin() as opened:
        await install(opened, "taken", network_seed="taken")
        await install(opened, "neighbour", network_seed="neighbour")
        port = await installer.attach(opened, "neighbour", 0)
        for used in (conductor.admin_port, port):
            with pytest.raises(TransientError, match=f"port {used} is taken"):
                await installer.attach(opened, "taken", used)


async def test_functions_are_called_with_what_was_said_and_answer_it(
    conductor: AnyConductor,
) -> None:
    async with called(conductor, "called") as (client, cell):
        for value in [None, 1, -5, 2**40, 1.5, "ä", [1, [2]], {"b": {"a": None}}, b"\x00\xff"]:
            assert await call(client, cell, "echo", value) == value
        who = await call(client, cell, "whoami")
        assert who["dna"] == hashes.text(cell.cell.dna_hash)
        before = await call(client, cell, "count_notes")
        await call(client, cell, "create_note", {"title": "a", "body": "b"})
        assert await call(client, cell, "count_notes") == before + 1


async def test_signals_arrive_on_the_connection_of_their_app(conductor: AnyConductor) -> None:
    async with called(conductor, "called") as (client, cell):
        signals = client.signals()
        await call(client, cell, "create_note", {"title": "heard", "body": ""})
        async with asyncio.timeout(LONG_S):
            signal = await anext(signals)
        assert (signal.cell_id, signal.zome_name) == (cell.cell, "notes")
        said = msgspec.msgpack.decode(signal.signal)
        assert said == {"type": "note_created", "title": "heard"}


async def test_failures_of_a_zome_are_told_as_they_are(conductor: AnyConductor) -> None:
    async with called(conductor, "called") as (client, cell):
        with pytest.raises(ConductorError) as failed:
            await call(client, cell, "fail", "because")
        with pytest.raises(ConductorError) as unknown:
            await call(client, cell, "no_such_function")
    assert failed.value.is_about('Guest("because")')
    assert unknown.value.is_about("Zome: notes Fn no_such_function")
    assert failed.value.kind == unknown.value.kind == "internal_error"


async def test_many_calls_share_one_connection(conductor: AnyConductor) -> None:
    async with called(conductor, "called") as (client, cell), asyncio.TaskGroup() as group:
        calls = [group.create_task(call(client, cell, "echo", each)) for each in range(40)]
    assert [each.result() for each in calls] == list(range(40))


async def test_a_call_is_good_once_and_for_its_time_and_with_its_signature(
    conductor: AnyConductor,
) -> None:
    async with called(conductor, "called") as (client, cell):
        signer = Signer(cell.credentials)
        now = conductors.CLOCK.now()

        def sign(nonce: bytes, **late: float) -> SignedZomeCall:
            at = now + timedelta(**late)
            return signer.sign(cell.cell, "notes", "echo", b"\xc0", nonce=nonce, now=at)

        async def refused(signed: SignedZomeCall) -> ConductorError:
            with pytest.raises(ConductorError) as caught:
                await client.connection.ask(app.CALL_ZOME, signed)
            return caught.value

        good = sign(b"n" * 32)
        assert await client.connection.ask(app.CALL_ZOME, good) == b"\xc0"
        assert (await refused(good)).is_about("Duplicate")
        assert (await refused(sign(b"o" * 32, minutes=-10))).is_about("Expired")
        assert (await refused(sign(b"p" * 32, minutes=70))).is_about("Future")
        forged = SignedZomeCall(good.params, bytes(64))
        assert (await refused(forged)).kind == "zome_call_authentication_failed"


async def test_a_revoked_grant_lets_nobody_call(conductor: AnyConductor) -> None:
    async with called(conductor, "revoked") as (client, cell):
        assert await call(client, cell, "echo", 1) == 1
        async with conductor.admin() as opened:
            cells = await installer.authorise(opened, client.info, {})  # a new key: the old goes
        with pytest.raises(ConductorError) as caught:
            await call(client, cell, "echo", 1)
        assert caught.value.kind == "zome_call_unauthorized"
        assert await call(client, cells["notes"], "echo", 2) == 2


async def test_a_known_key_is_used_again(conductor: AnyConductor) -> None:
    """Each grant is an entry on the chain for ever; a restart must not write one."""
    async with called(conductor, "revoked") as (client, cell), conductor.admin() as opened:
        known = {cell.cell: cell.credentials}
        again = await installer.authorise(opened, client.info, known)
        assert again["notes"] == cell
        listed = await opened.ask(
            admin.LIST_CAPABILITY_GRANTS, admin.ListCapabilityGrants("revoked")
        )
        assert len([each for _, grants in listed for each in grants if not each.revoked_at]) == 1


async def test_a_disabled_app_is_not_called(conductor: AnyConductor) -> None:
    async with called(conductor, "revoked") as (client, cell), conductor.admin() as opened:
        await opened.ask(admin.DISABLE_APP, admin.AppId("revoked"))
        with pytest.raises(ConductorError):
            await call(client, cell, "echo", 1)
