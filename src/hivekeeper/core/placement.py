"""Which host runs what: what is stored of a workload, to what is to be stored of its allocations.

Pure, and of one workload at a time. Knows no resources, labels or moves yet: a workload stays where its data is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from hivekeeper.model.allocation import Allocation, Desired, Phase, Report, Workload
from hivekeeper.model.ids import HostId
from hivekeeper.model.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A host that may be chosen."""

    id: HostId
    allocations: int
    """How many it has, whatever their state."""
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to store of one workload; `because` is one sentence, for the log and for users."""

    put: tuple[Allocation, ...] = ()
    drop: tuple[HostId, ...] = ()
    """Allocations whose host has confirmed that nothing is left: the link goes."""
    forget: bool = False
    """Nothing is left of the workload anywhere: its own record goes too."""
    because: str = ""


def plan(
    workload: Workload,
    manifest: Manifest,
    allocations: Iterable[Allocation],
    reports: Mapping[HostId, Report],
    hosts: Iterable[Candidate],
) -> Plan:
    """Return what to change so that the allocations are what the workload asks for; empty once they are.

    Args:
        workload: As stored.
        manifest: Of its revision.
        allocations: All of it.
        reports: What hosts last said of them.
        hosts: All that were let in and have not left.
    """
    present = list(allocations)
    if workload.desired is Desired.UNINSTALLED:
        return _remove(workload, present, reports)
    stale = tuple(_follow(workload, each) for each in present if _behind(workload, each))
    if present:
        return Plan(put=stale, because="its host is to hear of the change" if stale else "")
    if workload.held:
        return Plan(because=f"it is held: `hive assign {workload.name} HOST` places it")
    return _place(workload, manifest, list(hosts))


def _behind(workload: Workload, allocation: Allocation) -> bool:
    return allocation.generation < workload.generation


def _follow(workload: Workload, allocation: Allocation) -> Allocation:
    return replace(
        allocation,
        revision=workload.revision,
        generation=workload.generation,
        desired=workload.desired,
        purge=workload.purge,
        restart_nonce=workload.restart_nonce,
        changed_at=workload.changed_at,
    )


def _remove(
    workload: Workload, present: list[Allocation], reports: Mapping[HostId, Report]
) -> Plan:
    gone = tuple(each.host for each in present if _left(each, reports.get(each.host)))
    left = [each for each in present if each.host not in gone]
    stale = tuple(_follow(workload, each) for each in left if _behind(workload, each))
    forget = not left
    because = (
        "nothing of it is left on its host" if gone else "it is to be removed" if stale else ""
    )
    return Plan(put=stale, drop=gone, forget=forget, because=because)


def _left(allocation: Allocation, report: Report | None) -> bool:
    """Whether its host has confirmed that not even its data is there."""
    return (
        report is not None
        and report.generation >= allocation.generation
        and report.phase is Phase.GONE
        and not report.data_kept
    )


def _place(workload: Workload, manifest: Manifest, hosts: list[Candidate]) -> Plan:
    asked = workload.assigned or manifest.placement.host
    if asked is not None and all(host.id != asked for host in hosts):
        return Plan(because=f"no host is called {asked}; it is placed once one joins")
    fitting = [host for host in hosts if asked in {None, host.id}]
    heard = [host for host in fitting if not host.silent] if asked is None else fitting
    if not heard:
        return Plan(because="no host was heard of; it is placed once one is")
    best = min(heard, key=lambda host: (host.allocations, host.id))
    allocation = Allocation(
        workload=workload.name,
        host=best.id,
        revision=workload.revision,
        generation=workload.generation,
        desired=workload.desired,
        restart_nonce=workload.restart_nonce,
        changed_at=workload.changed_at,
    )
    why = (
        "its manifest asks for it"
        if asked
        else f"it has the fewest workloads ({best.allocations})"
    )
    return Plan(put=(allocation,), because=f"placed on {best.id}: {why}")
