"""From what a conductor says it has to what is wanted of it: which steps, and why. Pure.

Level-triggered and idempotent: steps follow from what is there now, whoever began it and however
far it got. An app whose DNAs would be others is refused: its chains would be lost.
"""

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final

import msgspec
from msgspec import Struct

from hivekeeper.holochain import apps, hashes
from hivekeeper.holochain.apps import AppInfo
from hivekeeper.holochain.bundles import Happ, Modifiers
from hivekeeper.holochain.hashes import AgentPubKey, DnaHash, WasmHash
from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.manifest import Holochain, InitCall, Manifest

NODE_NAME: Final = "<NODE_NAME>"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppWanted:
    """A hApp as it is to be.

    Args:
        app_id: What the conductor is to call it.
        path: Where the conductor finds the bundle.
        happ: What is in it.
        line: The conductor's release line.
        network_seed: For all roles; None: what the bundle says.
        modifiers: For single roles.
        membrane_proofs: For single roles.
        init_calls: Made once, after the first installation.
    """

    app_id: str
    path: str
    happ: Happ
    line: str
    network_seed: str | None
    modifiers: Mapping[str, Modifiers]
    membrane_proofs: Mapping[str, bytes]
    init_calls: tuple[InitCall, ...]

    def dna_hashes(self) -> dict[str, DnaHash]:
        """Return the DNA hash of each role's cell."""
        return self.happ.dna_hashes(self.line, self.network_seed, self.modifiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFound:
    """A hApp as the conductor has it.

    Args:
        info: What it says of it.
        coordinators: By role and zome, which program runs.
    """

    info: AppInfo
    coordinators: Mapping[str, Mapping[str, WasmHash]]


class InitState(StrEnum):
    """How far an init call is."""

    SENT = auto()
    """Whether it was carried out is not known, or not yet."""
    DONE = auto()


class Installed(Struct, frozen=True, kw_only=True):
    """Which init calls were made: what the host must remember, since the conductor does not.

    A call is noted before it is sent: killed at any moment, it is never sent twice.
    """

    agent: str = ""
    """Whose chain they were made on. A new installation is a new agent, and begins anew."""
    init_calls: dict[str, InitState] = {}


class Step(StrEnum):
    """What to do, in the order of doing it; each is safe to repeat."""

    INSTALL = auto()
    PROVIDE_MEMPROOFS = auto()
    UPDATE_COORDINATORS = auto()
    ENABLE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next.

    Args:
        steps: In order; empty: it is as wanted.
        roles: Whose coordinators to update.
        because: Why, a sentence.
    """

    steps: tuple[Step, ...]
    roles: tuple[str, ...] = ()
    because: str


def wanted(
    manifest: Manifest, asked: Holochain, happ: Happ, *, path: str, node_name: str
) -> AppWanted:
    """Return what `manifest` wants of a conductor.

    Args:
        manifest: The workload's.
        asked: Its `holochain` part.
        happ: The bundle it names.
        path: Where the conductor finds that.
        node_name: What `<NODE_NAME>` in the arguments of init calls stands for.

    Raises:
        UserError: It speaks of a role that the hApp does not have, or a proof is not base64.
    """
    result = AppWanted(
        app_id=manifest.app_id,
        path=path,
        happ=happ,
        line=asked.line,
        network_seed=asked.network_seed,
        modifiers={
            name: Modifiers(role.network_seed, role.properties)
            for name, role in asked.roles.items()
        },
        membrane_proofs={
            name: _proof(name, role.membrane_proof)
            for name, role in asked.roles.items()
            if role.membrane_proof is not None
        },
        init_calls=tuple(_named(call, node_name) for call in asked.init_calls),
    )
    cells = result.dna_hashes()
    for number, call in enumerate(asked.init_calls):
        if call.role not in cells:
            raise UserError(
                f"cannot call role `{call.role}`: the hApp has {', '.join(cells)}",
                field=f"holochain.init_calls[{number}].role",
            )
    return result


def plan(wanted: AppWanted, found: AppFound | None) -> Plan:
    """Return the steps from `found` to `wanted`.

    Args:
        wanted: What is to be.
        found: What is; None: no such hApp.

    Raises:
        PermanentError: It cannot become that without losing its chains, or waits for membrane
            proofs that nobody gave. A person must decide.
    """
    if found is None:
        if wanted.happ.allow_deferred_memproofs:
            _need_proofs(wanted)
        return Plan(steps=(Step.INSTALL, Step.ENABLE), because="it is not installed")
    _refuse_other_dnas(wanted, found)
    changed = tuple(_changed_roles(wanted, found))
    update = (Step.UPDATE_COORDINATORS,) if changed else ()
    reason = f"coordinators of {', '.join(changed)} have changed" if changed else ""
    match found.info.status.type:
        case apps.ENABLED:
            return Plan(steps=update, roles=changed, because=reason or "it is as wanted")
        case apps.DISABLED:
            because = " and ".join(each for each in [reason, "it is not enabled"] if each)
            return Plan(steps=(*update, Step.ENABLE), roles=changed, because=because)
        case apps.AWAITING_MEMPROOFS:
            _need_proofs(wanted)
            steps = (Step.PROVIDE_MEMPROOFS, *update, Step.ENABLE)
            return Plan(steps=steps, roles=changed, because="it waits for membrane proofs")
        case other:
            raise PermanentError(f"cannot enable {wanted.app_id}: the conductor says {other}")


def init_calls_left(
    wanted: AppWanted, installed: Installed, agent: AgentPubKey
) -> list[tuple[str, InitCall]]:
    """Return the init calls that were never sent on this agent's chain, each with its key."""
    made = installed.init_calls if installed.agent == hashes.text(agent) else {}
    keys = _init_keys(wanted.init_calls)
    return [
        (key, call) for key, call in zip(keys, wanted.init_calls, strict=True) if key not in made
    ]


def init_calls_unanswered(installed: Installed) -> list[str]:
    """Return the init calls that were sent and never answered: a person may want to look."""
    return [key for key, state in installed.init_calls.items() if state is InitState.SENT]


def noted(installed: Installed, agent: AgentPubKey, key: str, state: InitState) -> Installed:
    """Return `installed` with the state of an init call on this agent's chain."""
    text = hashes.text(agent)
    calls = installed.init_calls if installed.agent == text else {}
    return Installed(agent=text, init_calls={**calls, key: state})


def _need_proofs(wanted: AppWanted) -> None:
    if not wanted.membrane_proofs:
        raise PermanentError(
            f"cannot enable {wanted.app_id}: it waits for membrane proofs",
            hint="Give them in the manifest: holochain.roles.ROLE.membrane_proof.",
        )


def _refuse_other_dnas(wanted: AppWanted, found: AppFound) -> None:
    ours = wanted.dna_hashes()
    theirs = {role: cell.dna_hash for role, cell in found.info.provisioned().items()}
    roles = sorted(
        role for role in ours.keys() | theirs.keys() if ours.get(role) != theirs.get(role)
    )
    if roles:
        raise PermanentError(
            f"cannot change {wanted.app_id}: integrity zomes, network seed or properties differ"
            f" in {', '.join(roles)}; it would be on another network, without its data",
            hint="Take another installed_app_id and name, or `hive delete NAME --purge` first.",
        )


def _changed_roles(wanted: AppWanted, found: AppFound) -> list[str]:
    """Zomes that a bundle no longer has stay: a conductor adds and replaces, and removes none."""
    return [
        role.name
        for role in wanted.happ.roles
        if role.name in found.coordinators
        and any(
            found.coordinators[role.name].get(zome.name) != zome.wasm_hash
            for zome in role.dna.coordinators
        )
    ]


def _init_keys(calls: tuple[InitCall, ...]) -> list[str]:
    """Name each call by what it says; the second of two equal ones is another call."""
    seen: Counter[str] = Counter()
    keys = []
    for call in calls:
        digest = hashlib.sha256(msgspec.json.encode(call, order="deterministic")).hexdigest()
        seen[digest] += 1
        keys.append(f"{call.role}/{call.zome}/{call.fn} {digest[:12]} {seen[digest]}")
    return keys


def _proof(role: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(
            f"cannot use the membrane proof of role `{role}`: it is not base64 ({error})",
            field=f"holochain.roles.{role}.membrane_proof",
        ) from error


def _named(call: InitCall, node_name: str) -> InitCall:
    return msgspec.structs.replace(call, payload=_substituted(call.payload, node_name))


def _substituted(value: Any, node_name: str) -> Any:
    match value:
        case str():
            return value.replace(NODE_NAME, node_name)
        case dict():
            return {key: _substituted(each, node_name) for key, each in value.items()}
        case list():
            return [_substituted(each, node_name) for each in value]
    return value
