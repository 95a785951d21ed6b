"""Whatever is asked, and whatever a hApp does, the answer is one of the contract's."""

import asyncio
import base64
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways import DNA_TEXT
from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import AnsweredError, ZomeCall
from hivekeeper.gateway.front import Front
from hivekeeper.gateway.functions import Functions
from hivekeeper.gateway.targets import HungUp
from hivekeeper.holochain import transcode
from hivekeeper.holochain.errors import AnswerLostError, ConductorError, NotSentError
from hivekeeper.model.errors import HiveError

BODIES = {
    500: rb'\{"error":"(Something went wrong|a guest)"\}',
    502: rb'\{"error":"Could not connect to Holochain"\}',
    403: rb'\{"error":"Function .* is not allowed"\}',
    404: rb"",
    405: rb"",
    400: rb'\{"error":"Request is malformed: .*"\}|Failed to deserialize query string: .*',
    200: rb".*",
}
OUTCOMES: list[HiveError | bytes] = [
    NotSentError("nothing there"),
    AnswerLostError("gone"),
    ConductorError("call_zome", "internal_error", "a guest"),
    ConductorError("call_zome", "ribosome_error", "a guest"),
    ConductorError("call_zome", "zome_call_unauthorized", "cap secret"),
    b"\xc0",
    b"\xc1",
    b"\x91" * 5000 + b"\xc0",
    b"\xc4\x01a",
    b"\xd4\x00\x00",
    b"\x81\x01\x02",
    b"",
]

parts = st.one_of(
    st.just(DNA_TEXT),
    st.sampled_from(["notes", "health", "", "..", "%ff", "%c3%a9", "%00", "a" * 101, "%2f", "*"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8),
)
paths = st.one_of(
    st.lists(parts, max_size=6).map(lambda each: "/".join(["", *each]).encode()),
    st.lists(parts, min_size=3, max_size=3).map(
        lambda each: "/".join(["", DNA_TEXT, *each]).encode()
    ),
    st.binary(max_size=40),
)
queries = st.one_of(
    st.just(b""),
    st.binary(max_size=60).map(lambda data: b"payload=" + base64.urlsafe_b64encode(data)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    ).map(lambda value: b"payload=" + base64.urlsafe_b64encode(msgspec.json.encode(value))),
    st.lists(st.sampled_from([b"payload", b"=", b"&", b"%", b"%zz", b"a", b"+", b"\xff"])).map(
        b"".join
    ),
    st.binary(max_size=40),
)
headers = st.lists(
    st.tuples(st.sampled_from([b"x-request-id", b"host", b"x"]), st.binary(max_size=140)),
    max_size=3,
)


async def answered(outcome: HiveError | bytes, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is sent for one request, if calls that are carried out end in `outcome`."""

    async def carry_out(call: ZomeCall, _: HungUp) -> bytes:
        if call.fn == "forbidden":
            raise contract.forbidden(call)
        contract.argument(call.payload)
        if isinstance(outcome, HiveError):
            raise outcome
        return transcode.to_json(outcome)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody reads what no request has")

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await Front(carry_out)(scope, receive, send)
    return sent


@given(
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PUT"]),
    path=paths,
    query=queries,
    sent_headers=headers,
    outcome=st.sampled_from(OUTCOMES),
)
def test_every_request_gets_an_answer_of_the_contract(
    method: str,
    path: bytes,
    query: bytes,
    sent_headers: list[tuple[bytes, bytes]],
    outcome: HiveError | bytes,
) -> None:
    scope = {"method": method, "raw_path": path, "query_string": query, "headers": sent_headers}
    start, end = asyncio.run(answered(outcome, scope))
    assert re.fullmatch(BODIES[start["status"]], end["body"], re.DOTALL)
    said = dict(start["headers"])
    assert int(said[b"content-length"]) == len(end["body"])
    assert re.fullmatch(rb"[!-~]{1,128}", said[b"x-request-id"])
    if said.get(b"content-type") == b"application/json":
        assert set(msgspec.json.decode(end["body"])) == {"error"}


@given(data=st.binary(max_size=50))
def test_only_one_text_says_the_same_bytes(data: bytes) -> None:
    """Base64 is taken in its one strict form; all that Python would also take is refused."""
    strict = base64.urlsafe_b64encode(data).decode()
    try:
        contract.argument(strict)
    except AnsweredError as error:
        assert b"Invalid JSON value" in error.answer.body  # noqa: PT017 -- either way is fine
    for loose in (strict + "=", strict + "\n", " " + strict, strict[:-1], strict + "!"):
        with pytest.raises(AnsweredError):
            contract.argument(loose or "!")


@given(
    glob=st.text(alphabet="ab*?[", min_size=1, max_size=8),
    name=st.text(alphabet="ab[\n", max_size=8),
)
def test_globs_mean_what_a_slow_reader_makes_of_them(glob: str, name: str) -> None:
    assert Functions([f"{glob}/f"]).allow(name, "f") == matches(glob, name)


def matches(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if glob[0] == "*":
        return matches(glob[1:], name) or (bool(name) and matches(glob, name[1:]))
    return bool(name) and glob[0] in ("?", name[0]) and matches(glob[1:], name[1:])
