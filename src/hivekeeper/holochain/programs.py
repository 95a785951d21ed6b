"""Which conductor programs this machine has, and which one serves a release line.

Looks in the folder that `HIVE_HOLOCHAIN_DIR` names, then on PATH, then in our cache, asks each
program for its version, and takes the newest patch version of the first place that has the line.
Installs nothing (`releases`, `crates`), and reads no environment: places are arguments.
"""

import asyncio
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from hivekeeper.model.errors import PermanentError, TransientError

NAME: Final = "holochain"
PROBE_TIMEOUT_S: Final = 10.0
"""For a program of 80 MB on a slow disk, first read."""

_VERSION: Final = re.compile(r"\bholochain (\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?")


class Source(StrEnum):
    """Where a program was found, in the order of preference."""

    FOLDER = "HIVE_HOLOCHAIN_DIR"
    PATH = "PATH"
    CACHE = "cache"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A release. A pre-release (`-rc.1`) comes before its release."""

    major: int
    minor: int
    patch: int
    released: bool = True
    pre: str = ""

    @property
    def line(self) -> str:
        """The release line: `0.6`."""
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}{self.pre}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A conductor that is here."""

    version: Version
    path: Path
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look.

    Args:
        folder: Holds `<version>/holochain`; None: there is no such folder.
        path: A search path, as the PATH variable has it.
        cache: Ours; holds `<version>/holochain` too, and need not exist.
    """

    folder: Path | None
    path: str
    cache: Path


_Key = tuple[str, int, int]


class Programs:
    """What is here, asked again for each look; a program that has not changed is asked once."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._versions: dict[_Key, Version | None] = {}
        self._schemas: dict[_Key, dict[str, Any] | None] = {}

    async def list(self) -> list[Program]:
        """Return all conductors, in the order of preference, newest first within a source."""
        found = [
            Program(version=version, path=path, source=source)
            for source, path in _candidates(self._places)
            if (version := await self._version(path)) is not None
        ]
        ranks = list(Source)
        found.sort(key=lambda each: each.version, reverse=True)
        found.sort(key=lambda each: ranks.index(each.source))
        return found

    async def find(self, line: str) -> Program:
        """Return the conductor to use for `line`; raises `PermanentError` if there is none."""
        found = await self.list()
        for program in found:
            if program.version.line == line:
                return program
        others = ", ".join(sorted({each.version.line for each in found}))
        raise PermanentError(
            f"cannot find a Holochain conductor of line {line} on this host"
            + (f": there is {others}" if others else ""),
            hint=f"`hive holochain install {line}` gets one.",
        )

    async def config_schema(self, path: Path) -> dict[str, Any] | None:
        """Return the JSON Schema of this program's configuration; None: it can't say (line 0.4).

        Raises:
            TransientError: The program is gone, or does not answer.
        """
        key = _key(path)
        if key not in self._schemas:
            code, out = await _run(path, "--config-schema")
            self._schemas[key] = _read_schema(out) if code == 0 else None
        return self._schemas[key]

    async def _version(self, path: Path) -> Version | None:
        """Return what `path` says it is; None if it is no conductor that runs here."""
        try:
            key = _key(path)
            if key not in self._versions:
                _, out = await _run(path, "--version")
                self._versions[key] = parse_version(out.decode(errors="replace"))
            return self._versions[key]
        except TransientError:
            return None


def parse_version(text: str) -> Version | None:
    """Return the version in `holochain 0.6.3`; None if `text` holds none."""
    match = _VERSION.search(text)
    if match is None:
        return None
    major, minor, patch, pre = match.groups()
    return Version(int(major), int(minor), int(patch), pre is None, pre or "")


def _candidates(places: Places) -> list[tuple[Source, Path]]:
    folders = [(Source.FOLDER, places.folder), (Source.CACHE, places.cache)]
    nested = [
        (source, path)
        for source, folder in folders
        if folder is not None
        for path in sorted(folder.glob(f"*/{NAME}"))
    ]
    on_path = [(Source.PATH, Path(each) / NAME) for each in places.path.split(os.pathsep) if each]
    usable = [(source, path) for source, path in nested + on_path if os.access(path, os.X_OK)]
    return [(source, path) for source, path in usable if path.is_file()]


def _key(path: Path) -> _Key:
    try:
        status = path.stat()
    except OSError as error:
        raise TransientError(f"cannot use {path}: {error}") from error
    return str(path), status.st_size, status.st_mtime_ns


async def _run(path: Path, *arguments: str) -> tuple[int, bytes]:
    """Return exit code and output of a program that ends by itself."""
    process = None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            process = await asyncio.create_subprocess_exec(
                path,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            out, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"no answer in {PROBE_TIMEOUT_S:g} s"
        raise TransientError(f"cannot run {path} {' '.join(arguments)}: {reason}") from error
    finally:
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out


def _read_schema(out: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(out, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise PermanentError(f"cannot read the conductor's --config-schema: {error}") from error
