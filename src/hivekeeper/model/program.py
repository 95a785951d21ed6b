"""What the keeper holds: a program as it is told, and what is known of it."""

import hashlib
from datetime import datetime
from enum import StrEnum, auto
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from hivekeeper.model import ids, limits
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.policy import PositiveSeconds, Readiness, Resources, RestartPolicy

Words = Annotated[tuple[str, ...], Meta(min_length=1, max_length=limits.COMMAND_WORDS)]
Environment = Annotated[dict[str, str], Meta(max_length=limits.ENVIRONMENT_NAMES)]


class State(StrEnum):
    """Where a program is. A state is what the keeper knows, not what it wishes."""

    STOPPED = auto()
    STARTING = auto()
    """Its process runs, and has not shown that it is ready."""
    READY = auto()
    STOPPING = auto()
    BACKOFF = auto()
    FAILED = auto()
    FENCED = auto()
    FINISHED = auto()


class ProgramSpec(Struct, frozen=True, kw_only=True):
    """What to run, and how. Equal specs mean that nothing needs to be restarted.

    Secrets do not belong in `command` or `env`: give them by `stdin`, a file that its owner alone
    can read.
    """

    id: Annotated[ProgramId, Meta(pattern=ids.PROGRAM_PATTERN)]
    command: Words
    env: Environment = {}
    """Added to a minimal environment of the keeper's (PATH, HOME, LANG, TZ)."""
    cwd: str | None = None
    user: str | None = None
    stdin: str | None = None
    """A file that becomes its standard input; none: nothing to read."""
    logs: str
    """A folder that is the program's alone; the keeper makes it, and one file in it a run."""
    stop_signal: str = "SIGTERM"
    stop_timeout_s: PositiveSeconds = 10.0
    readiness: Readiness | None = None
    restart: RestartPolicy = RestartPolicy()
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        for field, path in (("cwd", self.cwd), ("stdin", self.stdin), ("logs", self.logs)):
            if path is not None and not path.startswith("/"):
                raise ValueError(f"{field} must be an absolute path, not {path!r}")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("the names in env must not be empty or contain '='")
        if any("\0" in text for text in (*self.command, *self.env, *self.env.values())):
            raise ValueError("command and env must not contain NUL characters")


class Ending(Struct, frozen=True, kw_only=True):
    """How a run ended: a code, or a signal, or neither where nobody could see it."""

    code: int | None = None
    signal: str | None = None
    at: datetime

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal}"
        return "ended, nobody saw how" if self.code is None else f"exited with code {self.code}"


class ProgramStatus(Struct, frozen=True, kw_only=True):
    """What the keeper says of one program."""

    id: ProgramId
    generation: Generation
    state: State
    wanted: bool
    """Whether it is to run, as last told."""
    spec_digest: str
    """SHA-256 of the spec it was last told, hex.

    Whoever told it can see whether that is still so.
    """
    since: datetime
    """When `state` began, UTC."""
    pid: int | None = None
    run: int = 0
    """How often it was started, ever; names the log file of the present or last run."""
    ready: bool = False
    restarts: int = 0
    """Starts that nobody asked for, since a user last did."""
    failures: int = 0
    """In a row."""
    reason: str = ""
    """Why it is where it is, a sentence; never empty in BACKOFF, FAILED and FENCED."""
    retry_at: datetime | None = None
    last_end: Ending | None = None


def digest(spec: ProgramSpec) -> str:
    """Return the SHA-256 of `spec`, hex.

    Equal specs have equal ones, over restarts and versions of ours.
    """
    return hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()
