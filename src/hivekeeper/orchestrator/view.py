"""What users and gateways are shown: derived from what is stored and what was heard, on each look.

Only reads, and never waits: every answer is of one moment. Stores nothing, remembers nothing.
"""

from collections.abc import Iterator, Mapping

from hivekeeper.core import lifecycle, placement
from hivekeeper.core.lifecycle import Facts
from hivekeeper.core.placement import Candidate
from hivekeeper.model.allocation import Actual, Allocation, Desired, Host, Status, Workload
from hivekeeper.model.errors import NotFoundError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.manifest import Kind
from hivekeeper.orchestrator.fleet import Fleet
from hivekeeper.orchestrator.hearing import Hearing
from hivekeeper.wire.api import EventRow, HostRow, HostState, WorkloadDetail
from hivekeeper.wire.messages import Route, RoutesReply


class View:
    """Looks at the fleet."""

    def __init__(self, fleet: Fleet, hearing: Hearing) -> None:
        self._fleet, self._hearing = fleet, hearing

    def workloads(self) -> list[Workload]:
        """Return all workloads, by name."""
        kept = self._fleet.workloads.kept
        return [kept[name].value for name in sorted(kept)]

    def workload(self, name: WorkloadName) -> tuple[WorkloadDetail, Sequence]:
        """Return all of one workload, and which commit wrote it.

        Raises:
            NotFoundError: There is none of that name.
        """
        kept = self._fleet.workloads.kept.get(name)
        if kept is None:
            raise NotFoundError(f"cannot find workload {name}", hint="`hive status --all`")
        detail = WorkloadDetail(
            workload=kept.value,
            manifest=self._fleet.manifest(kept.value),
            allocations=self.rows(name, everything=True),
        )
        return detail, kept.sequence

    def rows(self, name: WorkloadName | None = None, *, everything: bool = False) -> list[Status]:
        """Return the status of every allocation, by workload and host.

        Args:
            name: Of this workload only.
            everything: Also what was removed, and is known still because its data is kept.
        """
        if name is None:
            workloads = self.workloads()
        else:
            found = self._fleet.workloads.get(name)
            workloads = [] if found is None else [found]
        hosts = self.candidates()
        rows = (row for workload in workloads for row in self._rows_of(workload, hosts))
        return [row for row in rows if everything or row.actual is not Actual.UNINSTALLED]

    def _rows_of(self, workload: Workload, hosts: Mapping[HostId, Candidate]) -> Iterator[Status]:
        placed = self._fleet.allocations_of(workload.name)
        for kept in placed:
            facts = self._hearing.facts(kept, self._fleet.report(kept.value))
            yield lifecycle.status(workload, facts)
        if not placed:
            plan = placement.plan(workload, self._fleet.manifest(workload), [], {}, hosts)
            reason = "it is being placed" if plan.put else plan.because
            yield lifecycle.status(workload, Facts(allocation=None), reason=reason)

    def candidates(self) -> dict[HostId, Candidate]:
        """Return the hosts that workloads may be placed on."""
        fleet, hearing = self._fleet, self._hearing
        return {
            host: Candidate(
                id=host, allocations=fleet.count_on(host), silent=hearing.is_silent(host)
            )
            for host in fleet.present_hosts()
        }

    def place(self, name: WorkloadName) -> Allocation:
        """Return where a workload is.

        Raises:
            NotFoundError: Nowhere, or it does not exist.
        """
        if self._fleet.workloads.get(name) is None:
            raise NotFoundError(f"cannot find workload {name}", hint="`hive status --all`")
        placed = self._fleet.allocations_of(name)
        if not placed:
            raise NotFoundError(f"cannot find {name} on any host: it is not placed yet")
        return placed[0].value

    def hosts(self) -> list[HostRow]:
        """Return all hosts that belong to the fleet, by name."""
        present = self._fleet.present_hosts()
        return [self._host(present[id_]) for id_ in sorted(present)]

    def _host(self, host: Host) -> HostRow:
        hearing, id_ = self._hearing, host.id
        return HostRow(
            id=id_,
            state=HostState.SILENT if hearing.is_silent(id_) else HostState.READY,
            joined_at=host.joined_at,
            heard_at=hearing.heard_at(id_),
            allocations=self._fleet.count_on(id_),
            version=self._fleet.documents.sequence(id_),
            fetched=hearing.fetched(id_),
        )

    def events(
        self, name: WorkloadName | None = None, *, after: Sequence, last: int | None = None
    ) -> list[EventRow]:
        """Return what happened, in order.

        Args:
            name: To this workload only.
            after: After this commit.
            last: At most so many, the newest.
        """
        found: list[EventRow] = []
        for kept in reversed(self._fleet.events.kept.values()):
            if kept.sequence <= after or len(found) == last:
                break
            if name in {None, kept.value.workload}:
                event = kept.value
                found.append(
                    EventRow(
                        sequence=kept.sequence,
                        at=event.at,
                        workload=event.workload,
                        host=event.host,
                        what=event.what,
                        because=event.because,
                    )
                )
        return found[::-1]

    def routes(self) -> RoutesReply:
        """Return which hApp is to be called where, and which functions of it."""
        allocations = (kept.value for kept in self._fleet.allocations.kept.values())
        routes = [
            self._route(each)
            for each in allocations
            if each.desired is not Desired.UNINSTALLED
            and self._fleet.manifest(each).kind is Kind.HOLOCHAIN
        ]
        return RoutesReply(
            routes=tuple(sorted(routes, key=lambda route: (route.app_id, route.host)))
        )

    def _route(self, allocation: Allocation) -> Route:
        manifest = self._fleet.manifest(allocation)
        return Route(
            app_id=manifest.app_id,
            workload=allocation.workload,
            host=allocation.host,
            functions=manifest.gateway.functions,
        )
