"""A program's output: one append-only file a run, bounded, and readable while it grows.

A program writes straight to its file, so neither side can block or break the other. What is older
than `LOG_BYTES` is punched out of the head of the file: its size and every offset into it stay
what they were, so that an offset is a cursor for good. Where a file system can't do that, the
newest part is copied and the rest cut off: what is written at that very moment is lost, and a
cursor beyond the new end begins again at the file's beginning. Adds nothing of its own to the
output.

Readers need nothing but the folder, and never fail because something is not there (any more).
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from hivekeeper.model import limits

SLACK_BYTES: Final = limits.MIB
"""How much more than `LOG_BYTES` there may be before it is worth to cut."""

QUIET_LOOK_S: Final = 1.0
FLOOD_LOOK_S: Final = 0.02
"""A log is looked at no less and no more often than that: a flood is over the bound by what can be
written in the meantime, at worst in the second in which it begins."""

OFFSET_MAX: Final = 8 * 1024 * limits.GIB
"""Offsets grow for ever, and ext4 ends at twice this: here a log is cut the simple way, once."""

_BLOCK: Final = 4 * limits.KIB
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class Piece(Struct, frozen=True, kw_only=True):
    """A part of a log."""

    run: int
    """0: there is no such log."""
    offset: int
    """Where to go on."""
    data: bytes
    more: bool
    """There is more already."""
    ended: bool
    """That run is over: no more will come."""


def path(folder: str, run: int) -> Path:
    """Return the file of a run."""
    return Path(folder, f"{run}.log")


def runs(folder: str) -> list[int]:
    """Return the runs whose logs are there, newest first."""
    try:
        names = list(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [int(n.stem) for n in names if n.suffix == ".log" and n.stem.isdecimal()]
    return sorted(found, reverse=True)


def create(folder: str, run: int) -> int:
    """Return the file that this run appends to; the oldest ones go. Raises `OSError`."""
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    others = [other for other in runs(folder) if other != run]
    for old in others[limits.LOG_RUNS - 1 :]:
        _remove(folder, old)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(path(folder, run), flags, 0o600)


def remove(folder: str) -> None:
    """Remove all logs, and the folder unless something else is in it."""
    for run in runs(folder):
        _remove(folder, run)
    with contextlib.suppress(OSError):
        Path(folder).rmdir()


def read(
    folder: str,
    *,
    live: int | None,
    run: int | None = None,
    back: int = 0,
    offset: int | None = None,
    tail: int = 100,
    size_bytes: int = limits.CHUNK_BYTES,
) -> Piece:
    """Return a part of one run's log.

    Args:
        folder: The program's `logs`.
        live: Which run is going on now, if any: that one's log may still grow.
        run: Which run; None: by `back`.
        back: 0: the newest run; 1: the one before, …
        offset: Where to go on; None: `tail` lines before the end.
        tail: How many lines at most, if they fit into `size_bytes`.
        size_bytes: How much at most.
    """
    kept = runs(folder)
    chosen = run if run is not None else (kept[back] if back < len(kept) else 0)
    try:
        fd = os.open(path(folder, chosen), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Piece(run=0, offset=0, data=b"", more=False, ended=True)
    try:
        end = os.fstat(fd).st_size
        start = _last_lines(fd, end, tail, size_bytes) if offset is None else offset
        head = _head(fd, end)
        start = head if start < head or start > end else start
        data = os.pread(fd, size_bytes, start)
    finally:
        os.close(fd)
    after = start + len(data)
    return Piece(run=chosen, offset=after, data=data, more=after < end, ended=chosen != live)


def pause_s(grown_bytes: int, elapsed_s: float) -> float:
    """Return when to look again at a log that grew so fast: before it has grown too much."""
    return min(max(SLACK_BYTES * elapsed_s / max(grown_bytes, 1), FLOOD_LOOK_S), QUIET_LOOK_S)


def trim(file: Path) -> int:
    """Cut what is older than `LOG_BYTES`, at a line's beginning; return how far the log has come.

    Lines that fit are not lost. Nothing happens to a log that is short, or gone. Raises `OSError`.
    """
    try:
        size = file.stat().st_size
        if size <= limits.LOG_BYTES + SLACK_BYTES:
            return size
        fd = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        end = os.fstat(fd).st_size
        if end - _head(fd, end) > limits.LOG_BYTES + SLACK_BYTES:
            begin = _line_start(fd, end - limits.LOG_BYTES)
            if end > OFFSET_MAX or not _punch(fd, begin):
                _copy_and_cut(fd, begin, file.with_suffix(".cut"))
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _last_lines(fd: int, end: int, tail: int, size_bytes: int) -> int:
    """Return where the last `tail` lines begin, or as many whole ones as fit into `size_bytes`."""
    head = _head(fd, end)
    begin = max(head, end - size_bytes)
    data = os.pread(fd, end - begin, begin)
    position = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(tail):
        position = data.rfind(b"\n", 0, position)
        if position < 0:
            position = data.find(b"\n") if begin > head else -1
            break
    return begin + position + 1 if tail else end


def _head(fd: int, end: int) -> int:
    """Return where the log begins: after the hole, and the zeros in its last block."""
    try:
        position = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        position = end if error.errno == errno.ENXIO else 0
    while block := os.pread(fd, _BLOCK, position):
        text = block.lstrip(b"\0")
        position += len(block) - len(text)
        if text:
            break
    return min(position, end)


def _line_start(fd: int, position: int) -> int:
    """Return the first beginning of a line from `position` on, or `position` if that is far."""
    newline = os.pread(fd, SLACK_BYTES, position - 1).find(b"\n")
    return position if newline < 0 else position + newline


def _punch(fd: int, begin: int) -> bool:
    """Give the disk back what is before `begin`; return whether the file system can."""
    size = ctypes.c_int64(begin)
    if _libc.fallocate64(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(0), size) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def _copy_and_cut(fd: int, begin: int, aside: Path) -> None:
    """Copy what is after `begin`, empty the file, and append the copy."""
    with open(aside, "w+b", opener=_private) as copy:
        while block := os.pread(fd, _BLOCK, begin):
            begin += copy.write(block)
        os.ftruncate(fd, 0)
        copy.seek(0)
        while block := copy.read(_BLOCK):
            os.write(fd, block)
    aside.unlink()


def _private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def _remove(folder: str, run: int) -> None:
    path(folder, run).unlink(missing_ok=True)
    path(folder, run).with_suffix(".cut").unlink(missing_ok=True)
