"""Who a process is: its number, when it started, and in which boot of the machine.

A number alone names a stranger sooner or later. Nothing is signalled here, and nothing is
signalled elsewhere but through a pidfd that was opened first and looked at afterwards.

Each program has a file of `PID_BYTES` that says which process it is. The keeper blanks it, locks
it and hands it to the launcher, which writes itself in and lets go just before it becomes the
program. So who gets the lock knows: what is written is all there is. The file keeps its size, so
that a full disk does not keep a program from coming back.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from msgspec import Struct

PID_BYTES: Final = 1024
"""A line of /proc/PID/stat has at most 52 numbers of up to 20 digits, most of them short."""

FIELDS: Final = 20
"""After the name, up to the start time: field 22 of proc(5)'s count."""

_KERNEL_THREAD: Final = 0x0020_0000
"""PF_KTHREAD in the flags."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Stat(Struct, frozen=True):
    """What /proc says of a process."""

    state: str
    group: int
    session: int
    flags: int
    started: int
    """In clock ticks since boot; with the pid it is never used twice in one boot."""

    @property
    def kernel(self) -> bool:
        """A thread of the kernel's."""
        return bool(self.flags & _KERNEL_THREAD)

    @property
    def ended(self) -> bool:
        """Dead, though its parent may not have looked yet."""
        return self.state in "ZX"


class Written(Struct, frozen=True):
    """What a launcher wrote of itself: it became this process in this run."""

    run: int
    boot: str
    pid: int
    started: int


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return _BOOT_ID.read_text().strip()


def parse_stat(line: str) -> tuple[int, Stat]:
    """Return the pid and the rest of a line of /proc/PID/stat; raises `ValueError`.

    The program's name, in parentheses, may itself have parentheses and spaces in it.
    """
    pid, rest = line.split(" (", 1)
    fields = rest.rsplit(") ", 1)[1].split()
    if len(fields) < FIELDS:
        raise ValueError("cannot read a process's stat: it is cut short")
    group, session, flags, started = (int(fields[n]) for n in (2, 3, 6, FIELDS - 1))
    return int(pid), Stat(fields[0], group, session, flags, started)


def stat(pid: int) -> Stat | None:
    """Return what /proc says of `pid`; None: there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return parse_stat(os.read(fd, PID_BYTES).decode(errors="replace"))[1]
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def open_process(pid: int, started: int) -> int | None:
    """Return a pidfd of just this process while it lives, else None; the caller closes it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    found = stat(pid)
    if found is None or found.started != started or found.ended:
        os.close(pidfd)
        return None
    return pidfd


def blank(path: Path) -> int:
    """Return a file to be handed to a launcher: blank, and locked until it is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(fd, b" " * (PID_BYTES - 1) + b"\n", 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def written(path: Path) -> Written | None:
    """Return who the file says that runs; None: nobody, for the launcher never came so far.

    Raises:
        BlockingIOError: A launcher is at work: look again in a moment.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _parse(os.read(fd, PID_BYTES))
    finally:
        os.close(fd)


def _parse(data: bytes) -> Written | None:
    """Read `<run> <boot id> <stat>`; what a power cut left half-written names nobody."""
    try:
        run, boot, line = data.decode(errors="replace").split("\n")[0].split(" ", 2)
        pid, found = parse_stat(line)
        return Written(int(run), boot, pid, found.started)
    except (ValueError, IndexError):
        return None
