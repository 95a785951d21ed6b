"""The HTTP API: one method a path. Reads a request, has it done or looked up, answers.

Every answer is durable before it is given; every error is a problem document (`problems`).
Decides nothing, stores nothing.
"""

import asyncio
from functools import partial
from typing import Annotated

from litestar import Litestar, Response, delete, get, head, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ASGIApp

from hivekeeper.model import limits
from hivekeeper.model.allocation import Status, Workload
from hivekeeper.model.errors import NotFoundError, UserError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName, is_name
from hivekeeper.model.manifest import Manifest
from hivekeeper.model.record import AuditRecord
from hivekeeper.orchestrator import commands, logs, openapi, problems, requests
from hivekeeper.orchestrator.fleet import Fleet
from hivekeeper.orchestrator.membership import Membership
from hivekeeper.orchestrator.requests import AnyRequest
from hivekeeper.orchestrator.service import Outcome, Service, Verb
from hivekeeper.orchestrator.view import View
from hivekeeper.ports import Blobs, Bus, Store
from hivekeeper.wire import manifests
from hivekeeper.wire.api import (
    Assignment,
    BlobStored,
    EventRow,
    Health,
    HostRow,
    Invited,
    LogText,
    WorkloadAnswer,
    WorkloadDetail,
)
from hivekeeper.wire.messages import LogRequest

After = Annotated[int, QueryParameter(ge=0)]
Tail = Annotated[int, QueryParameter(ge=0, le=100_000)]
Back = Annotated[int, QueryParameter(ge=0, le=limits.LOG_RUNS)]


class Api:
    """The API's handlers."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        store: Store,
        service: Service,
        membership: Membership,
        view: View,
        blobs: Blobs,
        bus: Bus,
    ) -> None:
        self._fleet, self._store, self._service = fleet, store, service
        self._membership, self._view, self._blobs, self._bus = membership, view, blobs, bus

    def routes(self) -> list[HTTPRouteHandler]:
        """Return every path, and who answers there."""
        reads, writes = openapi.PROBLEM, openapi.WRITE_PROBLEM
        all_, one, blob = "/v1/workloads", "/v1/workloads/{name:str}", "/v1/blobs/{sha256:str}"
        manifest, assignment = openapi.ManifestOperation, openapi.AssignmentOperation
        verb = partial(post, responses=writes, status_code=200)
        return [
            get("/health", opt=requests.OPEN, security=[{}])(self.health),
            get(all_, responses=reads)(self.workloads),
            verb(all_, operation_class=manifest)(self.apply),
            get(one, responses=reads)(self.workload),
            delete(one, responses=writes, status_code=200)(self.delete),
            verb(f"{one}/start")(self.start),
            verb(f"{one}/stop")(self.stop),
            verb(f"{one}/restart")(self.restart),
            verb(f"{one}/assign", operation_class=assignment)(self.assign),
            get(f"{one}/logs", responses=reads)(self.logs),
            get("/v1/allocations", responses=reads)(self.allocations),
            get("/v1/hosts", responses=reads)(self.hosts),
            verb("/v1/hosts/{name:str}/invitation")(self.invite),
            delete("/v1/hosts/{name:str}", responses=writes, status_code=204)(self.remove_host),
            get("/v1/events", responses=reads)(self.events),
            get("/v1/audit", responses=reads)(self.audit),
            head(blob, responses=reads)(self.has_blob),
            put(
                blob,
                operation_class=openapi.BlobOperation,
                request_max_body_size=limits.BLOB_BYTES,
                responses=writes,
                status_code=201,
            )(self.keep_blob),
        ]

    async def health(self) -> Health:
        """Say that the orchestrator answers; needs no token."""
        return Health()

    async def workloads(self) -> list[Workload]:
        """List all workloads, by name."""
        return self._view.workloads()

    async def apply(
        self,
        request: AnyRequest,
        *,
        hold: FromQuery[bool] = False,
        dry_run: FromQuery[bool] = False,
    ) -> Response[WorkloadAnswer]:
        """Have the manifest in the body kept on.

        The same again changes nothing; a changed manifest is a new revision. With `hold` a new
        workload is only registered, with `dry_run` nothing is stored.
        """
        body = await requests.body(request, openapi.MANIFEST_TYPES)
        manifest = _one_manifest(body)
        if dry_run:
            return Response(self._service.preview(manifest, hold=hold))
        return _answer(
            await self._service.apply(requests.command(request, body), manifest, hold=hold)
        )

    async def workload(self, name: FromPath[str]) -> Response[WorkloadDetail]:
        """Show one workload; its ETag is for If-Match in writes."""
        detail, sequence = self._view.workload(WorkloadName(name))
        return Response(detail, headers={"ETag": commands.etag(sequence)})

    async def delete(
        self, request: AnyRequest, name: FromPath[str], *, purge: FromQuery[bool] = False
    ) -> Response[WorkloadAnswer]:
        """Have a workload removed; its data and keys stay, unless purged."""
        command = requests.command(request)
        return _answer(await self._service.delete(command, WorkloadName(name), purge=purge))

    async def start(self, request: AnyRequest, name: FromPath[str]) -> Response[WorkloadAnswer]:
        """Have a workload run; one that was given up is begun anew."""
        return await self._run(request, name, "start")

    async def stop(self, request: AnyRequest, name: FromPath[str]) -> Response[WorkloadAnswer]:
        """Have a workload stopped until it is started."""
        return await self._run(request, name, "stop")

    async def restart(self, request: AnyRequest, name: FromPath[str]) -> Response[WorkloadAnswer]:
        """Have a workload stopped and started once."""
        return await self._run(request, name, "restart")

    async def _run(self, request: AnyRequest, name: str, verb: Verb) -> Response[WorkloadAnswer]:
        return _answer(
            await self._service.run(requests.command(request), WorkloadName(name), verb)
        )

    async def assign(self, request: AnyRequest, name: FromPath[str]) -> Response[WorkloadAnswer]:
        """Put a workload on a host: one that was held, or that no host fitted."""
        body = await requests.body(request, openapi.JSON_TYPES)
        host, command = requests.read(body, Assignment).host, requests.command(request, body)
        return _answer(await self._service.assign(command, WorkloadName(name), host))

    async def logs(
        self,
        name: FromPath[str],
        tail: Tail = 100,
        back: Back = 0,
        run: FromQuery[int | None] = None,
        offset: FromQuery[int | None] = None,
    ) -> LogText:
        """Show a piece of a workload's log: the end of it, or from `offset` of a `run` on."""
        place = self._view.place(WorkloadName(name))
        request = LogRequest(workload=place.workload, back=back, run=run, offset=offset, tail=tail)
        return await logs.read(self._bus, place, request)

    async def allocations(
        self,
        *,
        workload: FromQuery[str | None] = None,
        all: FromQuery[bool] = False,  # noqa: A002 -- the parameter's name in the API
    ) -> list[Status]:
        """List what is wanted and what is, a row an allocation.

        With `all` also what was removed, and is known still because its data is kept.
        """
        name = None if workload is None else WorkloadName(workload)
        return self._view.rows(name, everything=all)

    async def hosts(self) -> list[HostRow]:
        """List all hosts."""
        return self._view.hosts()

    async def invite(self, request: AnyRequest, name: FromPath[str]) -> Invited:
        """Make an invitation for a host. It is a secret, good once."""
        if not is_name(name):
            raise UserError(f"cannot invite {name!r}: that is no name for a host", field="name")
        return await self._membership.invite(requests.command(request), HostId(name))

    async def remove_host(
        self, request: AnyRequest, name: FromPath[str], *, force: FromQuery[bool] = False
    ) -> None:
        """Let a host go. With `force`, even with workloads: they begin anew elsewhere."""
        await self._membership.leave(requests.command(request), HostId(name), force=force)

    async def events(
        self,
        workload: FromQuery[str | None] = None,
        after: After = 0,
        last: Annotated[int | None, QueryParameter(ge=1)] = None,
        wait_s: Annotated[float, QueryParameter(ge=0, le=limits.EVENTS_WAIT_S)] = 0,
    ) -> list[EventRow]:
        """List what happened, oldest first.

        `after` is a sequence to read on from; with `wait_s` an empty answer waits so long for
        the next event.
        """
        name = None if workload is None else WorkloadName(workload)
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    found = self._view.events(name, after=Sequence(after), last=last)
                    if found or not wait_s:
                        return found
                    await self._fleet.news.wait()
        except TimeoutError:
            return []

    async def audit(
        self,
        after: After = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=limits.PAGE_RECORDS)] = limits.PAGE_RECORDS,
    ) -> list[AuditRecord]:
        """List the audit chain, link by link, after a number."""
        return await self._store.audit(after=after, limit=limit)

    async def has_blob(self, sha256: FromPath[str]) -> None:
        """Say whether a blob is there."""
        if await self._blobs.size(sha256) is None:
            raise NotFoundError(f"cannot find blob {sha256}")

    async def keep_blob(self, request: AnyRequest, sha256: FromPath[str]) -> BlobStored:
        """Store a blob under the SHA-256 of its content."""
        return await self._service.keep_blob(requests.command(request), sha256, request.stream())


def build(api: Api, token: str) -> ASGIApp:
    """Return the ASGI application that answers, for `api`, those who have `token`."""
    litestar = Litestar(
        api.routes(),
        guards=[requests.guard(token)],
        exception_handlers={Exception: problems.answer},
        logging_config=None,
        openapi_config=openapi.config(),
        request_max_body_size=limits.API_BODY_BYTES,
    )
    return requests.named(litestar)


def _one_manifest(body: bytes) -> Manifest:
    found = manifests.decode(body, source="body")
    if len(found) != 1:
        raise UserError(f"cannot apply {len(found)} manifests at once: send one a request")
    return found[0]


def _answer(outcome: Outcome) -> Response[WorkloadAnswer]:
    return Response(outcome.answer, headers={"ETag": commands.etag(outcome.sequence)})
