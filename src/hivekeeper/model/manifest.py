"""What a user asks for: the manifest. One definition for the decoder, the JSON Schema and the docs.

What is not here is not supported yet and is refused by name. Decoding text is `wire.manifests`.
"""

from enum import StrEnum, auto
from typing import Annotated, Any

from msgspec import Meta, Struct

from hivekeeper.model import ids, limits
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.model.policy import (
    Port,
    PositiveSeconds,
    Readiness,
    Resources,
    RestartPolicy,
)

Name = Annotated[str, Meta(pattern=ids.NAME_PATTERN, max_length=limits.NAME_LENGTH)]
Identifier = Annotated[str, Meta(min_length=1, max_length=limits.GATEWAY_IDENTIFIER_LENGTH)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class Kind(StrEnum):
    """What kind of thing is kept on."""

    HOLOCHAIN = auto()
    PROCESS = auto()


class Asked(StrEnum):
    """What a manifest may ask for."""

    RUNNING = auto()
    STOPPED = auto()


class Conductor(StrEnum):
    """Which conductor may run a hApp."""

    ANY = auto()
    REAL = auto()


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a manifest."""


class Process(_Part, frozen=True, kw_only=True):
    """Any program."""

    command: Annotated[tuple[str, ...], Meta(min_length=1, max_length=limits.COMMAND_WORDS)]
    env: Annotated[dict[str, str], Meta(max_length=limits.ENVIRONMENT_NAMES)] = {}
    user: str | None = None
    """Who it runs as; none: who runs the keeper."""
    cwd: str | None = None
    """Where it runs; none: a folder of its own, kept like its data."""
    stop_signal: Annotated[str, Meta(pattern="^SIG[A-Z0-9]{2,8}$")] = "SIGTERM"
    stop_timeout_s: PositiveSeconds = 10.0


class Role(_Part, frozen=True, kw_only=True):
    """What is set for one role of a hApp."""

    properties: dict[str, Any] | None = None
    network_seed: Annotated[str, Meta(max_length=1024)] | None = None
    membrane_proof: str | None = None
    """Base64."""


class InitCall(_Part, frozen=True, kw_only=True):
    """A zome call made once, after the first install. `<NODE_NAME>` in its payload is the host's name."""

    role: Identifier
    zome: Identifier
    fn: Identifier
    payload: Any = None


class HolochainNetwork(_Part, frozen=True, kw_only=True):
    """Where a conductor finds its peers; what is not said has the release line's local defaults."""

    bootstrap_url: Url | None = None
    relay_url: Url | None = None
    signal_url: Url | None = None
    advanced: dict[str, Any] | None = None
    """Given to the conductor as it is."""


class Holochain(_Part, frozen=True, kw_only=True):
    """A conductor with one hApp."""

    line: Annotated[str, Meta(pattern=r"^0\.[0-9]+$")] = "0.6"
    conductor: Conductor = Conductor.ANY
    installed_app_id: Identifier | None = None
    """Default: the workload's name."""
    happ: Annotated[str, Meta(min_length=1, max_length=4096)]
    """A path (relative to the manifest), an https URL with `sha256`, or `blob:SHA256`."""
    sha256: Sha256 | None = None
    network_seed: Annotated[str, Meta(max_length=1024)] | None = None
    roles: Annotated[dict[Identifier, Role], Meta(max_length=64)] = {}
    init_calls: Annotated[tuple[InitCall, ...], Meta(max_length=64)] = ()
    network: HolochainNetwork = HolochainNetwork()


class Gateway(_Part, frozen=True, kw_only=True):
    """Which functions may be called over HTTP: globs of `zome/function`; none: nothing may."""

    functions: Annotated[
        tuple[Annotated[str, Meta(pattern="^[^/]+/[^/]+$")], ...], Meta(max_length=256)
    ] = ()


class RuntimeType(StrEnum):
    """What makes the container."""

    AUTO = auto()
    PROCESS = auto()


class Runtime(_Part, frozen=True, kw_only=True):
    """What isolates the workload."""

    type: RuntimeType = RuntimeType.AUTO


class NetworkMode(StrEnum):
    """Which network a workload sees."""

    HOST = auto()


class NamedPort(_Part, frozen=True, kw_only=True):
    """A port that the program listens on, by a name for people."""

    name: Name
    port: Port


class Network(_Part, frozen=True, kw_only=True):
    """The workload's network."""

    mode: NetworkMode = NetworkMode.HOST
    ports: Annotated[tuple[NamedPort, ...], Meta(max_length=64)] = ()


class Placement(_Part, frozen=True, kw_only=True):
    """Where it may run; none: on the host with the fewest workloads."""

    host: (
        Annotated[HostId, Meta(pattern=ids.NAME_PATTERN, max_length=limits.NAME_LENGTH)] | None
    ) = None


class ResourceLimits(_Part, frozen=True, kw_only=True):
    """What it may use at most, where the host has cgroups."""

    memory: str | None = None
    """With a unit: `512MiB`, `2GiB`."""
    cpu: Annotated[float, Meta(gt=0, le=1024)] | None = None
    tasks: Annotated[int, Meta(ge=1, le=4_194_304)] | None = None

    def resources(self) -> Resources:
        """Return the same in bytes; raises `ValueError` for a size without a known unit."""
        memory = None if self.memory is None else parse_size(self.memory)
        return Resources(memory_bytes=memory, cpu=self.cpu, tasks=self.tasks)


class Manifest(_Part, frozen=True, kw_only=True):
    """One workload, as asked for. Immutable: a changed manifest is a new revision."""

    name: Annotated[WorkloadName, Meta(pattern=ids.NAME_PATTERN, max_length=limits.NAME_LENGTH)]
    kind: Kind
    desired: Asked = Asked.RUNNING
    process: Process | None = None
    holochain: Holochain | None = None
    gateway: Gateway = Gateway()
    runtime: Runtime = Runtime()
    network: Network = Network()
    readiness: Readiness | None = None
    placement: Placement = Placement()
    restart: RestartPolicy = RestartPolicy()
    resources: ResourceLimits = ResourceLimits()

    @property
    def app_id(self) -> str:
        """What the conductor calls the hApp."""
        assert self.holochain is not None, "only a hApp has an app id"
        return self.holochain.installed_app_id or self.name


_UNITS = {
    "KIB": limits.KIB,
    "MIB": limits.MIB,
    "GIB": limits.GIB,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_size(text: str) -> int:
    """Return how many bytes `text` (`512MiB`, `2 GB`) means; raises `ValueError` with the units that are known."""
    number, unit = text.rstrip("iIbBkKmMgGtT ").strip(), ""
    unit = text[len(text.rstrip("iIbBkKmMgGtT ")) :].strip().upper()
    if unit not in _UNITS or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"`{text}` is no size; write a number and KiB, MiB or GiB, as in 512MiB")
    return int(float(number) * _UNITS[unit])
