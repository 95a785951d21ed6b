"""Get a conductor from the Holochain project's own release, checked before it is ever run.

The project publishes no checksum files; the server that keeps its releases publishes a SHA-256 of
each file. Where it says none, the one computed is shown, confirmed once by a person, and pinned:
it must be the same ever after. Blocks while it works, for the command line.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hivekeeper.holochain import downloads, programs
from hivekeeper.holochain.downloads import Progress
from hivekeeper.holochain.programs import Version
from hivekeeper.model import limits
from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.text import Sha256

NEWEST: Final = {"0.4": "0.4.4", "0.5": "0.5.6", "0.6": "0.6.3", "0.7": "0.7.0"}
"""What a line means when it is to be installed: the newest that this version was tried with."""

PINS: Final = "checksums.json"
_MACHINES: Final = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Server:
    """Where the project's releases are kept."""

    files: str = "https://github.com/holochain/holochain/releases/download"
    facts: str = "https://api.github.com/repos/holochain/holochain/releases/tags"


class _Asset(Struct, frozen=True):
    name: str
    digest: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")] | None = None


class _Release(Struct, frozen=True):
    assets: list[_Asset]


class _Pins(Struct, frozen=True):
    sha256: dict[str, Sha256] = {}
    """By version and file, `0.6.3/holochain-x86_64-unknown-linux-gnu`."""


def version_of(wanted: str) -> Version:
    """Return the version that `wanted` (`0.6`, `0.6.3`) means; raises `UserError` if none."""
    version = programs.parse_version(f"holochain {NEWEST.get(wanted, wanted)}")
    if version is None:
        raise UserError(
            f"cannot install Holochain `{wanted}`: that is no version",
            hint=f"Say a release line ({', '.join(NEWEST)}) or a full version.",
        )
    return version


def asset(machine: str | None = None) -> str:
    """Return the name of the file for this machine, or the one named (`x86_64`).

    Raises:
        PermanentError: The project releases none for such a machine.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise PermanentError(
            f"cannot get a released conductor: there is none for {machine}",
            hint="Build one: `hive holochain install LINE --from-source`.",
        )
    return f"holochain-{_MACHINES[machine]}-unknown-linux-gnu"


def install(
    version: Version,
    cache: Path,
    *,
    confirm: Callable[[str, str], bool],
    progress: Progress,
    server: Server = Server(),
) -> Path:
    """Put a released conductor into `cache` and return its path; one that is there is kept.

    Args:
        version: Which.
        cache: Becomes `<cache>/<version>/holochain`.
        confirm: Given address and SHA-256 of a file whose checksum nobody published: use it?
        progress: See `downloads.Progress`.
        server: Where releases are kept.

    Raises:
        PermanentError: There is no such release, or its file is not what was published or pinned.
        TransientError: The server is out of reach.
    """
    target = cache / str(version) / programs.NAME
    if target.exists():
        return target
    tag, name = f"holochain-{version}", asset()
    url = f"{server.files}/{tag}/{name}"
    pins = _read_pins(cache / PINS)
    pinned = pins.sha256.get(f"{version}/{name}")
    progress(f"asking for the checksum of {name} {version}", None)
    expected = pinned or _published(f"{server.facts}/{tag}", name)

    def accept(digest: str) -> bool:
        return digest == expected if expected is not None else confirm(url, digest)

    digest = downloads.download(
        url,
        target,
        limit=limits.CONDUCTOR_PROGRAM_BYTES,
        progress=progress,
        accept=accept,
        mode=0o755,
    )
    kept = _Pins(pins.sha256 | {f"{version}/{name}": digest})
    (cache / PINS).write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2))
    return target


def _published(url: str, name: str) -> str | None:
    """Return the SHA-256 that was published of the file `name`; None: of this file none was."""
    facts = downloads.fetch(url, limits.MIB, {"Accept": "application/vnd.github+json"})
    try:
        release = msgspec.json.decode(facts, type=_Release)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"cannot read the facts of a release ({url}): {error}") from error
    for each in release.assets:
        if each.name == name:
            return each.digest.removeprefix("sha256:") if each.digest else None
    raise PermanentError(
        f"cannot get a released conductor: {url} has no {name}",
        hint="Build one: `hive holochain install LINE --from-source`.",
    )


def _read_pins(path: Path) -> _Pins:
    if not path.exists():
        return _Pins()
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Pins)
    except msgspec.MsgspecError as error:
        raise PermanentError(
            f"cannot read the pinned checksums in {path}: {error}",
            hint="Look at the file; if you remove it, checksums are asked for again.",
        ) from error
