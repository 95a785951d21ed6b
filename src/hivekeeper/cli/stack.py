"""Which stack a command is about, and where a stack keeps what.

The only place that reads HIVE_* variables.

One folder a stack (`--dir`): everything of it is below, and its layout is known here alone.
"""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from hivekeeper.model.errors import PermissionRefusedError, TransientError, UserError

_SYSTEM_DIR: Final = Path("/var/lib/hivekeeper")


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack's folder."""

    root: Path

    @property
    def token(self) -> Path:
        """What the API wants to hear (0600)."""
        return self.root / "token"

    @property
    def endpoints(self) -> Path:
        """Where its parts answer."""
        return self.root / "endpoints.json"

    @property
    def settings(self) -> Path:
        """What `hive up` was told, and keeps to."""
        return self.root / "settings.json"

    @property
    def lock(self) -> Path:
        """Held by the `hive up` that looks after it."""
        return self.root / "up.lock"

    @property
    def keeper(self) -> Path:
        """The keeper's own."""
        return self.root / "keeper"

    @property
    def hub(self) -> Path:
        """The hub's configuration, and the keys of its users."""
        return self.root / "hub"

    @property
    def store(self) -> Path:
        """The truth."""
        return self.root / "orchestrator" / "store.db"

    @property
    def blobs(self) -> Path:
        """What manifests refer to, by SHA-256."""
        return self.root / "orchestrator" / "blobs"

    @property
    def host(self) -> Path:
        """The host agent's own, and its workloads."""
        return self.root / "host"

    @property
    def host_key(self) -> Path:
        """What this host proves itself with."""
        return self.root / "host" / "key.nk"

    @property
    def holochain(self) -> Path:
        """Conductors that `hive holochain install` got."""
        return self.root / "holochain"

    @property
    def gateway(self) -> Path:
        """The routes that the gateway knows."""
        return self.root / "gateway"

    def logs(self, part: str) -> Path:
        """What one of our own parts wrote."""
        return self.root / "logs" / part


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to talk to."""

    url: str
    """Of the API."""
    token: str
    gateway: str | None

    def __repr__(self) -> str:
        return f"Target({self.url!r})"


def default_dir() -> Path:
    """Return where a stack lives if nobody says otherwise."""
    if asked := os.environ.get("HIVE_DIR"):  # noqa: TID251 -- read here for all
        return Path(asked)
    if os.geteuid() == 0:
        return _SYSTEM_DIR
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")  # noqa: TID251
    return Path(state) / "hivekeeper"


def environment(name: str) -> str | None:
    """Return the environment variable `name`; None if it is not set, or empty."""
    return os.environ.get(name) or None  # noqa: TID251


def find(folder: Path | None, url: str | None) -> Target:
    """Return the stack that a command is about.

    Args:
        folder: As given with --dir.
        url: As given with --url.

    Raises:
        TransientError: There is no stack there (yet).
        UserError: Its token may not be read, or none is given.
    """
    url = url or (None if folder else environment("HIVE_URL"))
    stack = Stack(folder or default_dir())
    if url is not None:
        token = environment("HIVE_TOKEN") or _read_token(stack)
        return Target(url=url.rstrip("/"), token=token, gateway=None)
    try:
        endpoints: dict[str, Any] = json.loads(stack.endpoints.read_text())
        return Target(url=endpoints["api"], token=_read_token(stack), gateway=endpoints["gateway"])
    except FileNotFoundError as error:
        raise TransientError(
            f"cannot find a stack in {stack.root}: start one with `hive up`, or name another "
            "with --dir or --url"
        ) from error
    except PermissionError as error:
        raise PermissionRefusedError(
            f"cannot read {stack.endpoints}: it is another user's"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {stack.endpoints}: {error}", hint="`hive up` writes it anew"
        ) from error


def _read_token(stack: Stack) -> str:
    try:
        mode = stack.token.stat().st_mode
        token = stack.token.read_text().strip()
    except FileNotFoundError as error:
        raise UserError(
            f"cannot find the API's token: {stack.token} is not there",
            hint="give --dir, or HIVE_TOKEN",
        ) from error
    except PermissionError as error:
        raise PermissionRefusedError(
            f"cannot read {stack.token}: it is another user's", hint="ask as that user"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise PermissionRefusedError(
            f"cannot trust {stack.token}: others may read it", hint=f"chmod 600 {stack.token}"
        )
    return token


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --dir and --url, as `folder` and `url`."""
    command = click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="The stack's folder  [default: HIVE_DIR, else the usual one].",
    )(command)
    return click.option("--url", help="The API's address  [default: HIVE_URL, else from --dir].")(
        command
    )
