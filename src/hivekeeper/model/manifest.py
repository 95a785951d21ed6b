"""What a user asks for: the manifest. One definition for decoder, JSON Schema and docs.

A description of a type says what is expected: it is what the decoder's errors say, too. What is
not here is refused by name. Decoding text is `wire.manifests`.
"""

import re
from collections.abc import Iterator
from enum import StrEnum, auto
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from hivekeeper.model import limits, text
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.model.policy import (
    Port,
    PositiveSeconds,
    Readiness,
    Resources,
    RestartPolicy,
)
from hivekeeper.model.text import (
    Base64,
    Glob,
    HappSource,
    Identifier,
    Name,
    Path,
    Sha256,
    Size,
    Text,
    Url,
    VariableName,
    Word,
)


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


class Line(StrEnum):
    """A release line of Holochain."""

    V0_6 = "0.6"


class StopSignal(StrEnum):
    """Which signal asks a program to stop."""

    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
    SIGQUIT = "SIGQUIT"
    SIGHUP = "SIGHUP"
    SIGUSR1 = "SIGUSR1"
    SIGUSR2 = "SIGUSR2"
    SIGWINCH = "SIGWINCH"
    SIGKILL = "SIGKILL"


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a manifest.

    Stored whole, with what nobody said: a default that changes with a new version of Hivekeeper
    changes no workload that was declared before.
    """


class Process(_Part, frozen=True, kw_only=True):
    """Any program."""

    command: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=limits.COMMAND_WORDS)]
    env: Annotated[dict[VariableName, Word], Meta(max_length=limits.ENVIRONMENT_NAMES)] = {}
    user: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Who it runs as; none: who runs the keeper."""
    cwd: Path | None = None
    """Where it runs; none: a folder of its own, kept like its data."""
    stop_signal: StopSignal = StopSignal.SIGTERM
    stop_timeout_s: PositiveSeconds = 10.0


class Role(_Part, frozen=True, kw_only=True):
    """What is set for one role of a hApp."""

    properties: dict[str, Any] | None = None
    network_seed: Text | None = None
    membrane_proof: Base64 | None = None


class InitCall(_Part, frozen=True, kw_only=True):
    """A zome call made once, after the first install.

    `<NODE_NAME>` in its payload is the host's name.
    """

    role: Identifier
    zome: Identifier
    fn: Identifier
    payload: Any = None


class HolochainNetwork(_Part, frozen=True, kw_only=True):
    """Where a conductor finds its peers; what is not said is the release line's local default."""

    bootstrap_url: Url | None = None
    relay_url: Url | None = None
    signal_url: Url | None = None
    advanced: dict[str, Any] | None = None
    """Given to the conductor as it is."""


class Holochain(_Part, frozen=True, kw_only=True):
    """A conductor with one hApp."""

    line: Line = Line.V0_6
    conductor: Conductor = Conductor.ANY
    installed_app_id: Identifier | None = None
    """Default: the workload's name."""
    happ: HappSource
    sha256: Sha256 | None = None
    network_seed: Text | None = None
    roles: Annotated[dict[Identifier, Role], Meta(max_length=64)] = {}
    init_calls: Annotated[tuple[InitCall, ...], Meta(max_length=64)] = ()
    network: HolochainNetwork = HolochainNetwork()


class Gateway(_Part, frozen=True, kw_only=True):
    """Which functions may be called over HTTP: globs of `zome/function`; none: nothing may."""

    functions: Annotated[tuple[Glob, ...], Meta(max_length=256)] = ()


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

    host: Annotated[HostId, text.NAME] | None = None


class ResourceLimits(_Part, frozen=True, kw_only=True):
    """What it may use at most, where the host has cgroups."""

    memory: Size | None = None
    cpu: Annotated[float, Meta(gt=0, le=1024)] | None = None
    tasks: Annotated[int, Meta(ge=1, le=4_194_304)] | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and text.parse_size(self.memory) < limits.MIB:
            raise ValueError("memory must be at least 1MiB")

    def resources(self) -> Resources:
        """Return the same in bytes."""
        memory = None if self.memory is None else text.parse_size(self.memory)
        return Resources(memory_bytes=memory, cpu=self.cpu, tasks=self.tasks)


class Manifest(_Part, frozen=True, kw_only=True):
    """One workload, as asked for. Immutable: a changed manifest is a new revision."""

    name: Annotated[WorkloadName, text.NAME]
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


LATER: Final[dict[type, frozenset[str]]] = {
    Kind: frozenset({"agent"}),
    Conductor: frozenset({"embedded"}),
    Line: frozenset({"0.4", "0.5", "0.7"}),
    RuntimeType: frozenset({"nspawn", "oci", "nixos"}),
    NetworkMode: frozenset({"private", "none"}),
    Role: frozenset({"deferred", "existing_cell", "clones"}),
    Runtime: frozenset({"profile", "base", "image"}),
    NamedPort: frozenset({"host_port", "protocol", "forwarder"}),
    Placement: frozenset({"on_lost", "labels"}),
    ResourceLimits: frozenset({"disk"}),
    Manifest: frozenset({"agent", "update", "volumes"}),
}
"""Words of the design that are not built yet, by the type that will have them."""


def contradictions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what the fields of `manifest` say against each other: a field's path, and why."""
    if manifest.kind is Kind.PROCESS:
        yield from _not_a_process(manifest)
    elif manifest.holochain is None:
        yield "holochain", "is needed with kind: holochain"
    else:
        yield from _not_a_happ(manifest)
        yield from _bad_source(manifest.holochain)
    names = [port.name for port in manifest.network.ports]
    if len(set(names)) < len(names):
        yield "network.ports", "each needs a name of its own"


def _not_a_process(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.process is None:
        yield "process", "is needed with kind: process"
    if manifest.holochain is not None:
        yield "holochain", "does not go with kind: process"
    if manifest.gateway != Gateway():
        yield "gateway", "does not go with kind: process; it calls the functions of hApps"


def _not_a_happ(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.process is not None:
        yield "process", "does not go with kind: holochain"
    if manifest.readiness is not None:
        yield "readiness", "does not go with kind: holochain; a hApp is ready when it answers"
    if manifest.network.ports:
        yield "network.ports", "do not go with kind: holochain; its conductor's are chosen for it"


def _bad_source(holochain: Holochain) -> Iterator[tuple[str, str]]:
    """A hApp comes from a path, from an https URL whose bytes are known, or from the blobs."""
    scheme, separator, rest = holochain.happ.partition(":")
    if scheme == "blob":
        if not re.search(text.SHA256_PATTERN, rest):
            yield "holochain.happ", "after blob: comes a SHA-256, 64 hexadecimal digits"
        elif holochain.sha256 not in (None, rest):
            yield "holochain.sha256", "is not the one that holochain.happ names"
    elif scheme == "https" and rest.startswith("//"):
        if holochain.sha256 is None:
            yield "holochain.sha256", "is needed with a URL"
    elif separator and rest.startswith("//"):
        yield "holochain.happ", "only https URLs are fetched"
