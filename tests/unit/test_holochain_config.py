"""A configuration has what its line wants, lets plain text go where it is used, and is checked."""

from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from hivekeeper.holochain import config
from hivekeeper.model.errors import UserError
from hivekeeper.model.manifest import HolochainNetwork

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "data_root_path": {"type": "string"},
        "keystore": {},
        "admin_interfaces": {},
        "network": {
            "type": "object",
            "additionalProperties": False,
            "required": ["bootstrap_url", "relay_url", "advanced"],
            "properties": {
                "bootstrap_url": {"type": "string"},
                "relay_url": {"type": "string"},
                "signal_url": {"type": "string"},
                "advanced": {
                    "type": ["object", "null"],
                    "properties": {"coreFetch": {"type": "object"}},
                },
            },
        },
    },
}


def render(network: HolochainNetwork | None = None, line: str = "0.6") -> dict[str, Any]:
    return config.render(
        line, data_root="/data", admin_port=4444, network=network or HolochainNetwork()
    )


def test_without_a_network_it_points_where_nobody_listens() -> None:
    network = render()["network"]
    assert network == {
        "bootstrap_url": "http://127.0.0.1:9",
        "signal_url": "ws://127.0.0.1:9",
        "relay_url": "http://127.0.0.1:9",
        "advanced": {"irohTransport": {"relayAllowPlainText": True}},
    }


def test_addresses_with_tls_need_no_leave() -> None:
    asked = HolochainNetwork(
        bootstrap_url="https://b", relay_url="https://r", signal_url="wss://s"
    )
    assert render(asked)["network"] == {
        "bootstrap_url": "https://b",
        "relay_url": "https://r",
        "signal_url": "wss://s",
        "advanced": None,
    }


def test_what_the_user_sets_is_never_overruled() -> None:
    advanced = {"irohTransport": {"relayAllowPlainText": False, "maxFrameBytes": 9}, "x": {"y": 1}}
    asked = HolochainNetwork(relay_url="http://r", advanced=advanced)
    assert render(asked)["network"]["advanced"] == advanced


def test_no_web_page_may_use_the_admin_interface() -> None:
    (interface,) = render()["admin_interfaces"]
    origins = interface["driver"]["allowed_origins"].split(",")
    assert origins == ["hivekeeper", "holochain_websocket", "hc-http-gw"]
    assert interface["driver"]["port"] == 4444


def test_the_text_is_yaml_and_always_the_same() -> None:
    rendered = render()
    text = config.text(rendered)
    assert YAML(typ="safe").load(text) == rendered
    assert config.text(msgspec.json.decode(text)) == text


def test_a_line_that_is_not_supported_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"line 0\.3: supported is 0\.6") as caught:
        render(line="0.3")
    assert caught.value.field == "holochain.line"


def test_an_address_that_the_line_does_not_have_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """0.7 has no signal_url and refuses it: we say so before the conductor does."""
    later = config.Line(addresses={"bootstrap_url": "b", "relay_url": "r"}, plain_text={})
    monkeypatch.setitem(config.LINES, "0.7", later)
    with pytest.raises(UserError, match=r"network\.signal_url") as caught:
        render(HolochainNetwork(signal_url="wss://s"), line="0.7")
    assert caught.value.field == "holochain.network.signal_url"


def test_what_fits_the_schema_passes() -> None:
    config.validate(render(), SCHEMA)


def test_what_does_not_fit_is_refused_and_the_field_is_named() -> None:
    with pytest.raises(UserError, match=r"network\.advanced\.coreFetch: 3 is not") as caught:
        config.validate(render(HolochainNetwork(advanced={"coreFetch": 3})), SCHEMA)
    assert caught.value.field == "holochain.network.advanced.coreFetch"
    with pytest.raises(UserError, match="'surprise' was unexpected"):
        config.validate({**render(), "surprise": 1}, SCHEMA)
