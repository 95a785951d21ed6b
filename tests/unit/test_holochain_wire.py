"""Requests and answers have the very bytes that Holochain's own tests say."""

from typing import Any

import msgspec
import pytest

from hivekeeper.holochain import admin, app, apps, hashes, wire
from hivekeeper.holochain.apps import AppInfo, CellId
from hivekeeper.holochain.errors import AnswerLostError, ConductorError
from hivekeeper.holochain.wire import Tagged

CELL = CellId(hashes.DNA.of(b"\x01" * 32), hashes.AGENT.of(b"\x02" * 32))


def test_a_request_has_the_bytes_of_holochains_own_test() -> None:
    content = admin.DISABLE_APP.encode_request(admin.AppId("some_id"))
    assert content.hex() == (
        "82a474797065ab64697361626c655f617070a576616c7565"
        "81b0696e7374616c6c65645f6170705f6964a7736f6d655f6964"
    )


def test_a_request_that_carries_nothing_is_its_name_alone() -> None:
    assert app.APP_INFO.encode_request(None).hex() == "81a474797065a86170705f696e666f"


def test_an_error_has_the_bytes_of_holochains_own_test_and_is_raised() -> None:
    content = bytes.fromhex(
        "82a474797065a56572726f72a576616c756582a474797065ae7269626f736f6d655f6572726f72"
        "a576616c7565aa6572726f725f74657874"
    )
    assert wire.encode_error("ribosome_error", "error_text") == content
    with pytest.raises(ConductorError) as caught:
        app.CALL_ZOME.decode_response(content)
    assert (caught.value.kind, caught.value.text) == ("ribosome_error", "error_text")
    assert str(caught.value) == "cannot call zome: error_text (ribosome_error)"


def test_an_envelope_is_a_map_with_a_type() -> None:
    request = wire.encode(wire.Request(7, b"\xc0"))
    assert msgspec.msgpack.decode(request) == {"type": "request", "id": 7, "data": b"\xc0"}
    assert wire.decode_message(request) == wire.Request(7, b"\xc0")
    empty = msgspec.msgpack.encode({"type": "response", "id": 7, "data": None})
    assert wire.decode_message(empty) == wire.Response(7, None)


def test_what_holochain_may_add_is_skipped() -> None:
    value = {"installed_app_id": "a", "new_in_a_later_patch": {"x": [1]}}
    content = wire.encode({"type": "enable_app", "value": value, "also": 1})
    assert admin.ENABLE_APP.decode_request(content) == admin.AppId("a")
    unit_with_more = wire.encode({"type": "app_disabled", "value": {"x": 1}})
    assert admin.DISABLE_APP.decode_response(unit_with_more) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        wire.encode({"value": 1}),
        wire.encode({"type": "app_enabled"}),
        wire.encode({"type": "app_enabled", "value": {"installed_app_id": 3}}),
        wire.encode({"type": "app_disabled", "value": None}),
        wire.encode({"type": "error", "value": 3}),
        b"\x82\xa4type\xa1\xff",
        b"\x91" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_a_lost_answer(content: bytes) -> None:
    """It was sent and perhaps carried out; what came back says nothing."""
    with pytest.raises(AnswerLostError, match="enable_app"):
        admin.ENABLE_APP.decode_response(content)


def test_the_answer_to_another_request_is_none_even_if_it_looks_alike() -> None:
    content = admin.UNINSTALL_APP.encode_response(None)
    assert admin.UNINSTALL_APP.decode_response(content) is None
    with pytest.raises(AnswerLostError, match="app_uninstalled as answer to disable_app"):
        admin.DISABLE_APP.decode_response(content)


def info(**more: Any) -> AppInfo:
    raw = {
        "installed_app_id": "notes",
        "cell_info": {
            "notes": [
                {
                    "type": "provisioned",
                    "value": {
                        "cell_id": list(CELL),
                        "dna_modifiers": {"network_seed": "s", "properties": b"\x81\xa3fee\x03"},
                        "name": "notes",
                    },
                },
                {
                    "type": "cloned",
                    "value": {
                        "cell_id": list(CELL),
                        "clone_id": "notes.0",
                        "original_dna_hash": CELL.dna_hash,
                        "dna_modifiers": {"network_seed": "s", "properties": b"\xc1"},
                        "name": "notes.0",
                        "enabled": True,
                    },
                },
            ],
            "later": [
                {
                    "type": "stem",
                    "value": {
                        "original_dna_hash": CELL.dna_hash,
                        "dna_modifiers": {"network_seed": "", "properties": b"\xc0"},
                    },
                }
            ],
        },
        "status": {"type": "enabled"},
        "agent_pub_key": CELL.agent_pub_key,
        "manifest": {"manifest_version": "0", "name": "notes"},
        "installed_at": 1,
        **more,
    }
    return msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=AppInfo)


def test_a_roles_own_cell_is_told_from_clones_and_stems() -> None:
    assert info().provisioned() == {"notes": CELL}


def test_a_status_of_a_later_line_is_kept_as_it_is() -> None:
    later = info(status={"type": "awaiting_restore", "value": ["x"]})
    assert later.status == Tagged("awaiting_restore", ["x"])


def test_an_app_is_described_as_json_can_say_it() -> None:
    described = apps.describe(info())
    (provisioned, cloned) = described["cell_info"]["notes"]
    assert provisioned["value"]["cell_id"] == [hashes.text(each) for each in CELL]
    assert provisioned["value"]["dna_modifiers"]["properties"] == {"fee": 3}
    assert cloned["value"]["dna_modifiers"]["properties"] == [0xC1]
    assert described["agent_pub_key"] == hashes.text(CELL.agent_pub_key)
    assert msgspec.json.decode(msgspec.json.encode(described)) == described


def test_no_secret_is_in_a_repr() -> None:
    issued = admin.AppAuthenticationTokenIssued([77, 78])
    first = app.AppAuthenticationRequest(b"token")
    assigned = admin.Assigned(b"s" * 64, [CELL.agent_pub_key])
    assert "77" not in repr(issued)
    assert "token" not in repr(first)
    assert "sss" not in repr(Tagged("assigned", assigned))
