"""A hApp is brought up, whatever was there before, and stays callable over restarts."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import conductors
import happ_bundles
from hivekeeper.holochain import access, admin, app, apps, bundles, connection, lifecycle
from hivekeeper.holochain.access import Access
from hivekeeper.holochain.bundles import Modifiers
from hivekeeper.holochain.errors import AnswerLostError
from hivekeeper.holochain.installer import Happening, Installer
from hivekeeper.holochain.lifecycle import AppWanted, Installed
from hivekeeper.holochain.signing import Signer
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.manifest import InitCall
from hivekeeper.testing.conductor import FakeConductor, Fault

SETUP = InitCall(role="notes", zome="notes", fn="setup", payload={"node": "here"})


class Host:
    """What a host agent does around an installer: it remembers."""

    def __init__(self, admin_port: int, folder: Path, app_id: str = "notes") -> None:
        self.admin_port = admin_port
        self.app_id = app_id
        self.app_port = conductors.free_port()
        self.folder = folder
        self.installed = Installed()
        self.access: Access | None = None
        self.said: list[str] = []

    def wanted(self, bundle: bytes | None = None, **more: Any) -> AppWanted:
        path = self.folder / "app.happ"
        path.write_bytes(bundle or conductors.NOTES.read_bytes())
        settings: dict[str, Any] = {
            "network_seed": "seed",
            "modifiers": {},
            "membrane_proofs": {},
            "init_calls": (),
        }
        return AppWanted(
            app_id=self.app_id,
            path=str(path),
            happ=bundles.read_happ(path.read_bytes()),
            line="0.6",
            **(settings | more),
        )

    async def bring_up(self, wanted: AppWanted) -> Happening:
        async with connection.connect("127.0.0.1", self.admin_port) as opened:
            installer = Installer(
                connection=opened,
                host="127.0.0.1",
                clock=conductors.CLOCK,
                progress=self.said.append,
            )
            happening = await installer.bring_up(
                wanted,
                app_port=self.app_port,
                access=self.access,
                installed=self.installed,
                save=self.save,
            )
        self.access = access.decode(access.encode(happening.access))
        assert happening.installed == self.installed
        return happening

    def save(self, installed: Installed) -> None:
        self.installed = msgspec.json.decode(msgspec.json.encode(installed), type=Installed)

    async def call(self, fn: str, argument: Any = None) -> Any:
        assert self.access is not None
        cell = self.access.cells["notes"]
        async with app.connect(
            "127.0.0.1", self.access.app_port, self.access.token, clock=conductors.CLOCK
        ) as client:
            payload = msgspec.msgpack.encode(argument)
            signer = Signer(cell.credentials)
            result = await client.call_zome(signer, cell.cell, "notes", fn, payload)
            return msgspec.msgpack.decode(result)


@pytest.fixture
async def fake() -> AsyncIterator[FakeConductor]:
    async with conductors.fake_conductor().running() as conductor:
        yield conductor


@pytest.fixture
def host(fake: FakeConductor, tmp_path: Path) -> Host:
    return Host(fake.admin_port, tmp_path)


CHANGES = {
    admin.INSTALL_APP.request,
    admin.ENABLE_APP.request,
    admin.UPDATE_COORDINATORS.request,
    admin.GRANT_ZOME_CALL_CAPABILITY.request,
    admin.REVOKE_ZOME_CALL_CAPABILITY.request,
    admin.ATTACH_APP_INTERFACE.request,
    app.CALL_ZOME.request,
    app.PROVIDE_MEMPROOFS.request,
}


def changes(fake: FakeConductor) -> list[str]:
    """Return what was asked that changes anything, and forget it."""
    made = [each for each in fake.seen if each in CHANGES]
    fake.seen.clear()
    return made


async def test_the_same_manifest_again_changes_nothing(fake: FakeConductor, host: Host) -> None:
    wanted = host.wanted(init_calls=(SETUP,))
    first = await host.bring_up(wanted)
    assert changes(fake) == [
        "install_app",
        "enable_app",
        "attach_app_interface",
        "grant_zome_call_capability",
        "call_zome",
    ]
    again = await host.bring_up(wanted)
    assert changes(fake) == []
    assert again.info == first.info
    assert again.access.cells == first.access.cells
    assert again.access.app_port == first.access.app_port == host.app_port
    assert await host.call("get_node") == "here"


async def test_settings_of_roles_go_with_the_installation(fake: FakeConductor, host: Host) -> None:
    wanted = host.wanted(
        modifiers={"notes": Modifiers("own", {"fee": 1})}, membrane_proofs={"notes": b"\xc0"}
    )
    happening = await host.bring_up(wanted)
    cells = happening.info.provisioned()
    assert {role: cell.dna_hash for role, cell in cells.items()} == wanted.dna_hashes()
    changes(fake)
    await host.bring_up(wanted)
    assert changes(fake) == []


async def test_what_is_installed_and_not_enabled_is_finished(
    fake: FakeConductor, host: Host
) -> None:
    async with connection.connect("127.0.0.1", fake.admin_port) as opened:
        await host.bring_up(host.wanted())
        await opened.ask(admin.DISABLE_APP, admin.AppId("notes"))
        changes(fake)
    assert (await host.bring_up(host.wanted())).info.status.type == apps.ENABLED
    assert changes(fake) == ["enable_app"]


async def test_whatever_request_is_cut_off_the_next_attempt_finishes(tmp_path: Path) -> None:
    """Crash after each effect: nothing is installed, granted for use, or initialised twice."""
    names = ["list_apps", "install_app", "enable_app", "attach_app_interface"]
    names += ["list_app_interfaces", "list_capability_grants", "grant_zome_call_capability"]
    names += ["issue_app_authentication_token", "app_info"]
    for name in names:
        fake = conductors.fake_conductor()
        async with fake.running():
            host = Host(fake.admin_port, tmp_path)
            wanted = host.wanted(init_calls=(SETUP,))
            fake.faults[name] = Fault.HANG_UP
            with pytest.raises(TransientError):
                await host.bring_up(wanted)
            del fake.faults[name]
            happening = await host.bring_up(wanted)
            assert await host.call("get_node") == "here", name
            assert fake.seen.count("install_app") == 1, name
            assert list(happening.installed.init_calls.values()) == ["done"], name


async def test_an_init_call_whose_answer_was_lost_is_not_made_again_and_is_named(
    fake: FakeConductor, host: Host
) -> None:
    wanted = host.wanted(init_calls=(SETUP,))
    fake.faults["call_zome"] = Fault.HANG_UP
    with pytest.raises(AnswerLostError):
        await host.bring_up(wanted)
    fake.faults.clear()
    happening = await host.bring_up(wanted)
    assert fake.seen.count("call_zome") == 1
    (unanswered,) = lifecycle.init_calls_unanswered(happening.installed)
    assert unanswered.startswith("notes/notes/setup")


async def test_an_init_call_that_fails_is_a_clear_error_and_may_be_made_again(host: Host) -> None:
    fails = InitCall(role="notes", zome="notes", fn="fail", payload="no node")
    with pytest.raises(PermanentError, match=r"notes/fail: .*no node") as caught:
        await host.bring_up(host.wanted(init_calls=(fails,)))
    assert "holochain.init_calls" in caught.value.hint
    assert host.installed.init_calls == {}
    await host.bring_up(host.wanted(init_calls=(SETUP,)))
    assert await host.call("get_node") == "here"


async def test_a_new_installation_is_initialised_anew(fake: FakeConductor, host: Host) -> None:
    """Another agent, another chain: what was done on the old one does not count."""
    echo = InitCall(role="notes", zome="notes", fn="echo")
    first = await host.bring_up(host.wanted(init_calls=(echo,)))
    async with connection.connect("127.0.0.1", fake.admin_port) as opened:
        await opened.ask(admin.UNINSTALL_APP, admin.UninstallApp("notes"))
    changes(fake)
    second = await host.bring_up(host.wanted(init_calls=(echo,)))
    assert second.info.agent_pub_key != first.info.agent_pub_key
    assert "call_zome" in changes(fake)


async def test_new_coordinators_are_put_in_and_the_chain_stays(
    fake: FakeConductor, host: Host
) -> None:
    first = await host.bring_up(host.wanted())
    await host.call("create_note", {"title": "kept", "body": ""})
    changes(fake)
    changed = host.wanted(happ_bundles.notes(dna=happ_bundles.new_coordinator))
    second = await host.bring_up(changed)
    assert changes(fake) == ["update_coordinators"]
    assert second.info.provisioned() == first.info.provisioned()
    assert await host.call("count_notes") == 1
    changes(fake)
    await host.bring_up(changed)
    assert changes(fake) == []


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": happ_bundles.notes(dna=happ_bundles.new_integrity)},
        {"network_seed": "another"},
        {"modifiers": {"notes": Modifiers(None, {"fee": 1})}},
    ],
    ids=["integrity", "seed", "properties"],
)
async def test_what_would_lose_the_chain_is_refused(
    fake: FakeConductor, host: Host, change: dict[str, Any]
) -> None:
    await host.bring_up(host.wanted())
    changes(fake)
    with pytest.raises(PermanentError, match="cannot change notes") as caught:
        await host.bring_up(host.wanted(**change))
    assert "--purge" in caught.value.hint
    assert changes(fake) == []


async def test_after_a_restart_only_the_token_is_new(tmp_path: Path) -> None:
    conductor = conductors.fake_conductor()
    async with conductor.running():
        host = Host(conductor.admin_port, tmp_path)
        first = await host.bring_up(host.wanted())
    async with conductor.running():
        changes(conductor)
        second = await host.bring_up(host.wanted())
        assert changes(conductor) == []
        assert second.access.cells == first.access.cells
        assert second.access.app_port == first.access.app_port
        assert second.access.token != first.access.token
        assert await host.call("echo", 1) == 1


async def test_membrane_proofs_are_given_before_it_is_enabled(
    fake: FakeConductor, host: Host
) -> None:
    bundle = happ_bundles.notes(happ=happ_bundles.deferred)
    with pytest.raises(PermanentError, match="membrane proofs"):
        await host.bring_up(host.wanted(bundle))
    assert changes(fake) == []
    wanted = host.wanted(bundle, membrane_proofs={"notes": b"\xc0"})
    async with connection.connect("127.0.0.1", fake.admin_port) as opened:
        asked = admin.InstallAppPayload(
            source=Tagged("path", wanted.path),
            installed_app_id="notes",
            network_seed="seed",
        )
        await opened.ask(admin.INSTALL_APP, asked)  # somebody began without them
    changes(fake)
    happening = await host.bring_up(wanted)
    assert changes(fake)[:3] == ["attach_app_interface", "provide_memproofs", "enable_app"]
    assert happening.info.status.type == apps.ENABLED


async def test_a_lost_key_is_replaced_and_its_grant_revoked(
    fake: FakeConductor, host: Host
) -> None:
    await host.bring_up(host.wanted())
    changes(fake)
    host.access = None
    await host.bring_up(host.wanted())
    assert changes(fake) == ["grant_zome_call_capability", "revoke_zome_call_capability"]
    assert await host.call("echo", 1) == 1


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[conductors.RealConductor]:
    conductor = conductors.RealConductor(tmp_path_factory.mktemp("hc"), conductors.real_program())
    try:
        conductor.start()
        yield conductor
    finally:
        conductor.stop()


@pytest.mark.conductor
@pytest.mark.timeout(400)  # it compiles WebAssembly four times, on a machine that may be busy
async def test_the_real_one_through_a_whole_life(
    real: conductors.RealConductor, tmp_path: Path
) -> None:
    """Install, init once, no-op, coordinators replaced, killed, started, called, nothing lost."""
    host = Host(real.admin_port, tmp_path)
    wanted = host.wanted(init_calls=(SETUP,))
    first = await host.bring_up(wanted)
    await host.call("create_note", {"title": "kept", "body": ""})
    assert (await host.bring_up(wanted)).access.cells == first.access.cells

    changed = host.wanted(
        happ_bundles.notes(dna=happ_bundles.new_coordinator), init_calls=(SETUP,)
    )
    updated = await host.bring_up(changed)
    assert updated.info.provisioned() == first.info.provisioned()
    assert await host.call("count_notes") == 1

    real.kill()
    with pytest.raises(TransientError):
        await host.bring_up(changed)
    real.start()
    restarted = await host.bring_up(changed)
    assert restarted.access.cells == first.access.cells
    assert restarted.access.app_port == host.app_port
    assert await host.call("list_titles") == ["kept"]
    assert await host.call("get_node") == "here"
    assert apps.describe(restarted.info)["cell_info"]["notes"][0]["value"]["cell_id"]

    with pytest.raises(PermanentError, match="cannot change notes"):
        await host.bring_up(host.wanted(network_seed="another"))


@pytest.mark.conductor
async def test_the_real_one_takes_membrane_proofs_late(
    real: conductors.RealConductor, tmp_path: Path
) -> None:
    host = Host(real.admin_port, tmp_path, app_id="late")
    bundle = happ_bundles.notes(happ=happ_bundles.deferred)
    wanted = host.wanted(bundle, membrane_proofs={"notes": b"\xc0"})
    async with connection.connect("127.0.0.1", real.admin_port) as opened:
        asked = admin.InstallAppPayload(
            source=Tagged("path", wanted.path),
            installed_app_id="late",
            network_seed="seed",
        )
        info = await opened.ask(admin.INSTALL_APP, asked)
        assert info.status.type == apps.AWAITING_MEMPROOFS
    happening = await host.bring_up(wanted)
    assert happening.info.status.type == apps.ENABLED
    assert await host.call("echo", "in") == "in"
