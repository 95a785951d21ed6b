"""Do what `lifecycle` plans, on a conductor: install, update, enable, open access, init calls.

Looks before it acts, so that it may be killed between any two steps and begun again. Decides
nothing: that is `lifecycle`'s. Starts no conductor, and writes no file but what `save` writes.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hivekeeper.holochain import admin, app, bundles, lifecycle
from hivekeeper.holochain.access import Access, CellAccess
from hivekeeper.holochain.apps import AppInfo, CellId
from hivekeeper.holochain.connection import ORIGIN, Connection
from hivekeeper.holochain.errors import ConductorError, NotSentError
from hivekeeper.holochain.lifecycle import AppFound, AppWanted, InitState, Installed, Step
from hivekeeper.holochain.signing import (
    CAP_SECRET_BYTES,
    SEED_BYTES,
    Signer,
    SigningCredentials,
)
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.manifest import InitCall
from hivekeeper.ports import Clock

INSTALL_TIMEOUT_S: Final = 300.0
"""3.6 s were measured for 3.5 MB of WebAssembly; a large hApp on a busy host takes longer."""
INIT_TIMEOUT_S: Final = 120.0
"""The first grant and the first call run a cell's `init`: 6 s were measured."""
TAG: Final = "hivekeeper"
"""What our grants are called on a chain."""

Progress = Callable[[str], None]
Save = Callable[[Installed], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A hApp that is up, and how to call it."""

    info: AppInfo
    access: Access
    installed: Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """Brings hApps up in one conductor.

    Args:
        connection: To its admin interface.
        host: Where its app interfaces listen.
        clock: For signed calls.
        progress: Told what is being done, for people.
    """

    connection: Connection
    host: str
    clock: Clock
    progress: Progress

    async def bring_up(
        self,
        wanted: AppWanted,
        *,
        app_port: int,
        access: Access | None,
        installed: Installed,
        save: Save,
    ) -> Happening:
        """Make the hApp be as wanted, callable, and initialised; safe to repeat.

        Args:
            wanted: What is to be.
            app_port: For its app interface, as recorded; 0: any.
            access: As last returned, if that is still known: its keys are used again.
            installed: As last saved.
            save: Keeps `installed` for good before it returns.

        Raises:
            TransientError: The conductor is gone, or the port is taken.
            PermanentError: It refused, or a person must decide (`lifecycle.plan`).
        """
        found = await self._find(wanted.app_id)
        plan = lifecycle.plan(wanted, found)
        for step in plan.steps:
            await self._do(step, wanted, found, plan.roles, app_port)
        info = await self._info(wanted.app_id)
        if info is None:
            raise TransientError(f"cannot bring up {wanted.app_id}: it is gone again")
        opened = await self._open_access(info, app_port, access)
        installed = await self._init(wanted, info, opened, installed, save)
        return Happening(info=info, access=opened, installed=installed)

    async def _find(self, app_id: str) -> AppFound | None:
        info = await self._info(app_id)
        if info is None:
            return None
        coordinators = {}
        for role, cell in info.provisioned().items():
            dna = await self.connection.ask(admin.GET_DNA_DEFINITION, cell)
            coordinators[role] = {name: zome.wasm_hash for name, zome in dna.coordinator_zomes}
        return AppFound(info=info, coordinators=coordinators)

    async def _info(self, app_id: str) -> AppInfo | None:
        listed = await self.connection.ask(admin.LIST_APPS, admin.ListApps())
        return next((each for each in listed if each.installed_app_id == app_id), None)

    async def _do(
        self,
        step: Step,
        wanted: AppWanted,
        found: AppFound | None,
        roles: tuple[str, ...],
        app_port: int,
    ) -> None:
        match step:
            case Step.INSTALL:
                self.progress("installing the hApp")
                asked = _install_payload(wanted)
                await self.connection.ask(admin.INSTALL_APP, asked, timeout_s=INSTALL_TIMEOUT_S)
            case Step.PROVIDE_MEMPROOFS:
                self.progress("giving the hApp its membrane proofs")
                await self._provide_memproofs(wanted, app_port)
            case Step.UPDATE_COORDINATORS:
                assert found is not None, "what is not installed is not updated"
                self.progress("updating the hApp's coordinators")
                await self._update(wanted, found, roles)
            case Step.ENABLE:
                self.progress("enabling the hApp")
                asked_for = admin.AppId(wanted.app_id)
                await self.connection.ask(admin.ENABLE_APP, asked_for, timeout_s=INSTALL_TIMEOUT_S)

    async def _update(self, wanted: AppWanted, found: AppFound, roles: tuple[str, ...]) -> None:
        cells = found.info.provisioned()
        for role in wanted.happ.roles:
            if role.name in roles:
                source = Tagged("bundle", bundles.coordinator_bundle(role.dna))
                asked = admin.UpdateCoordinators(cells[role.name], source)
                await self.connection.ask(
                    admin.UPDATE_COORDINATORS, asked, timeout_s=INSTALL_TIMEOUT_S
                )

    async def _provide_memproofs(self, wanted: AppWanted, app_port: int) -> None:
        port = await attach(self.connection, wanted.app_id, app_port)
        token = await issue_token(self.connection, wanted.app_id)
        async with app.connect(self.host, port, token, clock=self.clock) as client:
            proofs = dict(wanted.membrane_proofs)
            await client.connection.ask(app.PROVIDE_MEMPROOFS, proofs)

    async def _open_access(self, info: AppInfo, app_port: int, known: Access | None) -> Access:
        self.progress("opening the hApp to calls")
        app_id = info.installed_app_id
        port = await attach(self.connection, app_id, app_port)
        credentials = (
            {each.cell: each.credentials for each in known.cells.values()} if known else {}
        )
        cells = await authorise(self.connection, info, credentials)
        token = await issue_token(self.connection, app_id)
        return Access(installed_app_id=app_id, app_port=port, token=token, cells=cells)

    async def _init(
        self, wanted: AppWanted, info: AppInfo, access: Access, installed: Installed, save: Save
    ) -> Installed:
        agent = info.agent_pub_key
        left = lifecycle.init_calls_left(wanted, installed, agent)
        if not left:
            return installed
        port, token = access.app_port, access.token
        async with app.connect(self.host, port, token, clock=self.clock) as client:
            for key, call in left:
                self.progress(f"calling {call.zome}/{call.fn}")
                before, sent = installed, lifecycle.noted(installed, agent, key, InitState.SENT)
                save(sent)
                try:
                    await _call_init(client, access.cells[call.role], call)
                except (NotSentError, PermanentError):
                    save(before)
                    raise
                installed = lifecycle.noted(sent, agent, key, InitState.DONE)
                save(installed)
        return installed


async def attach(connection: Connection, app_id: str, port: int) -> int:
    """Make sure that the hApp has an app interface on `port` (0: any), and return its port.

    Raises:
        TransientError: The port is taken by another program, or another hApp.
    """
    for each in await connection.ask(admin.LIST_APP_INTERFACES, None):
        if each.installed_app_id == app_id and port in (0, each.port):
            return each.port
    asked = admin.AttachAppInterface(port=port, allowed_origins=ORIGIN, installed_app_id=app_id)
    try:
        return (await connection.ask(admin.ATTACH_APP_INTERFACE, asked)).port
    except ConductorError as error:
        if error.is_about("AddrInUse"):
            raise TransientError(
                f"cannot open the app interface of {app_id}: port {port} is taken"
            ) from error
        raise


async def issue_token(connection: Connection, app_id: str) -> bytes:
    """Return a token for the hApp's interface: for ever, any number of times."""
    asked = admin.IssueAppAuthenticationToken(installed_app_id=app_id)
    return bytes((await connection.ask(admin.ISSUE_APP_AUTHENTICATION_TOKEN, asked)).token)


async def authorise(
    connection: Connection, info: AppInfo, known: Mapping[CellId, SigningCredentials]
) -> dict[str, CellAccess]:
    """Make sure that each of the hApp's cells can be called with a key of ours.

    A grant is an entry on the cell's chain, for ever: so a key that still has one is used again,
    and grants of ours whose key was lost are revoked.

    Args:
        connection: To the admin interface.
        info: An enabled hApp.
        known: The keys that are still known.

    Returns:
        By role.
    """
    asked = admin.ListCapabilityGrants(info.installed_app_id)
    listed = await connection.ask(admin.LIST_CAPABILITY_GRANTS, asked)
    grants = dict(listed)
    return {
        role: await _authorise_cell(connection, cell, grants.get(cell, []), known.get(cell))
        for role, cell in info.provisioned().items()
    }


async def _authorise_cell(
    connection: Connection,
    cell: CellId,
    grants: list[admin.CapGrantInfo],
    known: SigningCredentials | None,
) -> CellAccess:
    ours = [each for each in grants if each.cap_grant.tag == TAG and each.revoked_at is None]
    agent = Signer(known).agent if known is not None else None
    held = [each for each in ours if each.cap_grant.access.assignees == [agent]]
    if known is None or not held:
        known = await _grant(connection, cell)
    for each in ours:
        if each not in held:
            lost = admin.RevokeZomeCallCapability(each.action_hash, cell)
            await connection.ask(admin.REVOKE_ZOME_CALL_CAPABILITY, lost)
    return CellAccess(cell=cell, credentials=known)


async def _grant(connection: Connection, cell: CellId) -> SigningCredentials:
    """Which functions may be called is the gateway's to say; the key may call all."""
    credentials = SigningCredentials(
        secrets.token_bytes(SEED_BYTES), secrets.token_bytes(CAP_SECRET_BYTES)
    )
    assigned = admin.Assigned(credentials.cap_secret, [Signer(credentials).agent])
    grant = admin.ZomeCallCapGrant(TAG, Tagged("assigned", assigned), Tagged("all"))
    asked = admin.GrantZomeCallCapability(cell, grant)
    await connection.ask(admin.GRANT_ZOME_CALL_CAPABILITY, asked, timeout_s=INIT_TIMEOUT_S)
    return credentials


async def _call_init(client: app.AppClient, access: CellAccess, call: InitCall) -> None:
    payload = msgspec.msgpack.encode(call.payload)
    signer = Signer(access.credentials)
    try:
        await client.call_zome(
            signer, access.cell, call.zome, call.fn, payload, timeout_s=INIT_TIMEOUT_S
        )
    except ConductorError as error:
        raise PermanentError(
            f"cannot make the init call {call.zome}/{call.fn}: {error.text}",
            hint="Mend holochain.init_calls in the manifest and apply it again.",
        ) from error


def _install_payload(wanted: AppWanted) -> admin.InstallAppPayload:
    roles = {*wanted.modifiers, *wanted.membrane_proofs}
    return admin.InstallAppPayload(
        source=Tagged("path", wanted.path),
        installed_app_id=wanted.app_id,
        network_seed=wanted.network_seed,
        roles_settings={role: Tagged("provisioned", _provision(wanted, role)) for role in roles},
    )


def _provision(wanted: AppWanted, role: str) -> admin.RoleProvision:
    modifiers = wanted.modifiers.get(role)
    asked: dict[str, Any] = msgspec.structs.asdict(modifiers) if modifiers else {}
    return admin.RoleProvision(wanted.membrane_proofs.get(role), admin.RoleModifiers(**asked))
