"""The one place that waits for processes: tells whoever watches one that it has ended, and how.

Every process that ends below the keeper becomes its child, for it is a subreaper. So all that have
ended are collected, and those that somebody watches are told of. A program that an earlier keeper
started is nobody's child here: its pidfd says that it has ended, and nobody can say how.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final, Self

from msgspec import Struct

_PR_SET_CHILD_SUBREAPER: Final = 36


class How(Struct, frozen=True):
    """How a process ended: with a code, by a signal, or unseen."""

    code: int | None = None
    signal: str | None = None


class _Watch(Struct, frozen=True):
    pidfd: int
    own: bool
    """Our child."""
    on_end: Callable[[How], None]


class Reaper:
    """While the context lasts, processes that end are collected. Needs a running loop."""

    def __init__(self) -> None:
        self._watched: dict[int, _Watch] = {}

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become a subreaper")
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._collect)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        for pid in list(self._watched):
            self.forget(pid)

    def watch(self, pid: int, pidfd: int, *, own: bool, on_end: Callable[[How], None]) -> None:
        """Call `on_end` once when this process has ended; the pidfd is ours until then.

        Args:
            pid: Which; it must not have been waited for.
            pidfd: Of just that process.
            own: Whether this keeper started it.
            on_end: Told how it ended, from the loop, never from within this call.
        """
        self._watched[pid] = _Watch(pidfd, own, on_end)
        asyncio.get_running_loop().add_reader(pidfd, self._ended, pid)

    def forget(self, pid: int) -> None:
        """Stop watching. Does nothing to the process."""
        watch = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(watch.pidfd)
        os.close(watch.pidfd)

    def send(self, pid: int, number: int) -> None:
        """Send a signal to a watched process; one that has just ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._watched[pid].pidfd, number)

    def _ended(self, pid: int) -> None:
        if self._watched[pid].own:
            self._collect()
        else:
            self._tell(pid, How())

    def _collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
                watch = self._watched.get(ended.si_pid)
                if watch is not None and watch.own:
                    self._tell(ended.si_pid, _how(ended))

    def _tell(self, pid: int, how: How) -> None:
        on_end = self._watched[pid].on_end
        self.forget(pid)
        on_end(how)


def _how(ended: os.waitid_result) -> How:
    if ended.si_code == os.CLD_EXITED:
        return How(code=ended.si_status)
    return How(signal=name(ended.si_status))


def name(number: int) -> str:
    """Return what a signal is called."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
