"""What a user's word does to a workload: one function a verb, from stored to to-be-stored.

Pure. Refuses what contradicts what is there; does not choose hosts (core.placement).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from hivekeeper.model.allocation import Allocation, Desired, Workload
from hivekeeper.model.errors import ConflictError, UserError
from hivekeeper.model.ids import Generation, HostId, Revision
from hivekeeper.model.manifest import Asked, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying a manifest comes to."""

    workload: Workload
    new_revision: bool
    """The manifest is to be stored under the workload's revision."""
    changed: bool
    """Anything is to be stored at all."""


def apply(
    manifest: Manifest,
    workload: Workload | None,
    newest: Manifest | None,
    allocations: list[Allocation],
    *,
    hold: bool,
    first: Generation,
    now: datetime,
) -> Applied:
    """Return what applying `manifest` makes of `workload`; the same again changes nothing.

    Args:
        manifest: As decoded; its name is the workload's.
        workload: What is stored under that name, if anything.
        newest: The manifest of the workload's revision.
        allocations: Where it is, removed ones included.
        hold: Register only, if it is new.
        first: What a new workload's generation begins with; greater than any that a workload of
            this name ever had, so that a host that remembers an earlier life obeys the new one.
        now: Becomes the time of the change.

    Raises:
        ConflictError: It is of another kind, or is to move away from its data.
    """
    desired = Desired.STOPPED if manifest.desired is Asked.STOPPED else Desired.RUNNING
    if workload is None:
        return Applied(
            workload=Workload(
                name=manifest.name,
                kind=manifest.kind,
                revision=Revision(1),
                generation=first,
                desired=desired,
                held=hold,
                created_at=now,
                changed_at=now,
            ),
            new_revision=True,
            changed=True,
        )
    if workload.kind is not manifest.kind:
        raise ConflictError(
            f"cannot apply {manifest.name}: it is of kind {workload.kind}, not {manifest.kind}",
            hint=f"choose another name, or `hive delete {manifest.name} --purge` first",
        )
    _stay(manifest, allocations)
    same = manifest == newest
    if same and workload.desired is desired:
        return Applied(workload=workload, new_revision=False, changed=False)
    revision = workload.revision if same else Revision(workload.revision + 1)
    changed = replace(_next(workload, now), revision=revision, desired=desired, purge=False)
    return Applied(workload=changed, new_revision=not same, changed=True)


def differences(before: Manifest | None, after: Manifest) -> tuple[str, ...]:
    """Return the paths of the fields in which two manifests differ, in order; no values."""
    old, new = msgspec.to_builtins(before) or {}, msgspec.to_builtins(after)
    return tuple(sorted(_differ("", old, new)))


def _differ(path: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield path
        return
    for name in before.keys() | after.keys():
        inner = f"{path}.{name}" if path else str(name)
        yield from _differ(inner, before.get(name), after.get(name))


def _stay(manifest: Manifest, allocations: list[Allocation]) -> None:
    """A workload does not leave its data and keys behind without a word (design §4.4)."""
    host = manifest.placement.host
    for allocation in allocations:
        if host is not None and allocation.host != host:
            raise ConflictError(
                f"cannot apply {manifest.name}: its data is on host {allocation.host}, not {host}",
                hint=f"leave placement.host out, or `hive delete {manifest.name} --purge` first",
                field="placement.host",
            )


def delete(workload: Workload, *, purge: bool, now: datetime) -> Workload:
    """Return `workload` on its way out; with `purge` its data goes too.

    Asking twice changes nothing.
    """
    gone = workload.desired is Desired.UNINSTALLED
    if gone and workload.purge >= purge:
        return workload
    return replace(_next(workload, now), desired=Desired.UNINSTALLED, purge=purge)


def run(workload: Workload, *, now: datetime) -> Workload:
    """Return `workload` wanted running.

    Asking for what is so asks again: given up is begun anew.
    """
    return replace(_next(_present(workload, "start"), now), desired=Desired.RUNNING)


def stop(workload: Workload, *, now: datetime) -> Workload:
    """Return `workload` wanted stopped; asking twice changes nothing."""
    if _present(workload, "stop").desired is Desired.STOPPED:
        return workload
    return replace(_next(workload, now), desired=Desired.STOPPED)


def restart(workload: Workload, *, now: datetime) -> Workload:
    """Return `workload` to be stopped and started once."""
    if _present(workload, "restart").desired is Desired.STOPPED:
        raise ConflictError(
            f"cannot restart {workload.name}: it is to be stopped",
            hint=f"`hive start {workload.name}`",
        )
    return replace(_next(workload, now), restart_nonce=workload.restart_nonce + 1)


def assign(
    workload: Workload, allocations: list[Allocation], host: HostId, *, now: datetime
) -> Workload:
    """Return `workload` put on `host`; where it is already, nothing changes.

    Raises:
        ConflictError: It is on another host, with its data.
    """
    _present(workload, "assign")
    for allocation in allocations:
        if allocation.host != host:
            raise ConflictError(
                f"cannot assign {workload.name} to {host}: its data is on host {allocation.host}",
                hint=f"`hive delete {workload.name} --purge` first, then apply it anew",
            )
    if workload.assigned == host:
        return workload
    return replace(_next(workload, now), assigned=host, held=False)


def _present(workload: Workload, verb: str) -> Workload:
    if workload.desired is Desired.UNINSTALLED:
        raise UserError(
            f"cannot {verb} {workload.name}: it was deleted", hint="apply its manifest again"
        )
    return workload


def _next(workload: Workload, now: datetime) -> Workload:
    return replace(workload, generation=Generation(workload.generation + 1), changed_at=now)
