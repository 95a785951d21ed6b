"""Policies a user may declare: how persistently, how ready, how much.

Shapes and invariants only.
"""

from enum import StrEnum, auto
from typing import Annotated, Final

from msgspec import Meta, Struct

from hivekeeper.model import ids

Seconds = Annotated[
    float, Meta(ge=0, le=86_400 * 7, description="seconds, from 0 to 604800 (a week)")
]
PositiveSeconds = Annotated[
    float, Meta(gt=0, le=86_400 * 7, description="seconds, more than 0, at most 604800 (a week)")
]
Port = Annotated[
    int, Meta(ge=1, le=65_535, description="a port number, a whole number from 1 to 65535")
]

PATH_PATTERN: Final = r"^/[^\s\x00-\x1f\x7f]*" + ids.END
PATH: Final = "the path of an address, from its first `/` on, without spaces"


class RestartWhen(StrEnum):
    """Which exits are followed by another start."""

    ALWAYS = auto()
    FAILURE = auto()
    NEVER = auto()


class RestartPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How persistent the keeper is.

    Counting is by consecutive failures; a stable run forgets them.
    """

    when: RestartWhen = RestartWhen.ALWAYS
    max_retries: Annotated[int, Meta(ge=0, le=1_000_000)] = 5
    first_delay_s: PositiveSeconds = 0.1
    max_delay_s: PositiveSeconds = 5.0
    stable_after_s: Seconds = 60.0
    probe_every_s: Seconds = 0.0
    """After it was given up, try once again this often; 0: never, a person must ask."""

    def __post_init__(self) -> None:
        if self.first_delay_s > self.max_delay_s:
            raise ValueError("first_delay_s must not be greater than max_delay_s")


class HttpProbe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A GET on loopback; any 2xx or 3xx is ready."""

    port: Port
    path: Annotated[str, Meta(pattern=PATH_PATTERN, max_length=1024, description=PATH)] = "/"


class Readiness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program shows that it is ready: one of four ways. Without any, started is ready."""

    log: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    """A text that a line of its output contains."""
    tcp: Port | None = None
    http: HttpProbe | None = None
    notify: bool = False
    """sd_notify: READY=1 on the socket named in NOTIFY_SOCKET."""
    timeout_s: PositiveSeconds = 60.0

    def __post_init__(self) -> None:
        ways = sum(
            [self.log is not None, self.tcp is not None, self.http is not None, self.notify]
        )
        if ways != 1:
            raise ValueError("exactly one of log, tcp, http, notify is needed")


class Resources(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a program may use at most, where the host has cgroups; none: as much as there is."""

    memory_bytes: Annotated[int, Meta(ge=1024 * 1024)] | None = None
    cpu: Annotated[float, Meta(gt=0, le=1024)] | None = None
    """Cores: 0.5 is half of one."""
    tasks: Annotated[int, Meta(ge=1, le=4_194_304)] | None = None
