"""What a fake conductor holds: hApps, grants and zome functions, and the rules that guard a call.

Knows no connections (`testing.conductor`). Errors read as the real conductor's do.
"""

import gzip
import hashlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from hivekeeper.holochain import admin, app, apps, bundles, hashes, wire
from hivekeeper.holochain.apps import AppInfo, CellId, DnaModifiers, Provisioned, ProvisionedCell
from hivekeeper.holochain.bundles import Happ, Modifiers, Role
from hivekeeper.holochain.hashes import ActionHash
from hivekeeper.holochain.signing import SignedZomeCall, ZomeCallParams
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import UserError
from hivekeeper.ports import Clock

API: Final = "Conductor returned an error while using a ConductorApi: "
_FUTURE: Final = timedelta(minutes=50)

Function = Callable[["Call"], Any]
"""A zome function: what it returns becomes MessagePack, as it is if it is `msgspec.Raw`."""
Functions = Mapping[tuple[str, str], Function]


class GuestError(Exception):
    """A zome function fails."""


class FailureError(Exception):
    """A request is answered with an error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Call:
    """What a zome function gets."""

    cell: CellId
    argument: Any
    emit: Callable[[Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What became of a call: its result, and the signals to send to the app's listeners."""

    app_id: str
    result: bytes
    signals: list[bytes]


@dataclass(slots=True)
class _App:
    info: AppInfo
    happ: Happ
    coordinators: dict[str, dict[str, apps.WasmZome]]


@dataclass(slots=True)
class _Grant:
    cell: CellId
    grant: admin.ZomeCallCapGrant
    hash: ActionHash
    revoked: bool = False


class Happs:
    """Everything that a conductor keeps over its restarts, and the nonces that it does not."""

    def __init__(self, clock: Clock, functions: Functions) -> None:
        self.functions = dict(functions)
        self._clock = clock
        self._apps: dict[str, _App] = {}
        self._grants: list[_Grant] = []
        self._nonces: set[bytes] = set()
        self._numbers = itertools.count(1)

    def restart(self) -> None:
        """Forget what the real one forgets."""
        self._nonces.clear()

    def install(self, asked: admin.InstallAppPayload) -> AppInfo:
        happ, manifest = self._bundle(asked.source)
        app_id = asked.installed_app_id or happ.name
        if app_id in self._apps:
            raise FailureError("internal_error", f'{API}AppAlreadyInstalled("{app_id}")')
        agent = asked.agent_key or hashes.AGENT.of(secrets.token_bytes(32))
        settings = {
            role: msgspec.convert(each.value, admin.RoleProvision)
            for role, each in (asked.roles_settings or {}).items()
        }
        modifiers = {
            role: Modifiers(each.modifiers.network_seed, each.modifiers.properties)
            for role, each in settings.items()
            if each.modifiers is not None
        }
        dnas = happ.dna_hashes("0.6", asked.network_seed, modifiers)
        proven = any(each.membrane_proof is not None for each in settings.values())
        waits = happ.allow_deferred_memproofs and not proven
        info = AppInfo(
            app_id,
            {role.name: self._cell_infos(role, dnas, agent) for role in happ.roles},
            Tagged(apps.AWAITING_MEMPROOFS) if waits else _disabled("never_started"),
            agent,
            manifest,
            int(self._clock.now().timestamp() * 1_000_000),
        )
        zomes = {role.name: _wasm_zomes(role.dna.coordinators) for role in happ.roles}
        self._apps[app_id] = _App(info, happ, zomes)
        return info

    def _bundle(self, source: Tagged) -> tuple[Happ, dict[str, Any]]:
        try:
            path = source.type == "path"
            data = Path(source.value).read_bytes() if path else source.value
            happ = bundles.read_happ(data)
            return happ, msgspec.msgpack.decode(gzip.decompress(data))["manifest"]
        except OSError as error:
            raise FailureError(
                "internal_error", f"{API}AppBundleError(FfsIoError({error}))"
            ) from error
        except UserError as error:
            raise FailureError(
                "internal_error", f"{API}AppBundleError(MrBundleError({error}))"
            ) from error

    def _cell_infos(
        self, role: Role, dnas: Mapping[str, hashes.DnaHash], agent: hashes.AgentPubKey
    ) -> list[apps.CellInfo]:
        if role.name not in dnas:
            return []
        modifiers = DnaModifiers("", msgspec.msgpack.encode(None))
        cell = CellId(dnas[role.name], agent)
        return [Provisioned(ProvisionedCell(cell, modifiers, role.name))]

    def uninstall(self, asked: admin.UninstallApp) -> None:
        cells = self.app(asked.installed_app_id).info.provisioned().values()
        self._grants = [each for each in self._grants if each.cell not in cells]
        del self._apps[asked.installed_app_id]

    def set_status(self, asked: admin.AppId, status: Tagged) -> AppInfo:
        found = self.app(asked.installed_app_id)
        if found.info.status.type == apps.AWAITING_MEMPROOFS:
            raise FailureError("internal_error", f"{API}AppStatusError(AwaitingMemproofs)")
        found.info = msgspec.structs.replace(found.info, status=status)
        return found.info

    def disable(self, asked: admin.AppId) -> None:
        self.set_status(asked, _disabled("user"))

    def provide_memproofs(self, app_id: str) -> None:
        found = self.app(app_id)
        status = _disabled("not_started_after_providing_memproofs")
        found.info = msgspec.structs.replace(found.info, status=status)

    def list_apps(self, asked: admin.ListApps) -> list[AppInfo]:
        wanted = asked.status_filter
        infos = [each.info for each in self._apps.values()]
        infos.sort(key=lambda info: info.installed_at, reverse=True)
        return [info for info in infos if wanted in (None, info.status.type)]

    def definition(self, cell: CellId) -> apps.DnaDef:
        found, role = self._role_of(cell)
        coordinators = found.coordinators[role.name]
        return apps.DnaDef(
            role.dna.name,
            DnaModifiers("", msgspec.msgpack.encode(None)),
            list(_wasm_zomes(role.dna.integrity).items()),
            list(coordinators.items()),
        )

    def update_coordinators(self, asked: admin.UpdateCoordinators) -> None:
        found, role = self._role_of(asked.cell_id)
        for zome in asked.source.value["manifest"]["zomes"]:
            wasm = asked.source.value["resources"][zome["path"]]
            names = [each["name"] for each in zome["dependencies"]]
            new = apps.WasmZome(hashes.wasm_hash(wasm), names)
            found.coordinators[role.name][zome["name"]] = new

    def grant(self, asked: admin.GrantZomeCallCapability) -> ActionHash:
        found, _ = self._role_of(asked.cell_id)
        if found.info.status.type != apps.ENABLED:
            raise FailureError("internal_error", f"{API}CellDisabled({asked.cell_id})")
        number = next(self._numbers).to_bytes(32, "big")
        self._grants.append(_Grant(asked.cell_id, asked.cap_grant, hashes.ACTION.of(number)))
        return self._grants[-1].hash

    def revoke(self, asked: admin.RevokeZomeCallCapability) -> None:
        for each in self._grants:
            each.revoked |= each.hash == asked.action_hash

    def list_grants(
        self, asked: admin.ListCapabilityGrants
    ) -> list[tuple[CellId, list[admin.CapGrantInfo]]]:
        """As the real one: asked to leave out the revoked ones, it leaves out all."""
        cells = self.app(asked.installed_app_id).info.provisioned().values()
        listed = [(cell, [each for each in self._grants if each.cell == cell]) for cell in cells]
        return [
            (cell, [_grant_info(each) for each in grants if asked.include_revoked])
            for cell, grants in listed
            if grants
        ]

    async def call(self, signed: SignedZomeCall) -> Called:
        """Carry out a zome call, if it may be."""
        call = msgspec.msgpack.decode(signed.params, type=ZomeCallParams)
        self._check(signed, call)
        found, _ = self._role_of(call.cell_id)
        if found.info.status.type != apps.ENABLED:
            raise FailureError("internal_error", f"{API}CellDisabled({call.cell_id})")
        function = self.functions.get((call.zome_name, call.fn_name))
        if function is None:
            raise FailureError(
                "internal_error",
                "Attempted to call a zome function that doesn't exist:"
                f" Zome: {call.zome_name} Fn {call.fn_name}",
            )
        signals: list[bytes] = []
        result = await _run(function, call, signals)
        return Called(app_id=found.info.installed_app_id, result=result, signals=signals)

    def _check(self, signed: SignedZomeCall, call: ZomeCallParams) -> None:
        """In the real one's order: signature, nonce, grant."""
        try:
            digest = hashlib.sha512(signed.params).digest()
            VerifyKey(call.provenance[3:35]).verify(digest, signed.signature)
        except (BadSignatureError, ValueError) as error:
            text = f"Authentication failure. Bad signature by {hashes.text(call.provenance)}"
            raise FailureError("zome_call_authentication_failed", text) from error
        reason = self._nonce_fault(call) or ("" if self._granted(call) else "BadCapGrant")
        if reason:
            raise FailureError(
                "zome_call_unauthorized",
                f"Call was not authorized with reason {reason}, cap secret [..] to call the"
                f" function {call.fn_name} in zome {call.zome_name}",
            )
        self._nonces.add(call.nonce)

    def _nonce_fault(self, call: ZomeCallParams) -> str:
        now = int(self._clock.now().timestamp() * 1_000_000)
        if call.expires_at <= now:
            return 'BadNonce("Expired")'
        if call.expires_at > now + _FUTURE // timedelta(microseconds=1):
            return 'BadNonce("Future")'
        return 'BadNonce("Duplicate")' if call.nonce in self._nonces else ""

    def _granted(self, call: ZomeCallParams) -> bool:
        if call.provenance == call.cell_id.agent_pub_key:
            return True
        return any(_allows(each, call) for each in self._grants)

    def app(self, app_id: str) -> _App:
        if app_id not in self._apps:
            raise FailureError("internal_error", f'{API}AppNotInstalled("{app_id}")')
        return self._apps[app_id]

    def cells(self) -> list[CellId]:
        return [cell for each in self._apps.values() for cell in each.info.provisioned().values()]

    def _role_of(self, cell: CellId) -> tuple[_App, Role]:
        for each in self._apps.values():
            for role in each.happ.roles:
                if each.info.provisioned().get(role.name) == cell:
                    return each, role
        raise FailureError(
            "internal_error",
            "The Cell for this cell id is not installed in the conductor! CellId: "
            f"Cell({hashes.text(cell.dna_hash)}, {hashes.text(cell.agent_pub_key)})",
        )


def _disabled(reason: str) -> Tagged:
    return Tagged(apps.DISABLED, {"type": reason})


def _wasm_zomes(zomes: tuple[bundles.Zome, ...]) -> dict[str, apps.WasmZome]:
    return {each.name: apps.WasmZome(each.wasm_hash, list(each.dependencies)) for each in zomes}


def _grant_info(each: _Grant) -> admin.CapGrantInfo:
    access = admin.GrantAccess(each.grant.access.type, each.grant.access.value["assignees"])
    info = admin.GrantInfo(each.grant.tag, access, each.grant.functions)
    return admin.CapGrantInfo(info, each.hash, 1, 2 if each.revoked else None)


def _allows(each: _Grant, call: ZomeCallParams) -> bool:
    functions = each.grant.functions
    listed = functions.type == "all" or [call.zome_name, call.fn_name] in functions.value
    access = each.grant.access.value
    known = call.cap_secret == access["secret"] and call.provenance in access["assignees"]
    return not each.revoked and each.cell == call.cell_id and listed and known


async def _run(function: Function, call: ZomeCallParams, signals: list[bytes]) -> bytes:
    def emit(value: Any) -> None:
        signal = app.AppSignal(call.cell_id, call.zome_name, wire.encode(value))
        signals.append(wire.encode(Tagged("app", signal)))

    try:
        result = function(Call(call.cell_id, msgspec.msgpack.decode(call.payload), emit))
        if isinstance(result, Awaitable):
            result = await result
    except GuestError as error:
        raise FailureError(
            "internal_error",
            "Wasm runtime error while working with Ribosome: RuntimeError:"
            f' WasmError {{ file: "fake", line: 1, error: Guest("{error}") }}',
        ) from error
    return wire.encode(result)
