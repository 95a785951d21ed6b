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
        if not _belongs(pid, found, kin):
            continue
        left = True
        pidfd = identity.open_process(pid, found.started)
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
    return not left


def _belongs(pid: int, found: Stat, kin: Kin) -> bool:
    if found.ended or found.started < kin.since or pid == os.getpid():
        return False
    if kin.leader is not None and kin.leader in (found.session, found.group):
        return True
    mark = {f"{name}={value}".encode() for name, value in kin.mark.items()}
    return mark <= set(_environment(pid))


def _processes() -> Iterator[tuple[int, Stat]]:
    """Yield the processes that we may signal: all of them for root, else our own user's."""
    uid = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if entry.name.isdigit() and (uid == 0 or entry.stat().st_uid == uid):
                    pid = int(entry.name)
                    if (found := identity.stat(pid)) is not None:
                        yield pid, found


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):  # it has ended, or hides its environment
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []
