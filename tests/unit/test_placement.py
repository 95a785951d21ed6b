"""Where workloads go: to one host each, where their data is, and nowhere once none is left."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from hivekeeper.core import intent, placement
from hivekeeper.core.placement import Candidate, Plan
from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Desired, Phase, Report, Workload
from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import Generation, HostId, Revision, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest, Placement, Process

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOTES: Final = WorkloadName("notes")
HOME, ATTIC, BARN = HostId("home"), HostId("attic"), HostId("barn")
MANIFEST: Final = Manifest(name=NOTES, kind=Kind.PROCESS, process=Process(command=("sleep", "1")))


def workload(desired: Desired = Desired.RUNNING, **more: object) -> Workload:
    return structs.replace(
        Workload(
            name=NOTES,
            kind=Kind.PROCESS,
            revision=Revision(3),
            generation=Generation(5),
            desired=desired,
            created_at=T0,
            changed_at=T0,
        ),
        **more,
    )


def on(host: HostId, generation: int = 5, desired: Desired = Desired.RUNNING) -> Allocation:
    return Allocation(
        workload=NOTES,
        host=host,
        revision=Revision(3),
        generation=Generation(generation),
        desired=desired,
        changed_at=T0,
    )


def gone(generation: int = 5, *, data_kept: bool = False, phase: Phase = Phase.GONE) -> Report:
    return Report(
        workload=NOTES,
        generation=Generation(generation),
        revision=Revision(3),
        phase=phase,
        since=T0,
        data_kept=data_kept,
    )


def hosts(*found: Candidate) -> dict[HostId, Candidate]:
    return {each.id: each for each in found}


def host(id_: HostId, allocations: int = 0, *, silent: bool = False) -> Candidate:
    return Candidate(id=id_, allocations=allocations, silent=silent)


def plan(
    asked: Workload,
    *placed: Allocation,
    reports: dict[HostId, Report] | None = None,
    there: dict[HostId, Candidate] | None = None,
    manifest: Manifest = MANIFEST,
) -> Plan:
    there = hosts(host(HOME)) if there is None else there
    return placement.plan(asked, manifest, placed, reports or {}, there)


def test_it_goes_to_the_host_with_the_fewest_and_among_equals_to_the_first_by_name() -> None:
    found = plan(workload(), there=hosts(host(ATTIC, 2), host(HOME, 1), host(BARN, 1)))
    assert found == Plan(
        put=(on(BARN),), because="placed on barn: it has the fewest workloads (1)"
    )


def test_it_does_not_go_to_a_host_that_is_silent() -> None:
    found = plan(workload(), there=hosts(host(HOME, 2), host(ATTIC, silent=True)))
    assert found.put == (on(HOME),)


def test_it_goes_where_its_manifest_says_even_if_that_host_is_silent_now() -> None:
    there = hosts(host(HOME), host(ATTIC, 9, silent=True))
    manifest = structs.replace(MANIFEST, placement=Placement(host=ATTIC))
    found = plan(workload(), there=there, manifest=manifest)
    assert (found.put, found.because) == (
        (on(ATTIC),),
        "placed on attic: its manifest asks for it",
    )


def test_a_users_assignment_goes_before_the_manifest() -> None:
    manifest = structs.replace(MANIFEST, placement=Placement(host=ATTIC))
    there = hosts(host(HOME), host(ATTIC))
    found = plan(workload(assigned=HOME), there=there, manifest=manifest)
    assert (found.put, found.because) == ((on(HOME),), "placed on home: a user assigned it")


def test_a_held_workload_stays_nowhere_and_it_is_said_how_that_ends() -> None:
    assert plan(workload(held=True)) == Plan(
        because="it is held: `hive assign notes HOST` places it"
    )


def test_without_a_host_that_fits_it_stays_nowhere_with_the_reason() -> None:
    silent = hosts(host(HOME, silent=True))
    full = hosts(host(HOME, limits.ALLOCATIONS_PER_HOST))
    assert plan(workload(), there={}).because == "no host was heard of; it is placed once one is"
    assert plan(workload(), there=silent).because.startswith("no host was heard of")
    assert plan(workload(assigned=ATTIC)).because.startswith("no host is called attic;")
    assert plan(workload(), there=full).because.startswith("every host is full;")
    assert plan(workload(assigned=HOME), there=full).because.startswith("home is full;")
    for there in ({}, silent, full):
        assert plan(workload(), there=there).put == ()


def test_once_placed_it_stays_even_if_another_host_is_emptier() -> None:
    there = hosts(host(HOME, 9, silent=True), host(ATTIC, 0))
    assert plan(workload(), on(HOME), there=there) == Plan()


def test_its_host_hears_of_every_change_and_then_of_nothing_more() -> None:
    asked = workload(Desired.STOPPED, generation=6, revision=4, restart_nonce=2, changed_at=T0)
    found = plan(asked, on(HOME))
    expected = structs.replace(
        on(HOME, 6, Desired.STOPPED), revision=Revision(4), restart_nonce=2, changed_at=T0
    )
    assert (found.put, found.drop) == ((expected,), ())
    assert plan(asked, expected) == Plan()


def test_what_is_deleted_stays_until_its_host_has_confirmed_that_nothing_is_left() -> None:
    asked = workload(Desired.UNINSTALLED, purge=True, generation=6)
    told = structs.replace(on(HOME, 6, Desired.UNINSTALLED), purge=True)
    assert plan(asked, on(HOME)).put == (told,)
    unconfirmed = [
        gone(5),
        gone(6, data_kept=True),
        gone(6, phase=Phase.REMOVING),
    ]
    assert plan(asked, told) == Plan()
    for report in unconfirmed:
        assert plan(asked, told, reports={HOME: report}) == Plan()
    assert plan(asked, told, reports={HOME: gone(6)}) == Plan(
        drop=(HOME,), forget=True, because="nothing of it is left"
    )


def test_what_was_nowhere_is_forgotten_at_once_when_it_is_deleted() -> None:
    assert plan(workload(Desired.UNINSTALLED)).forget


def test_applied_again_it_goes_back_to_where_its_data_was_kept() -> None:
    there = hosts(host(HOME, 9), host(ATTIC, 0))
    kept = on(HOME, 5, Desired.UNINSTALLED)
    found = plan(
        workload(generation=6), kept, reports={HOME: gone(5, data_kept=True)}, there=there
    )
    assert found.put == (on(HOME, 6),)


def test_what_was_on_a_host_that_left_is_lost_and_begins_anew_elsewhere() -> None:
    found = plan(workload(), on(ATTIC))
    assert (found.put, found.drop) == ((on(HOME),), (ATTIC,))


def test_deleted_and_on_a_host_that_left_nothing_holds_it() -> None:
    found = plan(workload(Desired.UNINSTALLED), on(ATTIC, 5, Desired.UNINSTALLED))
    assert (found.drop, found.forget) == ((ATTIC,), True)


@dataclass
class World:
    """One workload, some hosts, and what is stored of both."""

    workload: Workload | None = None
    allocations: dict[HostId, Allocation] = field(default_factory=dict)
    reports: dict[HostId, Report] = field(default_factory=dict)
    hosts: dict[HostId, Candidate] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Plan, as a controller does."""
        assert self.workload is not None
        there = {id_: replace(host) for id_, host in self.hosts.items()}
        return placement.plan(
            self.workload, MANIFEST, self.allocations.values(), self.reports, there
        )

    def store(self, plan: Plan) -> None:
        """Do what the plan says, as one commit does."""
        for each in plan.drop:
            del self.allocations[each]
            self.reports.pop(each, None)
        for put in plan.put:
            before = self.allocations.get(put.host)
            assert before is None or before.generation < put.generation, "generations only grow"
            self.allocations[put.host] = put
        if plan.forget:
            assert not self.allocations, "what is forgotten is nowhere"
            self.workload = None


class EveryHistory(RuleBasedStateMachine):
    """Users, hosts and the planner in any order: never two copies, and it always comes to rest."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.first = Generation(1)

    @rule(id_=st.sampled_from([HOME, ATTIC, BARN]), silent=st.booleans())
    def join(self, id_: HostId, silent: bool) -> None:  # noqa: FBT001 -- hypothesis names it
        self.world.hosts[id_] = host(id_, silent=silent)

    @rule(id_=st.sampled_from([HOME, ATTIC, BARN]))
    def leave(self, id_: HostId) -> None:
        self.world.hosts.pop(id_, None)

    @rule(hold=st.booleans())
    def apply(self, hold: bool) -> None:  # noqa: FBT001
        before = self.world.workload
        placed = list(self.world.allocations.values())
        applied = intent.apply(
            MANIFEST, before, MANIFEST, placed, hold=hold, first=self.first, now=T0
        )
        self.world.workload = applied.workload
        self.first = Generation(max(self.first, applied.workload.generation) + 1)

    @precondition(lambda self: self.world.workload is not None)
    @rule(word=st.sampled_from(["delete", "purge", "run", "stop", "restart", "assign"]))
    def ask(self, word: str) -> None:
        before, placed = self.world.workload, list(self.world.allocations.values())
        assert before is not None
        try:
            match word:
                case "delete" | "purge":
                    after = intent.delete(before, purge=word == "purge", now=T0)
                case "assign":
                    after = intent.assign(before, placed, HOME, now=T0)
                case _:
                    after = getattr(intent, word)(before, now=T0)
        except UserError:
            return
        self.world.workload = after
        self.first = Generation(after.generation + 1)

    @precondition(lambda self: self.world.allocations)
    @rule(data=st.data(), stale=st.booleans())
    def report(self, data: st.DataObject, stale: bool) -> None:  # noqa: FBT001
        id_ = data.draw(st.sampled_from(sorted(self.world.allocations)))
        told = self.world.allocations[id_]
        removed = told.desired is Desired.UNINSTALLED
        said = gone(
            told.generation - stale,
            phase=Phase.GONE if removed else Phase.READY,
            data_kept=removed and not told.purge and data.draw(st.booleans()),
        )
        self.world.reports[id_] = said

    @precondition(lambda self: self.world.workload is not None)
    @rule()
    def place(self) -> None:
        self.world.store(self.world.plan())
        if self.world.workload is not None:
            then = self.world.plan()
            assert (then.put, then.drop, then.forget) == ((), (), False), "once is enough"

    @invariant()
    def there_are_never_two_copies(self) -> None:
        assert len(self.world.allocations) <= 1

    def teardown(self) -> None:
        """However it went: with a host that answers, a purge leaves nothing anywhere."""
        world = self.world
        if world.workload is None:
            return
        world.hosts |= {id_: host(id_) for id_ in world.allocations}
        world.workload = intent.delete(world.workload, purge=True, now=T0)
        world.store(world.plan())
        world.reports = {id_: gone(told.generation) for id_, told in world.allocations.items()}
        if world.workload is not None:
            world.store(world.plan())
        assert world.workload is None
        assert not world.allocations


TestEveryHistory = EveryHistory.TestCase
TestEveryHistory.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
