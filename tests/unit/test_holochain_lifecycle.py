"""Steps follow from what is there; nothing that would lose a chain is planned."""

from typing import Any

import pytest

import conductors
import happ_bundles
from hivekeeper.holochain import apps, bundles, hashes, lifecycle
from hivekeeper.holochain.apps import AppInfo, CellId, DnaModifiers, Provisioned, ProvisionedCell
from hivekeeper.holochain.lifecycle import AppFound, AppWanted, InitState, Installed, Step
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.ids import WorkloadName
from hivekeeper.model.manifest import Holochain, InitCall, Kind, Manifest, Role

HAPP = bundles.read_happ(conductors.NOTES.read_bytes())
DEFERRED = bundles.read_happ(happ_bundles.notes(happ=happ_bundles.deferred))
AGENT = hashes.AGENT.of(b"\x02" * 32)
SETUP = InitCall(role="notes", zome="notes", fn="setup", payload={"node": ["<NODE_NAME>!", 1]})


def wanted(happ: bundles.Happ = HAPP, **holochain: Any) -> AppWanted:
    asked = Holochain(happ="notes.happ", **holochain)
    manifest = Manifest(name=WorkloadName("notes"), kind=Kind.HOLOCHAIN, holochain=asked)
    return lifecycle.wanted(manifest, asked, happ, path="/x.happ", node_name="alpha")


def found(like: AppWanted, status: str = apps.ENABLED, **more: Any) -> AppFound:
    modifiers = DnaModifiers("", b"\xc0")
    cells: dict[str, list[apps.CellInfo]] = {
        role: [Provisioned(ProvisionedCell(CellId(dna, AGENT), modifiers, role))]
        for role, dna in like.dna_hashes().items()
    }
    info = AppInfo("notes", cells, Tagged(status), AGENT, {}, 1)
    coordinators = {
        role.name: {zome.name: zome.wasm_hash for zome in role.dna.coordinators}
        for role in like.happ.roles
    }
    return AppFound(info=info, coordinators=more.get("coordinators", coordinators))


def test_nothing_there_is_installed_and_enabled() -> None:
    plan = lifecycle.plan(wanted(), None)
    assert plan.steps == (Step.INSTALL, Step.ENABLE)
    assert plan.because == "it is not installed"


def test_what_is_as_wanted_needs_nothing() -> None:
    plan = lifecycle.plan(wanted(), found(wanted()))
    assert (plan.steps, plan.because) == ((), "it is as wanted")


def test_what_is_not_enabled_is_enabled() -> None:
    assert lifecycle.plan(wanted(), found(wanted(), apps.DISABLED)).steps == (Step.ENABLE,)


def test_new_coordinators_replace_old_ones_before_the_app_is_enabled() -> None:
    old = found(wanted(), coordinators={"notes": {"notes": hashes.wasm_hash(b"old")}})
    plan = lifecycle.plan(wanted(), old)
    assert (plan.steps, plan.roles) == ((Step.UPDATE_COORDINATORS,), ("notes",))
    disabled = found(wanted(), apps.DISABLED, coordinators={"notes": {}})
    plan = lifecycle.plan(wanted(), disabled)
    assert plan.steps == (Step.UPDATE_COORDINATORS, Step.ENABLE)
    assert plan.because == "coordinators of notes have changed and it is not enabled"


def test_zomes_that_the_bundle_no_longer_has_are_no_reason_to_act() -> None:
    current = {zome.name: zome.wasm_hash for zome in HAPP.roles[0].dna.coordinators}
    more = {**current, "left_over": hashes.wasm_hash(b"old")}
    assert lifecycle.plan(wanted(), found(wanted(), coordinators={"notes": more})).steps == ()


@pytest.mark.parametrize(
    "change",
    [
        {"network_seed": "other"},
        {"roles": {"notes": Role(properties={"fee": 3})}},
        {"roles": {"notes": Role(network_seed="other")}},
    ],
)
def test_another_network_is_refused_and_the_way_out_is_named(change: dict[str, Any]) -> None:
    for status in (apps.ENABLED, apps.DISABLED, apps.AWAITING_MEMPROOFS):
        with pytest.raises(PermanentError, match=r"differ in notes") as caught:
            lifecycle.plan(wanted(**change), found(wanted(), status))
        assert "hive delete NAME --purge" in caught.value.hint


def test_what_waits_for_proofs_gets_them_or_the_user_is_asked() -> None:
    proofs = wanted(DEFERRED, roles={"notes": Role(membrane_proof="wA==")})
    assert proofs.membrane_proofs == {"notes": b"\xc0"}
    waiting = found(wanted(DEFERRED), apps.AWAITING_MEMPROOFS)
    assert lifecycle.plan(proofs, waiting).steps == (Step.PROVIDE_MEMPROOFS, Step.ENABLE)
    assert lifecycle.plan(proofs, None).steps == (Step.INSTALL, Step.ENABLE)
    for there in (waiting, None):
        with pytest.raises(PermanentError, match="waits for membrane proofs") as caught:
            lifecycle.plan(wanted(DEFERRED), there)
        assert "membrane_proof" in caught.value.hint


def test_a_status_that_nobody_knows_is_said_as_it_is() -> None:
    with pytest.raises(PermanentError, match="unrecoverable"):
        lifecycle.plan(wanted(), found(wanted(), "unrecoverable"))


def test_a_manifest_that_speaks_of_roles_that_are_not_there_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        wanted(roles={"nots": Role(network_seed="x")})
    assert caught.value.field == "holochain.roles.nots"
    with pytest.raises(UserError, match="has notes") as caught:
        wanted(init_calls=(SETUP, InitCall(role="x", zome="z", fn="f")))
    assert caught.value.field == "holochain.init_calls[1].role"


def test_a_proof_that_is_not_base64_is_refused() -> None:
    with pytest.raises(UserError, match="not base64") as caught:
        wanted(roles={"notes": Role(membrane_proof="***")})
    assert caught.value.field == "holochain.roles.notes.membrane_proof"


def test_the_hosts_name_stands_for_its_place_wherever_it_is() -> None:
    assert wanted(init_calls=(SETUP,)).init_calls[0].payload == {"node": ["alpha!", 1]}


def test_each_init_call_is_made_once_on_a_chain() -> None:
    other = InitCall(role="notes", zome="notes", fn="echo")
    both = wanted(init_calls=(SETUP, other, SETUP))
    state = Installed()
    left = lifecycle.init_calls_left(both, state, AGENT)
    assert [call.fn for _, call in left] == ["setup", "echo", "setup"]
    assert len({key for key, _ in left}) == 3
    state = lifecycle.noted(state, AGENT, left[0][0], InitState.DONE)
    state = lifecycle.noted(state, AGENT, left[1][0], InitState.SENT)
    assert lifecycle.init_calls_left(both, state, AGENT) == left[2:]
    assert lifecycle.init_calls_unanswered(state) == [left[1][0]]
    new_agent = hashes.AGENT.of(b"\x03" * 32)
    assert lifecycle.init_calls_left(both, state, new_agent) == left
    begun = lifecycle.noted(state, new_agent, left[0][0], InitState.DONE)
    assert list(begun.init_calls) == [left[0][0]]


def test_a_changed_init_call_is_another_one() -> None:
    first = wanted(init_calls=(SETUP,))
    key = lifecycle.init_calls_left(first, Installed(), AGENT)[0][0]
    state = lifecycle.noted(Installed(), AGENT, key, InitState.DONE)
    changed = InitCall(role="notes", zome="notes", fn="setup", payload={"node": "beta"})
    assert lifecycle.init_calls_left(first, state, AGENT) == []
    assert len(lifecycle.init_calls_left(wanted(init_calls=(changed,)), state, AGENT)) == 1
