"""What is kept of a program on disk, so that a keeper that was killed goes on where it was.

A folder a program. `hold.json` is what the keeper was told, on the disk before it answers.
`known.json` is what became of it, written before anything is done about it, over what was there:
that is quick, needs no room on a full disk, and is all or nothing to whoever kills the keeper, for
it is one page. A power cut may tear it; then the program starts anew. `pid` says which process
runs (identity). Decides nothing.
"""

import errno
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from hivekeeper.core.restart import ALIVE, Program
from hivekeeper.model.program import Ending, State
from hivekeeper.wire.keeper import Hold

log = logging.getLogger(__name__)

PAGE: Final = 4096
"""The kernel writes so much at once."""

_VERDICTS: Final = frozenset({State.FENCED, State.FINISHED})
"""States that must outlive a power cut: what is in one of them must not be started after it."""

S = TypeVar("S", bound=Struct)


class Told(Struct, frozen=True, kw_only=True):
    """What a client said last."""

    hold: Hold
    edition: int
    """Grows with every change of the spec."""


class Run(Struct, frozen=True, kw_only=True):
    """A start of the program: what must be known to go on with it, or to end it."""

    number: int
    edition: int
    """Of what it was started with."""
    stop_signal: str
    groups: tuple[str, ...] = ()
    """Folders of its control groups; the first holds it together."""
    notify: str = ""
    """Name of the socket on which it says that it is ready."""


class Known(Struct, frozen=True, kw_only=True):
    """What became of a program."""

    program: Program
    since: datetime
    """When its state began."""
    boot: str
    """In which boot of the machine all this is true."""
    run: Run | None = None
    """The present run, or the last one."""
    last_end: Ending | None = None

    def __post_init__(self) -> None:
        if self.program.state in ALIVE and self.run is None:
            raise ValueError("what runs was started")


class Folder:
    """The files of one program."""

    HOLD: Final = "hold.json"
    KNOWN: Final = "known.json"
    PID: Final = "pid"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = path / self.PID

    def told(self) -> Told | None:
        """Return what was told; None: nothing, or nothing that can be read."""
        return _load(self.path / self.HOLD, Told)

    def known(self) -> Known | None:
        """Return what became of it; None: nothing yet, or a power cut took it."""
        return _load(self.path / self.KNOWN, Known)

    def keep_told(self, told: Told) -> None:
        """Write `told` so that it outlives a power cut. Raises `OSError`: then the old one is."""
        new = not self.path.exists()
        self.path.mkdir(mode=0o700, exist_ok=True)
        _replace(self.path / self.HOLD, told)
        if new:
            _sync(self.path.parent)

    def keep_known(self, known: Known) -> None:
        """Write `known`. A disk that fails must not keep a program down: that is said, no more."""
        try:
            _overwrite(self.path / self.KNOWN, known, durable=known.program.state in _VERDICTS)
        except OSError as error:
            log.warning("cannot write %s: %s", self.path / self.KNOWN, error.strerror)

    def remove(self) -> None:
        """Remove all of it; what was told goes first, so that nobody starts it again."""
        for name in (self.HOLD, self.KNOWN, self.PID):
            (self.path / name).unlink(missing_ok=True)
        for rest in self.path.glob("*.new"):
            rest.unlink()
        self.path.rmdir()
        _sync(self.path.parent)


def _load(path: Path, form: type[S]) -> S | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("cannot read %s: %s", path, error)
        return None


def _overwrite(path: Path, value: Struct, *, durable: bool) -> None:
    data = msgspec.json.encode(value).ljust(PAGE)
    if len(data) > PAGE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _replace(path: Path, value: Struct) -> None:
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = msgspec.json.encode(value)
        if os.write(fd, data) != len(data):
            raise OSError(f"cannot write all of {new}")
        os.fsync(fd)
    finally:
        os.close(fd)
    new.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Put the names in `folder` on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
