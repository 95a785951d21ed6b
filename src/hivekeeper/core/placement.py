"""Which host runs what: what is stored of a workload, to what is to be stored of its allocations.

Pure, and of one workload at a time. Knows no resources, labels or moves yet: a workload stays
where its data is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from msgspec import structs

from hivekeeper.model import limits
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
    """Allocations whose host has left, or has confirmed that nothing is left: the link goes."""
    forget: bool = False
    """Nothing is left of the workload anywhere: its own record goes too."""
    because: str = ""


def plan(
    workload: Workload,
    manifest: Manifest,
    allocations: Iterable[Allocation],
    reports: Mapping[HostId, Report],
    hosts: Mapping[HostId, Candidate],
) -> Plan:
    """Return what to change so that the allocations are as asked for; empty once they are.

    Args:
        workload: As stored.
        manifest: Of its revision.
        allocations: All of it.
        reports: What hosts last said of them.
        hosts: All that were let in and have not left: what was on one that left is lost.
    """
    present = list(allocations)
    lost = tuple(each.host for each in present if each.host not in hosts)
    here = [each for each in present if each.host in hosts]
    if workload.desired is Desired.UNINSTALLED:
        return _remove(workload, here, reports, lost)
    if here:
        stale = tuple(_follow(workload, each) for each in here if _behind(workload, each))
        return Plan(
            put=stale, drop=lost, because="its host is to hear of the change" if stale else ""
        )
    if workload.held:
        because = f"it is held: `hive assign {workload.name} HOST` places it"
        return Plan(drop=lost, because=because)
    return replace(_place(workload, manifest, hosts), drop=lost)


def _behind(workload: Workload, allocation: Allocation) -> bool:
    return allocation.generation < workload.generation


def _follow(workload: Workload, allocation: Allocation) -> Allocation:
    return structs.replace(
        allocation,
        revision=workload.revision,
        generation=workload.generation,
        desired=workload.desired,
        purge=workload.purge,
        restart_nonce=workload.restart_nonce,
        changed_at=workload.changed_at,
    )


def _remove(
    workload: Workload,
    here: list[Allocation],
    reports: Mapping[HostId, Report],
    lost: tuple[HostId, ...],
) -> Plan:
    gone = tuple(each.host for each in here if _left(each, reports.get(each.host)))
    left = [each for each in here if each.host not in gone]
    stale = tuple(_follow(workload, each) for each in left if _behind(workload, each))
    forget = not left
    because = "nothing of it is left" if forget else "it is to be removed" if stale else ""
    return Plan(put=stale, drop=gone + lost, forget=forget, because=because)


def _left(allocation: Allocation, report: Report | None) -> bool:
    """Whether its host has confirmed that not even its data is there."""
    return (
        report is not None
        and report.generation >= allocation.generation
        and report.phase is Phase.GONE
        and not report.data_kept
    )


def _place(workload: Workload, manifest: Manifest, hosts: Mapping[HostId, Candidate]) -> Plan:
    asked = workload.assigned or manifest.placement.host
    if asked is not None and asked not in hosts:
        return Plan(because=f"no host is called {asked}; it is placed once one joins")
    fitting = [host for host in hosts.values() if asked == host.id or not (asked or host.silent)]
    if not fitting:
        return Plan(because="no host was heard of; it is placed once one is")
    best = min(fitting, key=lambda host: (host.allocations, host.id))
    if best.allocations >= limits.ALLOCATIONS_PER_HOST:
        return Plan(because=f"{asked or 'every host'} is full; it is placed once there is room")
    if asked is None:
        why = f"it has the fewest workloads ({best.allocations})"
    else:
        why = "a user assigned it" if workload.assigned else "its manifest asks for it"
    return Plan(put=(_new(workload, best.id),), because=f"placed on {best.id}: {why}")


def _new(workload: Workload, host: HostId) -> Allocation:
    return Allocation(
        workload=workload.name,
        host=host,
        revision=workload.revision,
        generation=workload.generation,
        desired=workload.desired,
        restart_nonce=workload.restart_nonce,
        changed_at=workload.changed_at,
    )
