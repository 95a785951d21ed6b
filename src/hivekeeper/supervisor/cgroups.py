"""Control groups: where ours can be made, what holds a program in, and how all of it is killed.

A program's groups are made below the keeper's own, so that no program escapes what holds the
keeper. One group holds all of its processes, in the unified hierarchy (v2) where there is one;
limits are set where the machine has the controller. A machine may give us none: then `kin` finds
what belongs together. Starts nothing: the launcher enters the groups, before it becomes the
program.
"""

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from hivekeeper.model.policy import Resources
from hivekeeper.supervisor import identity

log = logging.getLogger(__name__)

CPU_PERIOD_US: Final = 100_000
"""The kernel's default for `cpu.cfs_period_us` and `cpu.max`."""

CONTROLLERS: Final = frozenset({"memory", "pids", "cpu"})
"""That we set limits with."""

_FILES: Final = {
    ("memory", True): "memory.max",
    ("memory", False): "memory.limit_in_bytes",
    ("pids", True): "pids.max",
    ("pids", False): "pids.max",
    ("cpu", True): "cpu.max",
    ("cpu", False): "cpu.cfs_quota_us",
}
"""By controller and whether the hierarchy is the unified one."""

JOIN: Final = "cgroup.procs"
"""Who writes its pid into this file of a group is in it."""


class Hierarchy(Struct, frozen=True):
    """A tree of groups, the folder below which ours are made, and what can be limited there."""

    unified: bool
    base: Path
    controllers: frozenset[str]


class Cgroups(Struct, frozen=True):
    """What this machine gives us."""

    members: Hierarchy | None
    """Where programs are held together; None: nowhere."""
    limits: dict[str, Hierarchy]
    """Where each controller is that limits can be set with."""


def find(name: str, *, proc: Path = Path("/proc/self")) -> Cgroups:
    """Return where a keeper called `name` can make groups. What can't be had is logged, once."""
    usable = [h for found in hierarchies(name, proc=proc) if (h := _usable(found)) is not None]
    usable.sort(key=lambda h: (not h.unified, h.base))
    limits = {controller: h for h in reversed(usable) for controller in h.controllers}
    if not usable:
        log.warning("no control group can be made: programs are held without, and without limits")
    elif missing := sorted(CONTROLLERS - limits.keys()):
        log.warning("no limit can be set on %s: its controller is not there", ", ".join(missing))
    return Cgroups(usable[0] if usable else None, limits)


def hierarchies(name: str, *, proc: Path) -> Iterator[Hierarchy]:
    """Yield a folder called `name` below our own group in each mounted hierarchy."""
    own = _own_groups((proc / "cgroup").read_text())
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        words = frozenset(options.split(",")) if kind == "cgroup" else frozenset({""})
        group = next((path for key, path in own.items() if key <= words), None)
        root, point = map(_unescape, mount.split()[3:5])
        below = None if group is None else _below(group, root)
        if below is not None:
            yield Hierarchy(kind == "cgroup2", Path(point) / below / name, words & CONTROLLERS)


def folders(cgroups: Cgroups, program: str, resources: Resources) -> tuple[str, ...]:
    """Return the groups that `program` is to be in; the first holds it together."""
    if cgroups.members is None:
        return ()
    asked = [c for c, amount in _amounts(resources).items() if amount is not None]
    limiting = [cgroups.limits[c] for c in asked if c in cgroups.limits]
    bases = dict.fromkeys(h.base for h in (cgroups.members, *limiting))
    return tuple(str(base / program) for base in bases)


def make(cgroups: Cgroups, program: str, resources: Resources) -> None:
    """Make the groups of `program` for a new run, and set its limits. Raises `OSError`.

    A unified group is made anew each time: kernels since 6.14 kill at birth whatever is born into
    a group that was ever killed as a whole (they compare its count of kills with the parent's).
    """
    made = folders(cgroups, program, resources)
    if made and is_unified(made[0]) and not remove(made[:1]):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), made[0])
    for folder in made:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for controller, amount in _amounts(resources).items():
        hierarchy = cgroups.limits.get(controller)
        if hierarchy is not None and str(hierarchy.base / program) in made:
            file, value = _setting(controller, amount, unified=hierarchy.unified)
            (hierarchy.base / program / file).write_text(value)


def is_unified(folder: str) -> bool:
    """Return whether a group is in the unified hierarchy: a process can be born into it."""
    return not Path(folder, "tasks").exists()


def door(folder: str) -> str:
    """Return the file of a group that a process of one thread writes 0 into to be in it.

    In version 1 that moves a thread alone, and so quickly: it need not keep others from forking.
    """
    return f"{folder}/{JOIN if is_unified(folder) else 'tasks'}"


def contains(folder: str, pid: int) -> bool:
    """Return whether `pid` is in this group or one below."""
    return pid in set(_members(Path(folder)))


def clear(folder: str) -> bool:
    """Kill all that is in this group and below; return whether nothing is left, so: ask again."""
    group = Path(folder)
    try:
        if "populated 0" in (group / "cgroup.events").read_text():
            return True
        (group / "cgroup.kill").write_text("1")
    except FileNotFoundError:  # version 1 has neither, old kernels have no cgroup.kill
        return _clear_one_by_one(group)
    return False


def remove(groups: Iterable[str]) -> bool:
    """Remove these empty groups and those below; return whether they are gone, so: ask again."""
    left = False
    for group in groups:
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # still in use for a moment after a kill
                Path(path).rmdir()
        left = left or Path(group).exists()
    return not left


def leave(cgroups: Cgroups) -> None:
    """Remove the folders of the keeper that are empty."""
    bases = {h.base for h in (cgroups.members, *cgroups.limits.values()) if h is not None}
    for base in bases:
        with contextlib.suppress(OSError):
            base.rmdir()


def _own_groups(text: str) -> dict[frozenset[str], str]:
    """Read /proc/PID/cgroup: by the controllers of a hierarchy (v2: the empty word) the path."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return {frozenset(words.split(",")): path for _, words, path in lines}


def _below(group: str, root: str) -> str | None:
    """Return where `group` is below the mounted `root`; None: it can't be seen there."""
    group, root = group.rstrip("/") + "/", root.rstrip("/") + "/"
    return group.removeprefix(root) if group.startswith(root) else None


def _unescape(path: str) -> str:
    """Undo the way in which mountinfo writes blanks."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _usable(found: Hierarchy) -> Hierarchy | None:
    """Return what can be done there; None: nothing. In v2 the way is opened to controllers."""
    if not os.access(found.base.parent / JOIN, os.W_OK):
        return None
    if not found.unified:
        return found if found.controllers else None
    try:
        found.base.mkdir(exist_ok=True)
    except OSError:
        return None
    for folder in (found.base.parent, found.base):
        _delegate(folder)
    controllers = _words(found.base / "cgroup.subtree_control")
    return Hierarchy(unified=True, base=found.base, controllers=controllers)


def _delegate(folder: Path) -> None:
    """Let the groups below `folder` have controllers.

    The kernel refuses it to a group that has processes of its own (but the root): then the keeper
    must be put into a group of its own by whoever starts it.
    """
    for controller in _words(folder / "cgroup.controllers"):
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            log.warning(
                "cannot open %s to the %s controller: %s (under systemd: Delegate=yes, "
                "DelegateSubgroup=keeper)",
                folder,
                controller,
                error.strerror,
            )


def _words(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text().split()) & CONTROLLERS
    except OSError:
        return frozenset()


def _amounts(resources: Resources) -> dict[str, int | None]:
    """Return what is asked for, by controller."""
    cpu = None if resources.cpu is None else round(resources.cpu * CPU_PERIOD_US)
    return {"memory": resources.memory_bytes, "pids": resources.tasks, "cpu": cpu}


def _setting(controller: str, amount: int | None, *, unified: bool) -> tuple[str, str]:
    """Return the file of a limit and what to write into it; no amount lifts a limit."""
    unlimited = "max" if unified or controller == "pids" else "-1"
    return _FILES[controller, unified], unlimited if amount is None else str(amount)


def _members(group: Path) -> Iterator[int]:
    for path, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            yield from map(int, Path(path, JOIN).read_text().split())


def _clear_one_by_one(group: Path) -> bool:
    """Kill what is in it; a pid is looked up again once pinned down: it may be a stranger's."""
    left = False
    for pid in _members(group):
        found = identity.stat(pid)
        pidfd = None if found is None else identity.open_process(pid, found.started)
        if pidfd is None:
            continue
        left = True
        if contains(str(group), pid):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    return not left
