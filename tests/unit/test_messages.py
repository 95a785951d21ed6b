"""What is said on the hub: read back as it was written, or refused with the reason."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hivekeeper.model import limits
from hivekeeper.model.allocation import (
    Allocation,
    Desired,
    Document,
    Order,
    Phase,
    Report,
)
from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest, Process
from hivekeeper.wire import messages
from hivekeeper.wire.messages import (
    BlobReply,
    BlobRequest,
    DocumentReply,
    DocumentRequest,
    JoinReply,
    JoinRequest,
    LogReply,
    LogRequest,
    ReportMessage,
    ReportReply,
    Route,
    RoutesReply,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOTES = WorkloadName("notes")
REPORT: dict[str, Any] = {
    "workload": "notes",
    "generation": 3,
    "revision": 1,
    "phase": "ready",
    "since": "2026-01-01T12:00:00Z",
}
EVERY_MESSAGE: list[msgspec.Struct] = [
    DocumentRequest(),
    DocumentRequest(cluster="c", epoch=1, since=Sequence(7)),
    DocumentReply(
        complete=True,
        withdrawn=(NOTES,),
        document=Document(
            cluster="c",
            epoch=1,
            version=Sequence(7),
            orders={
                NOTES: Order(
                    allocation=Allocation(
                        workload=NOTES,
                        host=HostId("h"),
                        revision=Revision(1),
                        generation=Generation(3),
                        desired=Desired.RUNNING,
                        changed_at=NOON,
                    ),
                    manifest=Manifest(
                        name=NOTES, kind=Kind.PROCESS, process=Process(command=("x",))
                    ),
                )
            },
        ),
    ),
    ReportMessage(
        number=1,
        reports=(
            Report(
                workload=NOTES,
                generation=Generation(3),
                revision=Revision(1),
                phase=Phase.BACKOFF,
                since=NOON,
                error="é\n\0",
                retry_at=NOON,
                ports={"admin": 1},
                facts={"dna_hashes": {"notes": "u"}},
            ),
        ),
    ),
    ReportReply(number=1),
    BlobRequest(sha256="0" * 64, offset=2**63 - 1),
    BlobReply(size=3, data=bytes(range(256))),
    LogRequest(workload=NOTES, run=3, offset=0),
    LogReply(run=1, offset=3, data=b"\xff\n", more=False, ended=True),
    JoinRequest(token="t", public_key="U" + "A" * 55),
    JoinReply(host="h", cluster="c"),
    RoutesReply(routes=(Route(app_id="notes", workload=NOTES, host="h", functions=("n/*",)),)),
]


def refusal(said: object, form: type[msgspec.Struct]) -> str:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    with pytest.raises(UserError) as refused:
        messages.decode(data, form)
    return str(refused.value)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda each: type(each).__name__)
def test_a_message_is_read_as_it_was_written(message: msgspec.Struct) -> None:
    data = messages.encode(message)
    assert messages.decode(data, type(message)) == message
    assert messages.encode(messages.decode(data, type(message))) == data


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda each: type(each).__name__)
def test_fields_that_a_newer_version_adds_are_passed_over(message: msgspec.Struct) -> None:
    said = json.loads(messages.encode(message)) | {"new": {"anything": [1, None]}}
    assert messages.decode(json.dumps(said).encode(), type(message)) == message


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda each: type(each).__name__)
def test_another_version_is_refused_as_such_whatever_else_it_says(message: msgspec.Struct) -> None:
    for said in (json.loads(messages.encode(message)), {}, {"number": "one"}):
        assert refusal(said | {"v": 2}, type(message)) == (
            f"cannot read a {type(message).__name__} of version 2: this is version 1"
        )


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda each: type(each).__name__)
def test_half_a_message_is_none(message: msgspec.Struct) -> None:
    data = messages.encode(message)
    for end in range(len(data)):
        refusal(data[:end], type(message))


def test_the_same_said_in_another_order_is_the_same_bytes() -> None:
    one, two = (
        BlobReply(size=1, data=b""),
        messages.decode(b'{"data": "", "v": 1, "size": 1}', BlobReply),
    )
    assert messages.encode(one) == messages.encode(two)
    ports = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
    reports = [
        messages.decode(
            json.dumps({"number": 1, "reports": [REPORT | {"ports": each}]}).encode(),
            ReportMessage,
        )
        for each in ports
    ]
    assert messages.encode(reports[0]) == messages.encode(reports[1])


def test_what_is_larger_than_a_message_may_be_is_refused_unread() -> None:
    data = b'"' + b"x" * limits.MESSAGE_BYTES
    assert refusal(data, ReportReply) == (
        "cannot read a ReportReply of 1048577 bytes: larger than 1048576"
    )


@pytest.mark.parametrize("nested", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [500, 900, 1_100, 100_000])
def test_no_depth_breaks_the_reader(nested: bytes, depth: int) -> None:
    """Not in a field that nobody knows, nor in one that may hold anything."""
    closed = b"]" if nested == b"[" else b"}"
    deep = nested * depth + b"1" + closed * depth
    unknown = b'{"number": 1, "new": ' + deep + b"}"
    try:
        assert messages.decode(unknown, ReportReply) == ReportReply(number=1)
    except UserError as refused:
        assert "recursion" in str(refused)  # noqa: PT017 (either is fine: it is nobody's)
    report = json.dumps(REPORT)[:-1].encode() + b', "facts": {"x": ' + deep + b"}}"
    said = refusal(b'{"number": 1, "reports": [' + report + b"]}", ReportMessage)
    assert "facts nest at most 64 deep" in said or "recursion" in said


def test_facts_of_the_greatest_depth_can_be_written_again() -> None:
    facts: dict[str, Any] = {}
    for _ in range(limits.FACTS_DEPTH - 1):
        facts = {"x": facts}
    said = json.dumps({"number": 1, "reports": [REPORT | {"facts": facts}]}).encode()
    message = messages.decode(said, ReportMessage)
    assert messages.decode(messages.encode(message), ReportMessage) == message
    facts = {"x": facts}
    assert "facts nest" in refusal(
        {"number": 1, "reports": [REPORT | {"facts": facts}]}, ReportMessage
    )


@pytest.mark.parametrize(
    ("form", "said"),
    [
        pytest.param(ReportReply, b"", id="nothing"),
        pytest.param(ReportReply, b"null", id="null"),
        pytest.param(ReportReply, b"[]", id="list"),
        pytest.param(ReportReply, b'{"number": 1} {}', id="more"),
        pytest.param(ReportReply, b'{"number": 1e999}', id="infinite"),
        pytest.param(ReportReply, b'{"number": "1"}', id="text"),
        pytest.param(ReportReply, b"\xff\xfe", id="binary"),
        pytest.param(JoinReply, b'{"host": "h\xff", "cluster": "c"}', id="no-utf-8"),
        pytest.param(ReportReply, {}, id="missing"),
        pytest.param(ReportReply, {"v": "1", "number": 1}, id="version-text"),
        pytest.param(ReportReply, {"v": None, "number": 1}, id="version-null"),
        pytest.param(DocumentRequest, {"since": -1}, id="negative"),
        pytest.param(DocumentRequest, {"since": 2**63}, id="too-large"),
        pytest.param(BlobRequest, {"sha256": "0" * 64, "offset": 2**63}, id="offset"),
        pytest.param(BlobRequest, {"sha256": "0" * 64 + "\n", "offset": 0}, id="hash-newline"),
        pytest.param(BlobRequest, {"sha256": "../" + "0" * 61, "offset": 0}, id="hash-path"),
        pytest.param(LogRequest, {"workload": "../../etc"}, id="name-path"),
        pytest.param(LogRequest, {"workload": "a\n"}, id="name-newline"),
        pytest.param(LogRequest, {"workload": "a", "back": 99}, id="back"),
        pytest.param(LogRequest, {"workload": "a", "offset": -1}, id="offset-negative"),
        pytest.param(JoinRequest, {"token": "x" * 257, "public_key": "U" + "A" * 55}, id="token"),
        pytest.param(JoinRequest, {"token": "x", "public_key": "U" + "A" * 54}, id="key"),
        pytest.param(JoinRequest, {"token": "x", "public_key": "U" + "A" * 55 + "\n"}, id="key-n"),
        pytest.param(
            ReportMessage, {"number": 1, "reports": [REPORT | {"workload": "/"}]}, id="report-name"
        ),
        pytest.param(
            ReportMessage,
            {"number": 1, "reports": [REPORT | {"since": "2026-01-01T12:00:00"}]},
            id="report-no-zone",
        ),
        pytest.param(
            ReportMessage,
            {"number": 1, "reports": [REPORT] * (limits.ALLOCATIONS_PER_HOST + 1)},
            id="reports",
        ),
        pytest.param(
            DocumentReply,
            {
                "complete": True,
                "document": {"cluster": "c", "epoch": 1, "version": 1, "orders": {"../x": {}}},
            },
            id="order-path",
        ),
    ],
)
def test_what_is_no_such_message_is_refused(form: type[msgspec.Struct], said: object) -> None:
    assert refusal(said, form).startswith(f"cannot read a {form.__name__}: ")


def test_a_token_shows_in_no_refusal() -> None:
    for wrong in ({"public_key": 1}, {"token": "hunter2" * 99}, {"v": 9}):
        said = {"token": "hunter2", "public_key": "U"} | wrong
        assert "hunter2" not in refusal(said, JoinRequest)
