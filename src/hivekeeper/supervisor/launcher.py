"""Turns a spec into a running process, so that nothing of it can get lost.

A shell with a fixed script is started in a session of its own, in the program's control group
where that can be (`cloning`). It enters what groups are left, writes itself into the pid file,
lets go of that file's lock, and becomes the program. So whatever the program forks is held from
the start, and a keeper that is killed meanwhile leaves either nothing or a process that its
successor knows. No argument is part of the script. Does not decide when, and waits for nothing.
"""

import os
import pwd
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.program import ProgramSpec
from hivekeeper.supervisor import cgroups, cloning

SHELL: Final = "/bin/sh"

# Arguments: run, boot, open files, folder, doors of groups, an empty word, command. File 3 is the
# pid file. 125 is what `env`, `nice` and the like exit with when they fail before the command.
SCRIPT: Final = """
hive_run="$1 $2" hive_cwd=$4
ulimit -S -n "$3"
shift 4
while [ -n "$1" ]; do
    echo 0 >"$1" || exit 125
    shift
done
shift
cd -- "$hive_cwd" || exit 125
read -r hive_stat </proc/$$/stat && echo "$hive_run $hive_stat" >&3 || exit 125
unset OLDPWD
exec 3>&-
exec "$@"
"""

INHERITED: Final = ("PATH", "HOME", "LANG", "TZ")
"""What a program gets of the keeper's own environment."""

TOOLS: Final = "/usr/bin:/bin:/run/current-system/sw/bin"
"""Where the base system is; the last is NixOS."""

_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Files(NamedTuple):
    """What the launcher begins with, as its files 0 to 3; the caller closes its own afterwards."""

    stdin: int
    stdout: int
    stderr: int
    pid: int
    """Locked (identity.blank); not handed to the program."""


class World(Struct, frozen=True):
    """What all programs of a keeper have in common."""

    boot: str
    """Names this boot of the machine."""
    environment: Mapping[str, str]
    """The keeper's own."""
    born: bool
    """Whether programs are born into their first group (cloning), and need not enter it."""
    open_files: str
    """How many a program may have open, as `ulimit` takes it; the keeper raised its own limit."""


def check(spec: ProgramSpec) -> None:
    """Raise `UserError` if this machine can't start or stop the program as it is told."""
    if spec.stop_signal not in signal.Signals.__members__:
        raise UserError(
            f"cannot hold {spec.id}: there is no signal {spec.stop_signal!r}",
            hint="use a name like SIGTERM or SIGINT",
            field="stop_signal",
        )
    try:
        _user(spec.user)
    except PermanentError as error:
        raise UserError(
            f"cannot hold {spec.id}: {error}", hint=error.hint, field="user"
        ) from error


def spawn(
    spec: ProgramSpec,
    world: World,
    *,
    run: int,
    groups: tuple[str, ...],
    variables: Mapping[str, str],
    files: Files,
) -> tuple[int, int]:
    """Return the pid and a pidfd of the process that is about to become the program.

    Args:
        spec: What to run.
        world: What the keeper gives to every program.
        run: How often it was started, this time included.
        groups: Folders of its control groups.
        variables: What the keeper adds to its environment.
        files: What it begins with.

    Raises:
        PermanentError: It can't be started as it is told: no such program, user or folder.
        OSError: The machine could not.
    """
    cwd = spec.cwd or "/"
    if not Path(cwd).is_dir():
        raise PermanentError(f"there is no folder {cwd!r} to run in")
    user = _user(spec.user)
    environment = _environment(spec, world, user) | dict(variables)
    if _find(spec.command[0], environment["PATH"], cwd) is None:
        raise PermanentError(f"no program {spec.command[0]!r} (PATH is {environment['PATH']})")
    command, plain = _with_odd_names(_as_user(list(spec.command), user), environment)
    first = ["sh", "-c", SCRIPT, "hive-launch", str(run), world.boot, world.open_files, cwd]
    doors = [cgroups.door(group) for group in groups]
    if world.born and doors:
        return cloning.start(groups[0], SHELL, [*first, *doors[1:], "", *command], plain, files)
    pid = os.posix_spawn(
        SHELL,
        [*first, *doors, "", *command],
        plain,
        file_actions=[(os.POSIX_SPAWN_DUP2, file, to) for to, file in enumerate(files)],
        setsid=True,
        setsigmask=[],
        setsigdef=cloning.IGNORED,
    )
    return pid, _pin(pid)


def _pin(pid: int) -> int:
    """Return the pidfd of our child; a child that can't be watched is not let run."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # nobody waited for it, so the number is still its own
        raise


def _environment(
    spec: ProgramSpec, world: World, user: pwd.struct_passwd | None
) -> dict[str, str]:
    """Return a little of our own, its user's, and its spec's."""
    own = {"PATH": os.defpath}
    own |= {name: world.environment[name] for name in INHERITED if name in world.environment}
    if user is not None:
        own |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return own | spec.env


def _find(command: str, path: str, cwd: str) -> str | None:
    """Return where a command is; None: nowhere. The shell could say so in the log only."""
    folders = [cwd] if "/" in command else path.split(":")
    found = (Path(folder, command) for folder in folders)
    return next((str(file) for file in found if os.access(file, os.X_OK)), None)


def _user(name: str | None) -> pwd.struct_passwd | None:
    """Return who a program runs as; None: as the keeper does."""
    if name is None:
        return None
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        hint = f"create it, for example: useradd --system {name}"
        raise PermanentError(f"there is no user {name!r} here", hint=hint) from None
    if os.geteuid() not in (0, user.pw_uid):
        hint = "run hive as root, or leave the user out"
        raise PermanentError(f"only root can run it as user {name!r}", hint=hint)
    return user


def _as_user(command: list[str], user: pwd.struct_passwd | None) -> list[str]:
    """Return the command that runs `command` as `user`."""
    if user is None or user.pw_uid == os.geteuid():
        return command
    ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"]
    return [_tool("setpriv"), *ids, "--", *command]


def _with_odd_names(
    command: list[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment, so that names which a shell drops arrive as well."""
    plain = {k: v for k, v in environment.items() if _SHELL_NAME.fullmatch(k)}
    odd = [f"{k}={v}" for k, v in environment.items() if k not in plain]
    return [_tool("env"), "--", *odd, *command] if odd else command, plain


def _tool(name: str) -> str:
    """Return where a program of the base system is, whatever PATH the program is given."""
    found = _find(name, TOOLS, "/")
    if found is None:
        raise PermanentError(f"there is no program {name!r} (looked in {TOOLS})")
    return found
