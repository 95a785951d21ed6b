"""Starts a process that is in a control group of the unified hierarchy from its first instant.

To move a process into a group, the kernel waits until no CPU can still be forking: 5 to 20 ms. One
that is born there (clone3 with CLONE_INTO_CGROUP) pays nothing of the kind. `posix_spawn` cannot
say it (before glibc 2.39), so this forks, and the child does what `posix_spawn` would do, no more.
That is sound only because the keeper has a single thread, and blocks its signals meanwhile.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

_CLONE3: Final = 435
"""The same on all architectures."""
_CLONE_PIDFD: Final = 0x1000
_CLONE_INTO_CGROUP: Final = 0x2_0000_0000

HANDLED: Final = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)
"""Signals that the keeper has handlers for. One that ran in the child would wake the keeper, by a
file that both have: a signal for the program would be taken for one of the keeper's."""

IGNORED: Final = tuple(n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN)
"""Signals that Python ignores, or whoever started us did. An exec does not change that."""

_libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock: the child has it too


class _Arguments(ctypes.Structure):
    """`struct clone_args` of clone3(2), up to `cgroup`."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def works(folder: Path) -> bool:
    """Try it in a group below `folder`, and return whether it can be done here.

    Kernels before 5.7 and some sandboxes know no such clone3, and a kernel may kill the child at
    birth (cgroups.make).
    """
    group = folder / "try"
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        group.mkdir(exist_ok=True)
        pid, pidfd = start(str(group), "/bin/sh", ["sh", "-c", "exit 0"], {}, (null, null, null))
        os.close(pidfd)
        return os.waitpid(pid, 0)[1] == 0
    except OSError:
        return False
    finally:
        os.close(null)
        with contextlib.suppress(OSError):
            group.rmdir()


def start(
    group: str,
    program: str,
    arguments: list[str],
    environment: Mapping[str, str],
    files: Sequence[int],
) -> tuple[int, int]:
    """Return the pid and a pidfd of a process that executes `program` in a session of its own.

    Args:
        group: Folder of the control group.
        program: Path of what to execute.
        arguments: Its own name first.
        environment: All of it.
        files: What become its files 0, 1, 2, …; each a number beyond those.

    Raises:
        OSError: It was not started.
    """
    pidfd = ctypes.c_int(-1)
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = _clone(folder, pidfd)
        if pid == 0:
            _become(program, arguments, environment, files)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(folder)
    return pid, pidfd.value


def _clone(folder: int, pidfd: ctypes.c_int) -> int:
    arguments = _Arguments(
        flags=_CLONE_PIDFD | _CLONE_INTO_CGROUP,
        pidfd=ctypes.addressof(pidfd),
        exit_signal=signal.SIGCHLD,
        cgroup=folder,
    )
    pid: int = _libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return pid


def _become(
    program: str,
    arguments: list[str],
    environment: Mapping[str, str],
    files: Sequence[int],
) -> NoReturn:
    """Be that program. Runs in the child, which must not come back from here."""
    try:
        os.setsid()
        for number in (*IGNORED, *HANDLED):
            signal.signal(number, signal.SIG_DFL)
        for to, file in enumerate(files):
            os.dup2(file, to)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, arguments, environment)  # noqa: S606  # no shell, as everywhere
    except OSError as error:
        os.write(2, f"cannot start {program}: {error}\n".encode())
    finally:
        os._exit(125)
