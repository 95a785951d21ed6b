"""What users may ask of workloads: decided by `core.intent`, stored in one commit, then answered.

Durable before the answer: workload, manifest, event, audit entry and what is remembered of the
request, all or nothing. Chooses no host and tells none: that is for the controllers.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from hivekeeper.core import intent
from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Workload
from hivekeeper.model.errors import ConflictError, NotFoundError, UserError
from hivekeeper.model.ids import Generation, HostId, Sequence, WorkloadName
from hivekeeper.model.manifest import Manifest
from hivekeeper.model.record import ABSENT
from hivekeeper.orchestrator import records
from hivekeeper.orchestrator.commands import Command
from hivekeeper.orchestrator.fleet import Fleet, MovedError, Write
from hivekeeper.orchestrator.records import Remembered
from hivekeeper.orchestrator.teller import Teller
from hivekeeper.ports import Blobs, Clock
from hivekeeper.wire import manifests
from hivekeeper.wire.api import BlobStored, WorkloadAnswer

_ATTEMPTS: Final = 3
"""To decide anew, when somebody else wrote the store meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An answer, and which commit wrote the workload that it is about."""

    answer: WorkloadAnswer
    sequence: Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What a user's word comes to, given what is stored; nothing to write: it is so already."""

    action: str
    answer: WorkloadAnswer
    writes: tuple[Write, ...] = ()


Verb = Literal["start", "stop", "restart"]
_VERBS: Final = {
    "start": (intent.run, "started"),
    "stop": (intent.stop, "stopped"),
    "restart": (intent.restart, "restarted"),
}
"""What each does, and the word for the event."""

Decide = Callable[[], _Decision]


class Service:
    """A user's verbs.

    Args:
        look: Told which workloads have changed.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        blobs: Blobs,
        clock: Clock,
        teller: Teller,
        look: Callable[[set[WorkloadName]], None],
    ) -> None:
        self._fleet, self._blobs, self._clock, self._teller = fleet, blobs, clock, teller
        self._look = look

    async def apply(self, command: Command, manifest: Manifest, *, hold: bool) -> Outcome:
        """Have `manifest` kept on; the same again changes nothing.

        Raises:
            UserError: Its hApp is no blob, or one that is not there.
            ConflictError: It contradicts what is there.
        """
        _check_size(manifest)
        await self._check_happ(manifest)
        return await self._do(command, manifest.name, lambda: self._apply(manifest, hold=hold))

    def preview(self, manifest: Manifest, *, hold: bool) -> WorkloadAnswer:
        """Return what `apply` would answer, without anything being stored."""
        _check_size(manifest)
        return self._apply(manifest, hold=hold).answer

    async def delete(self, command: Command, name: WorkloadName, *, purge: bool) -> Outcome:
        """Have a workload removed; its data stays unless `purge`."""
        return await self._do(command, name, lambda: self._delete(name, purge=purge))

    async def run(self, command: Command, name: WorkloadName, verb: Verb) -> Outcome:
        """Have a workload started, stopped, or stopped and started once."""
        return await self._do(command, name, lambda: self._run(name, verb))

    async def assign(self, command: Command, name: WorkloadName, host: HostId) -> Outcome:
        """Put a workload on `host`."""
        return await self._do(command, name, lambda: self._assign(name, host))

    async def keep_blob(
        self, command: Command, sha256: str, pieces: AsyncIterator[bytes]
    ) -> BlobStored:
        """Store a blob, for manifests to name it; raises as `Blobs.write`."""
        size = await self._blobs.write(sha256, pieces)
        async with self._fleet.turn():
            audit = command.audit("upload", f"blob:{sha256}", self._clock.now())
            await self._fleet.commit([], audit=audit)
        return BlobStored(sha256=sha256, size=size)

    async def _do(self, command: Command, name: WorkloadName, decide: Decide) -> Outcome:
        """Decide and store; should somebody else have written the store, look and decide anew."""
        attempts = 1
        while True:
            try:
                outcome = await self._once(command, name, decide)
            except MovedError:
                if attempts == _ATTEMPTS:
                    raise
                attempts += 1
            else:
                self._look({name})
                return outcome

    async def _once(self, command: Command, name: WorkloadName, decide: Decide) -> Outcome:
        async with self._fleet.turn():
            earlier = self._earlier(command)
            if earlier is not None:
                return earlier
            command.check_match(name, self._fleet.workloads.sequence(name))
            return await self._store(command, name, decide())

    def _earlier(self, command: Command) -> Outcome | None:
        """Return what was answered to this very request before, if it was."""
        key = command.idempotency_key
        kept = None if key is None else self._fleet.remembered.kept.get(_remembered(command))
        if kept is None or kept.value.until <= self._clock.now():
            return None
        if kept.value.request != command.digest:
            raise UserError(
                f"cannot do this: its idempotency key {key!r} was used for another request",
                hint="use a new key for a new request",
                field="Idempotency-Key",
            )
        sequence = kept.sequence if kept.value.sequence == ABSENT else kept.value.sequence
        return Outcome(answer=kept.value.answer, sequence=sequence)

    async def _store(self, command: Command, name: WorkloadName, decision: _Decision) -> Outcome:
        """Commit; a word that changes nothing is no write, and is not audited."""
        fleet, now = self._fleet, self._clock.now()
        before = fleet.workloads.sequence(name)
        writes = list(decision.writes)
        if command.idempotency_key is not None:
            remembered = Remembered(
                request=command.digest,
                answer=decision.answer,
                sequence=ABSENT if decision.writes else before,
                until=now + timedelta(seconds=limits.IDEMPOTENCY_KEPT_S),
            )
            writes.append(fleet.remembered.put(_remembered(command), remembered))
        if not writes:
            return Outcome(answer=decision.answer, sequence=before)
        audit = command.audit(decision.action, name, now) if decision.writes else None
        sequence = await fleet.commit(writes, audit=audit)
        return Outcome(answer=decision.answer, sequence=sequence if decision.writes else before)

    def _apply(self, manifest: Manifest, *, hold: bool) -> _Decision:
        fleet, name = self._fleet, manifest.name
        before = fleet.workloads.get(name)
        if before is None and len(fleet.workloads.kept) >= limits.WORKLOADS:
            raise ConflictError(f"cannot apply {name}: there are {limits.WORKLOADS} workloads")
        newest = None if before is None else fleet.manifest(before)
        applied = intent.apply(
            manifest,
            before,
            newest,
            self._allocations(name),
            hold=hold,
            first=Generation(fleet.sequence + 1),
            now=self._clock.now(),
        )
        changes = intent.differences(newest, manifest)
        after = applied.workload
        answer = WorkloadAnswer(workload=after, changed=applied.changed, changes=changes)
        action = "hold" if hold else "apply"
        if not applied.changed:
            return _Decision(action=action, answer=answer)
        because = f"revision {after.revision} is to be {after.desired}"
        writes = [self._put(after), self._teller.event(name, "applied", because)]
        if applied.new_revision:
            writes += self._revise(after, manifest)
        return _Decision(action=action, answer=answer, writes=tuple(writes))

    def _revise(self, workload: Workload, manifest: Manifest) -> list[Write]:
        """Keep a new revision's manifest, and let go of those that nobody looks back at."""
        table, name = self._fleet.manifests, workload.name
        told = {allocation.revision for allocation in self._allocations(name)}
        newest = table.put(records.revision(name, workload.revision), manifest)
        old = [
            table.drop(records.revision(name, each))
            for each in self._fleet.revisions(name)
            if each <= workload.revision - limits.REVISIONS_KEPT and each not in told
        ]
        return [newest, *old]

    def _delete(self, name: WorkloadName, *, purge: bool) -> _Decision:
        before = self._known(name)
        after = intent.delete(before, purge=purge, now=self._clock.now())
        because = "it is to be removed" + (" with its data" if purge else "; its data is kept")
        return self._changed("purge" if purge else "delete", before, after, "deleted", because)

    def _run(self, name: WorkloadName, verb: Verb) -> _Decision:
        decide, what = _VERBS[verb]
        before = self._known(name)
        after = decide(before, now=self._clock.now())
        return self._changed(verb, before, after, what, "a user asked for it")

    def _assign(self, name: WorkloadName, host: HostId) -> _Decision:
        before = self._known(name)
        if host not in self._fleet.present_hosts():
            hint = "`hive host list` shows which there are"
            raise NotFoundError(
                f"cannot assign {name} to {host}: no host has that name", hint=hint
            )
        after = intent.assign(before, self._allocations(name), host, now=self._clock.now())
        return self._changed("assign", before, after, "assigned", f"a user put it on {host}")

    def _changed(
        self, action: str, before: Workload, after: Workload, what: str, because: str
    ) -> _Decision:
        answer = WorkloadAnswer(workload=after, changed=after != before)
        if after == before:
            return _Decision(action=action, answer=answer)
        event = self._teller.event(after.name, what, because)
        return _Decision(action=action, answer=answer, writes=(self._put(after), event))

    def _put(self, workload: Workload) -> Write:
        return self._fleet.workloads.put(workload.name, workload)

    def _known(self, name: WorkloadName) -> Workload:
        workload = self._fleet.workloads.get(name)
        if workload is None:
            raise NotFoundError(f"cannot find workload {name}", hint="`hive status --all`")
        return workload

    def _allocations(self, name: WorkloadName) -> list[Allocation]:
        return [kept.value for kept in self._fleet.allocations_of(name)]

    async def _check_happ(self, manifest: Manifest) -> None:
        """A stored manifest is complete: what it names can be fetched by every host."""
        happ = None if manifest.holochain is None else manifest.holochain.happ
        if happ is None:
            return
        scheme, _, sha256 = happ.partition(":")
        if scheme != "blob":
            raise UserError(
                f"cannot apply {manifest.name}: hosts cannot fetch {happ}",
                hint="`hive apply` sends the file along; here, PUT it to /v1/blobs/SHA256, "
                "and name it blob:SHA256",
                field="holochain.happ",
            )
        if await self._blobs.size(sha256) is None:
            raise UserError(
                f"cannot apply {manifest.name}: its hApp {happ} is not there",
                hint=f"PUT it to /v1/blobs/{sha256} first",
                field="holochain.happ",
            )


def _check_size(manifest: Manifest) -> None:
    """One short in YAML can be long when it is written out."""
    size = len(manifests.encode(manifest))
    if size > limits.MANIFEST_BYTES:
        raise UserError(
            f"cannot apply {manifest.name}: {size} bytes are more than {limits.MANIFEST_BYTES}"
        )


def _remembered(command: Command) -> str:
    assert command.idempotency_key is not None, "only keys are remembered"
    return records.secret_key(command.idempotency_key)
