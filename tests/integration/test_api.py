"""The HTTP API as a client sees it: a real server and store, hosts played on a hub in memory."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from hivekeeper.adapters import sqlite
from hivekeeper.core import audit as chain
from hivekeeper.model import limits
from hivekeeper.model.allocation import Phase
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.ids import HostId
from hivekeeper.model.record import AuditRecord
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import authority, invitations, messages, subjects
from hivekeeper.wire.messages import LogReply, LogRequest
from orchestrating import SLEEPER, TOKEN, Running, eventually, orchestrator, played

HOME = HostId("home")
BLOB = b"a bundle, or so" * 1000
SHA256 = hashlib.sha256(BLOB).hexdigest()
HAPP = f"""
name: chat
kind: holochain
holochain: {{happ: 'blob:{SHA256}'}}
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with (
        sqlite.open_store(tmp_path / "store.db") as store,
        orchestrator(tmp_path, store=store) as running,
    ):
        yield running


async def test_health_needs_no_token_and_everything_else_does(running: Running) -> None:
    async with running.session.get(f"{running.url}/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    for given in (None, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00fc"):
        headers = {} if given is None else {"Authorization": given}
        for path in ("/v1/workloads", "/v1/openapi.json", "/v1/events", "/v1/audit"):
            async with running.session.get(f"{running.url}{path}", headers=headers) as answer:
                assert answer.status == 401, (given, path)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                problem = await answer.json(content_type="application/problem+json")
                assert TOKEN not in json.dumps(problem)


async def test_a_workload_from_its_manifest_to_running_and_gone(running: Running) -> None:
    async with played(running.hub) as host:
        applied = await running.apply(SLEEPER)
        assert (applied.status, applied.body["changed"]) == (200, True)
        await eventually(lambda: host.woken)
        assert (await running.row("sleeper"))["actual"] == "assigned"
        await host.fetch()
        await host.fetch()
        assert (await running.row("sleeper"))["actual"] == "pending"
        await host.report(host.says("sleeper", Phase.READY, pid=42, ports={"web": 8000}))
        row = await running.row("sleeper")
        assert row == {
            "workload": "sleeper",
            "kind": "process",
            "revision": 1,
            "host": "home",
            "desired": "running",
            "actual": "running",
            "payload": {},
            "since": "2026-01-01T00:00:00Z",
            "pid": 42,
            "restarts": 0,
            "generation": applied.body["workload"]["generation"],
            "ports": {"web": 8000},
        }
        deleted = await running.ask("DELETE", "/v1/workloads/sleeper?purge=true")
        assert deleted.body["workload"]["purge"]
        await eventually(lambda: host.woken > 1)
        await host.fetch()
        await host.report(host.says("sleeper", Phase.GONE))
        await eventually(partial(nothing_at, running, "/v1/workloads"))
        events = await running.get("/v1/events", workload="sleeper")
        words = [event["what"] for event in events]
        assert words == ["applied", "placed", "running", "deleted", "uninstalled", "forgotten"]


async def test_a_manifest_may_be_json_or_yaml_and_nothing_else(running: Running) -> None:
    as_json = {"name": "sleeper", "kind": "process", "process": {"command": ["sleep", "1000"]}}
    first = await running.ask("POST", "/v1/workloads", json=as_json)
    assert first.body["changed"]
    again = await running.apply(SLEEPER)
    assert (again.status, again.body["changed"]) == (200, False)
    for form in ("text/plain", "application/xml"):
        refused = await running.apply(SLEEPER, **{"Content-Type": form})
        assert (refused.status, refused.body["field"]) == (415, "Content-Type")


async def test_a_dry_run_says_what_would_change_and_changes_nothing(running: Running) -> None:
    answer = await running.apply(SLEEPER, "/v1/workloads?dry_run=true")
    assert (answer.status, answer.body["changed"]) == (200, True)
    assert await running.get("/v1/workloads") == []
    assert await running.get("/v1/audit") == []


async def test_a_held_workload_waits_to_be_assigned(running: Running) -> None:
    await running.apply(SLEEPER, "/v1/workloads?hold=true")
    row = await running.row("sleeper")
    assert (row["host"], row["actual"]) == (None, "reported")
    path = "/v1/workloads/sleeper/assign"
    for body, field in (({"host": "NOT A NAME"}, "host"), ({}, "body"), ([], "body")):
        refused = await running.ask("POST", path, json=body)
        assert (refused.status, refused.body["field"]) == (422, field)
    assert (await running.ask("POST", path, json={"host": "attic"})).status == 404
    async with played(running.hub) as host:
        assert (await running.ask("POST", path, json={"host": "home"})).status == 200
        await eventually(lambda: host.woken)
        assert "sleeper" in (await host.fetch()).document.orders


async def test_verbs_answer_with_the_workload_as_it_is_then(running: Running) -> None:
    generation = (await running.apply(SLEEPER)).body["workload"]["generation"]
    for verb, desired in (("stop", "stopped"), ("start", "running"), ("restart", "running")):
        answer = await running.ask("POST", f"/v1/workloads/sleeper/{verb}")
        workload = answer.body["workload"]
        assert (workload["desired"], workload["generation"]) == (desired, generation + 1)
        generation += 1


async def test_an_etag_lets_a_write_through_only_to_what_was_read(running: Running) -> None:
    applied = await running.apply(SLEEPER)
    read = await running.ask("GET", "/v1/workloads/sleeper")
    assert read.headers["ETag"] == applied.headers["ETag"]
    assert read.body["manifest"]["process"]["command"] == ["sleep", "1000"]
    meant = {"If-Match": read.headers["ETag"]}
    stopped = await running.ask("POST", "/v1/workloads/sleeper/stop", headers=meant)
    assert stopped.status == 200
    stale = await running.ask("POST", "/v1/workloads/sleeper/start", headers=meant)
    assert (stale.status, stale.body["field"]) == (412, "If-Match")
    meant = {"If-Match": stopped.headers["ETag"]}
    assert (await running.ask("DELETE", "/v1/workloads/sleeper", headers=meant)).status == 200


async def test_a_repeated_request_with_a_key_gets_its_first_answer(running: Running) -> None:
    await running.apply(SLEEPER)
    path, key = "/v1/workloads/sleeper/restart", {"Idempotency-Key": "abc"}
    first, again = [await running.ask("POST", path, headers=key) for _ in range(2)]
    assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
    assert first.body["workload"]["restart_nonce"] == 1
    other = await running.ask("POST", "/v1/workloads/sleeper/stop", headers=key)
    assert (other.status, other.body["field"]) == (422, "Idempotency-Key")
    for bad in ("x" * 129, "with blank", "\u00fc"):
        refused = await running.ask("POST", path, headers={"Idempotency-Key": bad})
        assert (refused.status, refused.body["field"]) == (422, "Idempotency-Key")


async def test_writers_at_the_same_time_each_get_a_change_of_their_own(running: Running) -> None:
    await running.apply(SLEEPER)
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(running.ask("POST", "/v1/workloads/sleeper/restart"))
            for _ in range(20)
        ]
    nonces = sorted(each.result().body["workload"]["restart_nonce"] for each in asked)
    assert nonces == list(range(1, 21))


REFUSALS: list[tuple[int, str, str, dict[str, Any]]] = [
    (404, "GET", "/nowhere", {}),
    (404, "GET", "/v1/workloads/nobody", {}),
    (404, "GET", "/v1/workloads/nobody/logs", {}),
    (404, "POST", "/v1/workloads/nobody/start", {}),
    (404, "DELETE", "/v1/workloads/nobody", {}),
    (404, "DELETE", "/v1/hosts/nobody", {}),
    (422, "POST", "/v1/hosts/NOBODY/invitation", {}),
    (409, "POST", "/v1/hosts/home/invitation", {}),
    (405, "PUT", "/v1/workloads", {}),
    (415, "POST", "/v1/workloads", {"data": b"name: x"}),
    (400, "DELETE", "/v1/workloads/x?purge=perhaps", {}),
    (400, "GET", "/v1/events?after=-1", {}),
    (400, "GET", "/v1/events?last=0", {}),
    (400, "GET", "/v1/events?wait_s=1e9", {}),
    (400, "PUT", f"/v1/blobs/{SHA256}", {"data": b"another"}),
    (404, "PUT", "/v1/blobs/none", {"data": b"another"}),
]


async def test_every_refusal_is_a_problem_document(running: Running) -> None:
    for status, method, path, more in REFUSALS:
        answer = await running.ask(method, path, **more)
        assert answer.status == status, (method, path)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.body["status"] == status
        assert answer.body["request_id"] == answer.headers["X-Request-Id"]
        assert answer.body["title"]
        assert answer.body["detail"]
        if status == 405:
            assert answer.headers["Allow"] == "GET, OPTIONS, POST"


async def test_a_bad_manifest_is_refused_with_its_field_and_place(running: Running) -> None:
    wrong = await running.apply("name: x\nkind: process\nprocess: {comand: [x]}")
    assert wrong.status == 422
    assert wrong.body["field"].startswith("process")
    assert "body:3" in wrong.body["detail"]
    broken = await running.apply("{")
    assert broken.status == 400
    two = await running.apply(f"{SLEEPER}\n---\nname: b\nkind: process\nprocess: {{command: [x]}}")
    assert (two.status, "send one a request" in two.body["detail"]) == (400, True)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(running: Running, chunked: bool) -> None:  # noqa: FBT001
    body = b"#" * (limits.API_BODY_BYTES + 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    answer = await running.ask(
        "POST",
        "/v1/workloads",
        data=pieces() if chunked else io.BytesIO(body),
        headers={"Content-Type": "application/yaml"},
    )
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_requests_own_id_is_kept_if_it_is_one(running: Running) -> None:
    for given, kept in (("my-id.1", True), ("x" * 65, False), ("a b", False), ("", False)):
        answer = await running.ask("GET", "/health", headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) == kept
    answer = await running.apply(SLEEPER, **{"X-Request-Id": "my-id.2"})
    (link,) = msgspec.convert(await running.get("/v1/audit"), list[AuditRecord])
    assert chain.decode(link.entry).request_id == "my-id.2"


async def test_the_audit_chain_holds_exactly_what_was_sent_and_can_be_verified(
    running: Running,
) -> None:
    await running.apply(SLEEPER)
    await running.ask("POST", "/v1/workloads/sleeper/stop")
    await running.ask("PUT", f"/v1/blobs/{SHA256}", data=BLOB)
    await running.ask("POST", "/v1/hosts/attic/invitation")
    links = msgspec.convert(await running.get("/v1/audit"), list[AuditRecord])
    assert isinstance(chain.verify(links), chain.Head)
    entries = [chain.decode(link.entry) for link in links]
    assert [(entry.action, entry.target) for entry in entries] == [
        ("apply", "sleeper"),
        ("stop", "sleeper"),
        ("upload", f"blob:{SHA256}"),
        ("invite", "attic"),
    ]
    assert entries[0].body.decode() == SLEEPER
    page = await running.get("/v1/audit", after=1, limit=1)
    assert [link["number"] for link in page] == [2]
    assert base64.b64decode(page[0]["entry"]) == links[1].entry


async def test_a_happ_is_sent_as_a_blob_and_then_applied(running: Running) -> None:
    missing = await running.apply(HAPP)
    assert (missing.status, missing.body["field"]) == (422, "holochain.happ")
    assert (await running.ask("HEAD", f"/v1/blobs/{SHA256}")).status == 404
    sent = await running.ask("PUT", f"/v1/blobs/{SHA256}", data=BLOB)
    assert (sent.status, sent.body) == (201, {"sha256": SHA256, "size": len(BLOB)})
    assert (await running.ask("HEAD", f"/v1/blobs/{SHA256}")).status == 200
    assert (await running.apply(HAPP)).status == 200


async def test_a_blob_larger_than_an_ordinary_body_is_taken(running: Running) -> None:
    blob = b"x" * (3 * limits.API_BODY_BYTES)
    sha256 = hashlib.sha256(blob).hexdigest()
    assert (await running.ask("PUT", f"/v1/blobs/{sha256}", data=io.BytesIO(blob))).status == 201


async def test_a_blob_that_breaks_off_is_not_there(running: Running, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(running.url.rpartition(":")[2])
    )
    head = (
        f"PUT /v1/blobs/{SHA256} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {len(BLOB)}\r\n\r\n"
    )
    writer.write(head.encode() + BLOB[:100])
    await writer.drain()
    await eventually(lambda: list((tmp_path / "blobs").iterdir()))
    writer.close()
    await eventually(lambda: not list((tmp_path / "blobs").iterdir()))
    del reader
    assert (await running.ask("HEAD", f"/v1/blobs/{SHA256}")).status == 404


async def test_logs_come_from_the_host(running: Running) -> None:
    asked: list[LogRequest] = []

    async def answer(_: str, payload: bytes) -> bytes:
        asked.append(messages.decode(payload, LogRequest))
        data = "héllo\n…".encode()[:-1]
        return messages.encode(LogReply(run=3, offset=100, data=data, more=False, ended=False))

    path = "/v1/workloads/sleeper/logs"
    await running.apply(SLEEPER)
    await eventually(partial(is_placed, running))
    nobody = await running.ask("GET", path)
    assert (nobody.status, nobody.headers["Retry-After"]) == (503, "1")
    async with (
        running.hub.connect(authority.host(HOME)) as bus,
        bus.serve(subjects.logs(HOME), answer),
    ):
        piece = await running.get(path, tail=5, back=1)
        assert piece == {"run": 3, "offset": 98, "text": "héllo\n", "more": False, "ended": False}
        await running.get(path, run=3, offset=98)
    assert [(each.tail, each.back, each.run, each.offset) for each in asked] == [
        (5, 1, None, None),
        (100, 0, 3, 98),
    ]


async def test_events_are_read_on_from_where_one_was(running: Running) -> None:
    await running.apply(SLEEPER)
    await eventually(partial(is_placed, running))
    all_events = await running.get("/v1/events")
    newest = all_events[-1]["sequence"]
    assert [event["what"] for event in all_events] == ["joined", "applied", "placed"]
    assert await running.get("/v1/events", after=newest) == []
    assert await running.get("/v1/events", last=1) == all_events[-1:]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(running.get("/v1/events", after=newest, wait_s=20))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await running.ask("POST", "/v1/workloads/sleeper/stop")
        assert [event["what"] for event in await waiting] == ["stopped"]
    assert await running.get("/v1/events", workload="nobody", wait_s=0.01) == []


async def is_placed(running: Running) -> bool:
    return bool((await running.row("sleeper"))["host"])


async def nothing_at(running: Running, path: str) -> bool:
    return bool(await running.get(path) == [])


async def test_a_host_is_invited_and_hosts_are_listed(running: Running) -> None:
    invited = await running.ask("POST", "/v1/hosts/attic/invitation")
    assert invited.status == 200
    assert invitations.decode(invited.body["invitation"]).host == "attic"
    (row,) = await running.get("/v1/hosts")
    expected = {"id": "home", "state": "ready", "heard_at": None, "allocations": 0}
    assert {key: row[key] for key in expected} == expected
    assert (await running.ask("DELETE", "/v1/hosts/home")).status == 204
    assert await running.get("/v1/hosts") == []


async def test_the_description_is_one_and_what_is_answered_is_as_described(
    running: Running,
) -> None:
    description = await running.get("/v1/openapi.json")
    assert description["openapi"].startswith("3.1")
    assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    references = set(_references(description))
    schemas = description["components"]["schemas"]
    assert references <= {f"#/components/schemas/{name}" for name in schemas}
    await running.apply(SLEEPER)
    samples = {
        "/v1/workloads": await running.get("/v1/workloads"),
        "/v1/workloads/{name}": await running.get("/v1/workloads/sleeper"),
        "/v1/allocations": await running.get("/v1/allocations"),
        "/v1/hosts": await running.get("/v1/hosts"),
        "/v1/events": await running.get("/v1/events"),
        "/v1/audit": await running.get("/v1/audit"),
        "/health": await running.get("/health"),
    }
    for path, sample in samples.items():
        content = description["paths"][path]["get"]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"] | {"components": {"schemas": schemas}}
        jsonschema.validate(sample, schema)


async def test_every_path_is_described_with_its_problems_and_its_need_of_a_token(
    running: Running,
) -> None:
    description = await running.get("/v1/openapi.json")
    operations = {
        (method, path): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }
    assert description["security"] == [{"token": []}]
    for (method, path), operation in operations.items():
        assert operation["description"], path
        if path == "/health":
            assert operation["security"] == [{}]
            continue
        assert "401" in operation["responses"], path
        if method in {"post", "put", "delete"}:
            assert {"409", "412", "422"} <= operation["responses"].keys()
    body = operations["post", "/v1/workloads"]["requestBody"]["content"]
    assert {"application/json", "application/yaml"} <= body.keys()
    assert ("put", "/v1/blobs/{sha256}") in operations


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for each in value.values() for found in _references(each)]
    if isinstance(value, list):
        return [found for each in value for found in _references(each)]
    return []


class Broken(MemoryStore):
    """Raises what it is told to."""

    error: Exception | None = None

    async def audit(self, **more: Any) -> list[AuditRecord]:
        if self.error is not None:
            raise self.error
        return await super().audit(**more)


async def test_what_fails_says_whether_to_ask_again_and_a_bug_does_not_show_its_insides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken()
    async with orchestrator(tmp_path, store=store) as running:
        store.error = TransientError("the disk is full", retry_after_s=7.2)
        busy = await running.ask("GET", "/v1/audit")
        assert (busy.status, busy.headers["Retry-After"]) == (503, "8")
        assert busy.body["detail"] == "the disk is full"
        store.error = PermanentError("the store is damaged", hint="restore it from a backup")
        damaged = await running.ask("GET", "/v1/audit")
        assert (damaged.status, damaged.body["hint"]) == (500, "restore it from a backup")
        store.error = ValueError("an inside")
        bug = await running.ask("GET", "/v1/audit")
        assert (bug.status, "inside" in str(bug.body)) == (500, False)
        assert bug.body["request_id"] in caplog.text
        assert "an inside" in caplog.text


async def test_stopped_and_started_again_it_knows_what_it_knew(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        async with (
            sqlite.open_store(tmp_path / "store.db") as store,
            orchestrator(tmp_path, store=store) as running,
        ):
            found.append((await running.apply(SLEEPER)).body | {"changes": []})
            found.append(await running.get("/v1/hosts"))
    (first, hosts), (again, same_hosts) = found[:2], found[2:]
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["workload"] == first["workload"]
    assert same_hosts[0]["joined_at"] == hosts[0]["joined_at"]
