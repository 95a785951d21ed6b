"""What is said on the keeper's socket survives the way, and nothing else is let through."""

import pytest

from hivekeeper.model import limits
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.policy import Readiness, Resources, RestartPolicy
from hivekeeper.model.program import ProgramSpec
from hivekeeper.wire import keeper as wire

SPEC = ProgramSpec(
    id=ProgramId("workload.x"),
    command=("x", "two\nlines", "\0".replace("\0", "é")),
    env={"A": "1"},
    logs="/logs",
    readiness=Readiness(notify=True),
    restart=RestartPolicy(max_retries=3),
    resources=Resources(tasks=4),
)


@pytest.mark.parametrize(
    "request_",
    [
        wire.Hold(spec=SPEC, wanted=True, generation=Generation(3)),
        wire.Restart(program=SPEC.id),
        wire.Release(program=SPEC.id, logs=True),
        wire.List(),
        wire.Changes(),
        wire.Shutdown(last=(SPEC.id,)),
    ],
)
def test_a_request_is_a_line_and_comes_back_the_same(request_: wire.Request) -> None:
    line = wire.line(request_)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert wire.read_request(line) == request_


def test_a_greeting_comes_back_the_same() -> None:
    hello = wire.Hello(versions=(1, 2))
    assert wire.read_hello(wire.line(hello)) == hello


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no", hint="do so"), "user"),
        (NotFoundError("no"), "not_found"),
        (ConflictError("no"), "conflict"),
        (PermissionRefusedError("no"), "permission"),
        (TransientError("no"), "transient"),
        (PermanentError("no", hint="do so"), "permanent"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: HiveError, code: str) -> None:
    refused = wire.read_reply(wire.line(wire.refusal(error)))
    assert isinstance(refused, wire.Refused)
    assert refused.error == code
    raised = wire.error(refused)
    assert type(raised) is type(error)
    assert str(raised) == "no"
    assert getattr(raised, "hint", "") == getattr(error, "hint", "")


def test_an_error_of_a_newer_keeper_is_an_error_all_the_same() -> None:
    assert isinstance(wire.error(wire.Refused(error="new", message="no")), PermanentError)


def test_the_highest_common_version_is_spoken() -> None:
    assert wire.agree((0, 1, 7)) == 1
    with pytest.raises(PermanentError, match="it speaks version 1, the client 2, 3") as caught:
        wire.agree((2, 3))
    assert caught.value.hint


@pytest.mark.parametrize("change", [{"cwd": "here"}, {"logs": "x"}, {"stdin": "x"}])
def test_a_spec_with_a_relative_path_is_refused(change: dict[str, str]) -> None:
    hold = wire.line(wire.Hold(spec=SPEC, wanted=True, generation=Generation(1)))
    (field, value), *_ = change.items()
    data = hold.replace(
        b'"logs":"/logs"', b'"logs":"/logs","%b":"%b"' % (field.encode(), value.encode())
    )
    with pytest.raises(UserError, match=f"{field} must be an absolute path"):
        wire.read_request(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ("x\0y",)},
        {"env": {"": "x"}},
        {"env": {"a=b": "x"}},
        {"env": {"a": "x\0"}},
    ],
)
def test_a_spec_that_no_program_can_be_started_with_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must not"):
        ProgramSpec(**({"id": "workload.x", "command": ("x",), "logs": "/l"} | fields))  # type: ignore[arg-type]


def test_a_line_that_is_too_long_is_not_even_looked_at() -> None:
    with pytest.raises(UserError, match="longer than"):
        wire.read_request(b" " * (limits.KEEPER_LINE_BYTES + 1))


@pytest.mark.parametrize("id_", ["../x", "workload.", "workload.X", "other.x", "workload.a/b", ""])
def test_a_name_that_is_no_safe_file_name_is_refused(id_: str) -> None:
    hold = wire.line(wire.Hold(spec=SPEC, wanted=True, generation=Generation(1)))
    with pytest.raises(UserError):
        wire.read_request(hold.replace(b"workload.x", id_.encode()))
