"""A conductor's configuration file, as its release line wants it, checked against its own schema.

A table says what each line accepts: what one line needs, the next refuses. Writes no file. The
result is JSON, which is YAML too.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hivekeeper.model.errors import UserError
from hivekeeper.model.manifest import HolochainNetwork

ORIGINS: Final = "hivekeeper,holochain_websocket,hc-http-gw"
"""Who may use the admin interface: we, Holochain's Rust tools, its gateway. No web page: a browser
always names the page's own address."""

CLOSED: Final = "127.0.0.1:9"
"""Where nobody listens: a conductor that was given no network starts, and serves local calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one release line's configuration looks like.

    Args:
        addresses: Where peers are found: the field, and what it is when nothing is said.
        plain_text: For each field whose address may be without TLS, where that is allowed.
    """

    addresses: dict[str, str]
    plain_text: dict[str, tuple[str, str]]


LINES: Final = {
    # 0.6.1 and later: signal_url is required there, and of no effect on the iroh transport.
    "0.6": Line(
        addresses={
            "bootstrap_url": f"http://{CLOSED}",
            "signal_url": f"ws://{CLOSED}",
            "relay_url": f"http://{CLOSED}",
        },
        plain_text={"relay_url": ("irohTransport", "relayAllowPlainText")},
    ),
}


def render(
    line: str, *, data_root: str, admin_port: int, network: HolochainNetwork
) -> dict[str, Any]:
    """Return the configuration of one conductor.

    Args:
        line: A release line, one of `LINES`.
        data_root: Where it keeps its databases and keys; must exist.
        admin_port: On loopback.
        network: What the user says; an `advanced` setting is never overruled.

    Raises:
        UserError: The line is not known, or does not know an address that the user gave.
    """
    if line not in LINES:
        raise UserError(
            f"cannot configure a conductor of line {line}: supported is {', '.join(LINES)}",
            field="holochain.line",
        )
    driver = {"type": "websocket", "port": admin_port, "allowed_origins": ORIGINS}
    return {
        "data_root_path": data_root,
        "keystore": {"type": "lair_server_in_proc"},
        "admin_interfaces": [{"driver": driver}],
        "network": _network(line, network),
    }


def text(config: dict[str, Any]) -> bytes:
    """Return the file's content; equal configurations give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def validate(config: dict[str, Any], schema: dict[str, Any]) -> None:
    """Raise `UserError`, naming the field, if `config` is not what `schema` describes.

    Args:
        config: As `render` returned it.
        schema: What `holochain --config-schema` printed: that very program's own.
    """
    # 150 ms and 10 MB to import, and needed once a workload.
    import jsonschema  # noqa: PLC0415

    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(config)
    )
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path)
        raise UserError(
            f"cannot configure the conductor: {place or 'the configuration'}: {error.message}",
            field=f"holochain.{place}" if place.startswith("network") else "",
        )


def _network(line: str, asked: HolochainNetwork) -> dict[str, Any]:
    known = LINES[line]
    given = {
        name: value
        for name, value in msgspec.structs.asdict(asked).items()
        if name != "advanced" and value is not None
    }
    for name in given:
        if name not in known.addresses:
            raise UserError(
                f"cannot use network.{name}: conductors of line {line} have none",
                field=f"holochain.network.{name}",
            )
    addresses = known.addresses | given
    return {**addresses, "advanced": _advanced(known, addresses, asked.advanced or {})}


def _advanced(
    known: Line, addresses: dict[str, str], asked: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the user's settings, and leave to go without TLS where an address has none."""
    settings = dict(asked)
    for name, (section, switch) in known.plain_text.items():
        if addresses[name].startswith(("http:", "ws:")):
            settings[section] = {switch: True} | dict(settings.get(section) or {})
    return settings or None
