"""What a stack was told when it was brought up, and keeps to.

Its host's name, its ports, where conductors lie.
"""

import re
import socket
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hivekeeper.cli.stack import Stack
from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId, is_name
from hivekeeper.ports import Disk

_PORTS: Final = (4222, 7070, 8080)
"""Hub, API, gateway (design §12)."""


class Ports(Struct, frozen=True, kw_only=True):
    """Where the parts listen."""

    hub: int
    api: int
    gateway: int


class Settings(Struct, frozen=True, kw_only=True):
    """Kept in the stack's folder."""

    host: HostId
    listen: str = "127.0.0.1"
    ports: Ports | None = None
    """None: a host that joined another stack's hub."""
    hub: str
    """Its address."""
    holochain_dir: str | None = None
    starts: int = 0
    """How often it was brought up: orders to the keeper grow with it."""


class Asked(Struct, frozen=True, kw_only=True):
    """What `hive up` is told this time; None: as before, or as usual."""

    host: str | None = None
    listen: str | None = None
    port: int | None = None
    holochain_dir: str | None = None


def read(disk: Disk, stack: Stack) -> Settings | None:
    """Return what is kept; None: this folder has no stack yet.

    Raises `UserError` if it is damaged.
    """
    data = disk.read(stack.settings)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Settings)
    except msgspec.MsgspecError as error:
        raise UserError(
            f"cannot read {stack.settings}: {error}", hint="remove it, and give the ports again"
        ) from error


def keep(disk: Disk, stack: Stack, settings: Settings) -> None:
    """Write what is kept."""
    disk.write(stack.settings, msgspec.json.format(msgspec.json.encode(settings), indent=2))


def decide(before: Settings | None, asked: Asked) -> Settings:
    """Return what to be brought up as; raises `UserError` for what cannot be."""
    if before is not None and before.ports is None:
        return replace(before, starts=before.starts + 1)
    listen = asked.listen or (before.listen if before else "127.0.0.1")
    ports = _ports(before.ports if before else None, asked.port)
    return Settings(
        host=_host(before, asked.host),
        listen=listen,
        ports=ports,
        hub=f"nats://{_reachable(listen)}:{ports.hub}",
        holochain_dir=asked.holochain_dir or (before.holochain_dir if before else None),
        starts=1 + (before.starts if before else 0),
    )


def _host(before: Settings | None, asked: str | None) -> HostId:
    if before is not None and asked not in {None, before.host}:
        raise UserError(
            f"cannot call this host {asked}: it is {before.host}, and so are its workloads"
        )
    if before is not None:
        return before.host
    name = asked or re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40]
    if not is_name(name):
        raise UserError(
            f"cannot call this host {name!r}", hint="give --host NAME: [a-z0-9-], at most 40"
        )
    return HostId(name)


def _ports(before: Ports | None, base: int | None) -> Ports:
    if base is None and before is not None:
        return before
    if base is None:
        hub, api, gateway = _PORTS
    elif base == 0:
        hub, api, gateway = _free(3)
    else:
        hub, api, gateway = range(base, base + 3)
    return Ports(hub=hub, api=api, gateway=gateway)


def _free(count: int) -> list[int]:
    """Return ports that are free now, all held at once so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _reachable(listen: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listen, listen)  # noqa: S104 -- read, not bound


def endpoints(settings: Settings) -> dict[str, str | None]:
    """Return what `endpoints.json` says; there is no dashboard yet."""
    assert settings.ports is not None, "a joined host has no endpoints of its own"
    host = _reachable(settings.listen)
    return {
        "api": f"http://{host}:{settings.ports.api}",
        "gateway": f"http://{host}:{settings.ports.gateway}",
        "dashboard": None,
        "hub": settings.hub,
    }


def taken(settings: Settings, parts: Iterable[str]) -> list[tuple[str, int]]:
    """Return which of `parts` could not listen now, each with its port."""
    assert settings.ports is not None, "a joined host listens on nothing"
    ports = msgspec.structs.asdict(settings.ports)
    return [(part, ports[part]) for part in parts if not _is_free(settings.listen, ports[part])]


def _is_free(listen: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
        except OSError:
            return False
    return True
