"""The contract of Holochain's own gateway, a row for each thing that was seen of it."""

import base64

import msgspec
import pytest

from gateways import DNA, DNA_TEXT, encoded
from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import Answer, AnsweredError, ZomeCall
from hivekeeper.holochain.errors import AnswerLostError, ConductorError, NotSentError
from hivekeeper.model.errors import HiveError, PermanentError, UserError

TEXT, JSON = "text/plain; charset=utf-8", "application/json"
BASE = f"/{DNA_TEXT}/notes/notes/echo"
TWO_PAYLOADS = "Failed to deserialize query string: duplicate field `payload`"
LONG, LONGER = "a" * 100, "b" * 101
ACUTE = "%c3%a9"
"""One character, two bytes, six in a URL."""


def malformed(why: str) -> str:
    return f'{{"error":"Request is malformed: {why}"}}'


def too_long(identifier: str) -> str:
    return malformed(f"Identifier {identifier} longer than 100 characters")


NO_DNA = malformed("Invalid DNA hash")
NOT_UTF8 = "Invalid UTF-8 in `{}`"
TOO_LARGE = malformed("Payload exceeds 10240 bytes")

REFUSED = [
    # Which paths there are.
    ("GET", "/", 404, "", ""),
    ("GET", "", 404, "", ""),
    ("GET", "*", 404, "", ""),
    ("GET", "/HEALTH", 404, "", ""),
    ("GET", "/heal%74h", 404, "", ""),
    ("GET", "/health/", 404, "", ""),
    ("GET", "//health", 404, "", ""),
    ("GET", f"/{DNA_TEXT}/notes/notes", 404, "", ""),
    ("GET", f"{BASE}/", 404, "", ""),
    ("GET", f"{BASE}/more", 404, "", ""),
    ("GET", f"/{BASE}", 404, "", ""),
    ("GET", f"/{DNA_TEXT}/notes/notes/", 404, "", ""),
    ("GET", "//notes/notes/echo", 404, "", ""),
    ("GET", "////", 404, "", ""),
    ("HEAD", "/nothing", 404, "", ""),
    ("POST", "/nothing", 404, "", ""),
    ("OPTIONS", "*", 404, "", ""),
    # Which methods; before anything is looked at.
    ("POST", "/health", 405, "", ""),
    ("OPTIONS", "/health", 405, "", ""),
    ("POST", BASE, 405, "", ""),
    ("OPTIONS", BASE, 405, "", ""),
    ("PUT", BASE, 405, "", ""),
    ("DELETE", "/not/a/dna/hash", 405, "", ""),
    ("PATCH", f"{BASE}?payload=a&payload=b", 405, "", ""),
    ("TRACE", BASE, 405, "", ""),
    # The parts of a path: text first, all of them; then the DNA; then lengths, in order.
    ("GET", "/%ff/a%ff/b/c", 400, JSON, malformed(NOT_UTF8.format("dna_hash"))),
    ("GET", "/x/a%ff/b/c", 400, JSON, malformed(NOT_UTF8.format("coordinator_identifier"))),
    ("GET", f"/{DNA_TEXT}/{LONGER}/b%ff/c", 400, JSON, malformed(NOT_UTF8.format("zome_name"))),
    (
        "GET",
        f"/{DNA_TEXT}/notes/notes/%ff?payload=a&payload=b",
        400,
        JSON,
        malformed(NOT_UTF8.format("fn_name")),
    ),
    ("GET", "/a/b/c/d", 400, JSON, NO_DNA),
    ("HEAD", "/a/b/c/d", 400, JSON, NO_DNA),
    ("GET", "/a//c/d", 400, JSON, NO_DNA),
    ("GET", "/a/b//d", 400, JSON, NO_DNA),
    ("GET", f"/{DNA_TEXT[:-1]}x/notes/notes/echo", 400, JSON, NO_DNA),
    ("GET", f"/{DNA_TEXT[1:]}/notes/notes/echo", 400, JSON, NO_DNA),
    ("GET", f"/{DNA_TEXT}=/notes/notes/echo", 400, JSON, NO_DNA),
    ("GET", f"/uhCAk{DNA_TEXT[5:]}/notes/notes/echo", 400, JSON, NO_DNA),
    ("GET", f"/x/{LONGER}/b/c", 400, JSON, NO_DNA),
    ("GET", "/x/a/b/c?payload=a&payload=b", 400, JSON, NO_DNA),
    ("GET", f"/{DNA_TEXT}/{LONGER}/{'c' * 101}/{'d' * 101}", 400, JSON, too_long(LONGER)),
    ("GET", f"/{DNA_TEXT}/{LONG}/{LONGER}/{'d' * 101}", 400, JSON, too_long(LONGER)),
    ("GET", f"/{DNA_TEXT}/{LONG}/{LONG}/{LONGER}", 400, JSON, too_long(LONGER)),
    ("GET", f"/{DNA_TEXT}/{ACUTE * 101}/b/c", 400, JSON, too_long("é" * 101)),
    ("GET", f"/{DNA_TEXT}/{'%22' * 101}/b/c", 400, JSON, too_long('\\"' * 101)),
    ("GET", f"/{DNA_TEXT}/{LONGER}/b/c?payload=a&payload=b", 400, JSON, too_long(LONGER)),
    # The query: one payload at most, counted as it is after decoding.
    ("GET", f"{BASE}?payload=a&payload=b", 400, TEXT, TWO_PAYLOADS),
    ("GET", f"{BASE}?payload=a&x=1&pay%6Coad=b", 400, TEXT, TWO_PAYLOADS),
    ("GET", f"{BASE}?payload={'a' * 10241}&payload", 400, TEXT, TWO_PAYLOADS),
    ("GET", f"{BASE}?payload={'a' * 10241}", 400, JSON, TOO_LARGE),
    ("GET", f"{BASE}?payload={'%61' * 10241}", 400, JSON, TOO_LARGE),
    ("GET", f"{BASE}?payload={ACUTE * 5121}", 400, JSON, TOO_LARGE),
    ("GET", f"{BASE}?payload={'%ff' * 3414}", 400, JSON, TOO_LARGE),
]


def read(method: str, target: str) -> ZomeCall | None:
    path, _, query = target.partition("?")
    return contract.read(method, path.encode(), query.encode())


@pytest.mark.parametrize(("method", "target", "status", "content_type", "body"), REFUSED)
def test_what_is_refused_before_any_happ_is_looked_for(
    method: str, target: str, status: int, content_type: str, body: str
) -> None:
    with pytest.raises(AnsweredError) as caught:
        read(method, target)
    answer = caught.value.answer
    said = dict(answer.headers).get(b"content-type", b"").decode()
    assert (answer.status, said, answer.body.decode()) == (status, content_type, body)


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert contract.NO_SUCH_METHOD.headers == ((b"allow", b"GET,HEAD"),)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/health", "/health?x=1"])
def test_health_is_no_call(method: str, target: str) -> None:
    assert read(method, target) is None


HEALTH = [(contract.HEALTHY, 200, TEXT, b"Ok"), (contract.result(b"[1]"), 200, TEXT, b"[1]")]


@pytest.mark.parametrize(("answer", "status", "content_type", "body"), HEALTH)
def test_what_is_well_is_plain_text(
    answer: Answer, status: int, content_type: str, body: bytes
) -> None:
    assert answer == Answer(status, ((b"content-type", content_type.encode()),), body)


CALLS = [
    (BASE, ("notes", "notes", "echo", None)),
    (f"/%75{DNA_TEXT[1:]}/no%74es/notes/ech%6f", ("notes", "notes", "echo", None)),
    (f"/{DNA_TEXT}/{LONG}/{ACUTE * 100}/x", (LONG, "é" * 100, "x", None)),
    (f"/{DNA_TEXT}///x", ("", "", "x", None)),
    (f"/{DNA_TEXT}/a%2fb/a+b/%zz%2", ("a/b", "a+b", "%zz%2", None)),
    (f"/{DNA_TEXT}/../%00/.", ("..", "\0", ".", None)),
    (f"{BASE}?", ("notes", "notes", "echo", None)),
    (f"{BASE}?x=1&y&&=&PAYLOAD=1&payload+=2&%ff=%ff", ("notes", "notes", "echo", None)),
    (f"{BASE}??payload=1", ("notes", "notes", "echo", None)),
    (f"{BASE}?payload=", ("notes", "notes", "echo", "")),
    (f"{BASE}?payload", ("notes", "notes", "echo", "")),
    (f"{BASE}?pay%6Coad=%49%6d", ("notes", "notes", "echo", "Im")),
    (f"{BASE}?payload=a+b", ("notes", "notes", "echo", "a b")),
    (f"{BASE}?payload=a;x=1", ("notes", "notes", "echo", "a;x=1")),
    (f"{BASE}?payload==&z", ("notes", "notes", "echo", "=")),
    (f"{BASE}?payload=%ff", ("notes", "notes", "echo", "\ufffd")),
    (f"{BASE}?payload={'%61' * 10240}", ("notes", "notes", "echo", "a" * 10240)),
]


@pytest.mark.parametrize(("target", "expected"), CALLS)
def test_what_is_a_call(target: str, expected: tuple[str, str, str, str | None]) -> None:
    app_id, zome, fn, payload = expected
    call = ZomeCall(dna_hash=DNA, app_id=app_id, zome=zome, fn=fn, payload=payload)
    assert read("GET", target) == read("HEAD", target) == call


ARGUMENTS = [
    (None, None),
    (encoded(b"null"), None),
    (encoded(b" 1 "), 1),
    (encoded(b'"h\\u00e9"'), "hé"),
    (encoded('"é"'.encode()), "é"),
    (encoded(b'{"b":1,"a":[2.5,true]}'), {"a": [2.5, True], "b": 1}),
    (encoded(b"[" * 127 + b"]" * 127), msgspec.json.decode(b"[" * 127 + b"]" * 127)),
]


@pytest.mark.parametrize(("payload", "argument"), ARGUMENTS)
def test_what_a_function_is_given(payload: str | None, argument: object) -> None:
    assert msgspec.msgpack.decode(contract.argument(payload)) == argument


NOT_BASE64 = [
    "bnVsbA",  # its padding is missing
    "IjEi=",
    "IjEi====",
    "=IjEi",
    "MX==",  # bits are left over
    "Imhc TAwZTki",
    "IjEi\n",
    "_w==\ufffd",
    "aGk/aGk/",  # the other alphabet
    "aGk+aGk+",
    "$%&#",
    "%%",
    "=",
]
NOT_JSON = [b"", b"1 2", b"NaN", b"1e400", b"\xff", b"'x'", b"{invalid}", b"[1,]", b"[" * 128]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        *((payload, "Invalid base64 encoding") for payload in NOT_BASE64),
        *((encoded(json), "Invalid JSON value") for json in NOT_JSON),
        ("aGk_aGk_", "Invalid JSON value"),
    ],
)
def test_what_a_function_cannot_be_given(payload: str, why: str) -> None:
    with pytest.raises(AnsweredError) as caught:
        contract.argument(payload)
    assert caught.value.answer == contract.failure(400, f"Request is malformed: {why}")


def test_the_base64_that_is_meant_is_that_of_urls() -> None:
    assert encoded(b"\xff\xfe") == base64.urlsafe_b64encode(b"\xff\xfe").decode() == "__4="


SELECTING = "Error selecting a valid app: "
MESSAGES = [
    (contract.NOT_INSTALLED, 404, f"{SELECTING}App is not installed on the conductor"),
    (contract.NOT_LISTED, 403, f"{SELECTING}App is not in the list of allowed apps"),
    (
        contract.SEVERAL_INSTALLED,
        500,
        f"{SELECTING}Multiple matching apps were found, could not determine which to call",
    ),
    (contract.UNREACHABLE, 502, "Could not connect to Holochain"),
    (contract.FAILED, 500, "Something went wrong"),
]


@pytest.mark.parametrize(("answer", "status", "message"), MESSAGES)
def test_messages_are_json(answer: Answer, status: int, message: str) -> None:
    body = f'{{"error":"{message}"}}'.encode()
    assert answer == Answer(status, ((b"content-type", b"application/json"),), body)


def test_a_function_that_is_not_allowed_is_named_as_it_was_asked_for() -> None:
    asked = read("GET", f"/{DNA_TEXT}/listed/n%22%0a%c3%a9%7f%5c%2f/a%01b%08%0c%0d%09%1f%3c")
    assert asked is not None
    answer = contract.forbidden(asked).answer
    fn, zome = "a\\u0001b\\b\\f\\r\\t\\u001f<", 'n\\"\\né\x7f\\\\/'
    text = f"Function {fn} in zome {zome} in app listed is not allowed"
    assert (answer.status, answer.body.decode()) == (403, f'{{"error":"{text}"}}')


FAILURES = [
    (NotSentError("no connection"), contract.UNREACHABLE),
    (AnswerLostError("it hung up"), contract.FAILED),
    (ConductorError("call_zome", "internal_error", "Guest"), contract.FAILED),
    (ConductorError("call_zome", "ribosome_error", 'a "text"'), contract.failure(500, 'a "text"')),
    (PermanentError("a result that JSON cannot say"), contract.FAILED),
    (UserError("larger than a conductor takes"), contract.FAILED),
]


@pytest.mark.parametrize(("error", "answer"), FAILURES, ids=lambda each: type(each).__name__)
def test_only_what_was_not_sent_is_a_bad_gateway(error: HiveError, answer: Answer) -> None:
    """So a client may try again after 502, whatever it asked for, and must look after 500."""
    assert contract.failed(error) == answer
