"""What belongs to a program, where no control group holds it together.

Kin is who is in the session or the process group that the program's first process began, and who
has its mark in the environment: that is passed on over double forks and new sessions. A process
that both wiped its environment and left the session is not found: only a control group would hold
that one.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from hivekeeper.supervisor import identity
from hivekeeper.supervisor.identity import Stat


class Kin(Struct, frozen=True):
    """What tells a run's processes from all others."""

    keeper: str
    program: str
    leader: int | None = None
    """The first process, if this keeper saw it alive. Else that number may be a stranger's by now,
    and only the mark counts."""
    since: int = 0
    """When that one started, in ticks since boot: no kin is older."""

    @property
    def mark(self) -> dict[str, str]:
        """The variables that every process of the program has."""
        return {"HIVE_KEEPER": self.keeper, "HIVE_PROGRAM": self.program}


def contains(kin: Kin, pid: int) -> bool:
    """Return whether `pid` belongs to the run."""
    found = identity.stat(pid)
    return found is not None and _belongs(pid, found, kin)


def clear(kin: Kin) -> bool:
    """Kill all that belongs to the run; return whether nothing is left, so: ask again."""
    left = False
    for pid, found in _processes():
        if found.started < kin.since or pid == os.getpid():
            continue
        if _belongs(pid, found, kin):
            _kill(pid, found.started)
            left = True
        elif _is_changing(pid, found):
            left = True
    return not left


def _belongs(pid: int, found: Stat, kin: Kin) -> bool:
    if kin.leader is not None and kin.leader in (found.session, found.group):
        return True
    mark = {f"{name}={value}".encode() for name, value in kin.mark.items()}
    return mark <= set(_read(pid, "environ").split(b"\0"))


def _is_changing(pid: int, found: Stat) -> bool:
    """Whether it is in the middle of an exec, when it shows neither environment nor arguments."""
    return not (found.kernel or _read(pid, "environ") or _read(pid, "cmdline"))


def _kill(pid: int, started: int) -> None:
    pidfd = identity.open_process(pid, started)
    if pidfd is not None:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _processes() -> Iterator[tuple[int, Stat]]:
    """Yield what lives and we may signal: all there is for root, else our own user's."""
    uid = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if entry.name.isdigit() and (uid == 0 or entry.stat().st_uid == uid):
                    found = identity.stat(int(entry.name))
                    if found is not None and not found.ended:
                        yield int(entry.name), found


def _read(pid: int, file: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended, or hides it
        return Path(f"/proc/{pid}/{file}").read_bytes()
    return b"?"
