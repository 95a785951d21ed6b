"""The gateway before the real conductor: as Holochain's own gateway answers, and through kills."""

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

import conductors
import gateways
from gateways import Client, Reply, Stand, dna_of, encoded, payload, route
from hivekeeper.holochain import hashes

pytestmark = pytest.mark.conductor

FUNCTIONS = {
    "notes": ("*/*",),
    "listed": ("notes/echo", "notes/no_such", "notes/fail"),
    "unlisted": (),
}
"""What each hApp allows."""
REQUESTS = 400
SEED = 20261124


@pytest.fixture(scope="module")
def conductor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[conductors.RealConductor]:
    there = conductors.RealConductor(tmp_path_factory.mktemp("hc"), conductors.real_program())
    try:
        there.start()
        yield there
    finally:
        there.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture
async def stand(folder: Path) -> AsyncIterator[Stand]:
    routes = [route(app_id, functions=functions) for app_id, functions in FUNCTIONS.items()]
    async with gateways.standing(folder, *routes) as made:
        yield made


@pytest.fixture
def theirs(conductor: conductors.RealConductor, tmp_path: Path) -> Iterator[Client]:
    """Holochain's own gateway, before the same conductor."""
    program, port = conductor.program.parent / "hc-http-gw", conductors.free_port()
    if not program.exists():
        pytest.skip(f"there is no {program}")
    environment = {
        "HC_GW_ADMIN_WS_URL": f"ws://127.0.0.1:{conductor.admin_port}",
        "HC_GW_ALLOWED_APP_IDS": "notes,listed",
        "HC_GW_ALLOWED_FNS_notes": "*",
        "HC_GW_ALLOWED_FNS_listed": ",".join(FUNCTIONS["listed"]),
        "HC_GW_PORT": str(port),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program], env=environment, stdout=log, stderr=log)
    try:
        until_healthy(port)
        yield Client(port)
    finally:
        process.kill()
        process.wait()


def until_healthy(port: int) -> None:
    deadline_s = time.monotonic() + gateways.LONG_S
    while time.monotonic() < deadline_s:
        try:
            asked = HTTPConnection("127.0.0.1", port, timeout=1)
            asked.request("GET", "/health")
            assert asked.getresponse().status == 200
            asked.close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("that other gateway did not start")


ODD = {
    "dna": [hashes.text(hashes.DNA.of(b"\x07" * 32)), "x", "uhC0k", "%ff"],
    "app": ["notes", "listed", "nobody", "", "no%74es", "a" * 101, "%ff"],
    "zome": ["nozome", "", "not%65s", "a" * 101, "%c3%a9", "n%0a%22", "%fe"],
    "fn": [
        "fail",
        "no_such",
        "ech%6f",
        "a" * 100,
        "b" * 101,
        "e%2fo",
        "%fe",
        "%zz",
        "a%01%7f",
        "",
    ],
    "name": ["pay%6coad", "Payload", "x", "payload+", ""],
    "json": ["", "{", "NaN", "01", "1 2", "'a'", "\0", "[1,]", "nul", "1e400", '"\\ud83d"'],
    "method": ["POST", "OPTIONS", "DELETE"],
}
LEAVES = [
    *("null", "true", "0", "-1", "255", "65536", "18446744073709551615", "-9223372036854775808"),
    *(
        "18446744073709551616",
        "1.5",
        "1e3",
        "0.1",
        '"text"',
        '"\\u00e9"',
        '"\\n\\u0001"',
        '"😀"',
        " 7 ",
    ),
]


class Requests:
    """Requests at random: likely ones, with mistakes in them."""

    def __init__(self, dnas: dict[str, str], seed: int) -> None:
        self._dnas, self._random = dnas, random.Random(seed)

    def one(self) -> tuple[str, str]:
        """Return a method and a target."""
        app_id = self._random.choice(["notes", "notes", "notes", "listed", "listed", "unlisted"])
        fn = self._random.choice(["echo", "echo", "echo", "count_notes", "list_titles", "whoami"])
        usual = {"dna": self._dnas[app_id], "app": app_id, "zome": "notes", "fn": fn}
        parts = [self._mostly(value, kind) for kind, value in usual.items()]
        if self._random.random() < 0.03:
            parts.insert(self._random.randrange(1, 4), "")
        count = self._random.choice([0, 1, 1, 1, 1, 1, 1, 2])
        query = "&".join(self._field() for _ in range(count))
        return self._mostly("GET", "method"), "/".join(["", *parts]) + (
            "?" + query if query else ""
        )

    def _mostly(self, usual: str, kind: str) -> str:
        return usual if self._random.random() < 0.92 else self._random.choice(ODD[kind])

    def _field(self) -> str:
        value = encoded(self._mostly(self._json(3), "json").encode())
        match self._random.randrange(20):
            case 0:
                value = value[:-1]
            case 1:
                value += self._random.choice(["=", "%20", "\\", "&payload"])
            case 2 | 3:
                value = "".join(f"%{ord(each):02x}" for each in value)
        return f"{self._mostly('payload', 'name')}={value}"

    def _json(self, depth: int) -> str:
        if not depth or self._random.random() < 0.5:
            return self._random.choice(LEAVES)
        inner = [self._json(depth - 1) for _ in range(self._random.randrange(4))]
        keys = self._random.choices(['"a"', '"b"', '"é"', '""'], k=len(inner))
        pairs = [f"{key}:{value}" for key, value in zip(keys, inner, strict=True)]
        return self._random.choice([f"[{','.join(inner)}]", f"{{{', '.join(pairs)}}}"])


@dataclass(slots=True)
class Comparison:
    """What two gateways said to the same request."""

    agreed: Counter[int] = field(default_factory=Counter)
    differed: list[tuple[str, str, object, object]] = field(default_factory=list)

    def add(self, method: str, target: str, ours: Reply, theirs: Reply) -> None:
        if ours.essence == theirs.essence:
            self.agreed[ours.status] += 1
        else:
            self.differed.append((method, target, ours.essence, theirs.essence))


async def test_it_answers_whatever_is_asked_as_holochains_own_gateway_does(
    conductor: conductors.RealConductor, stand: Stand, theirs: Client
) -> None:
    """Status, type and body; hundreds of requests, seeded."""
    dnas = {
        app_id: dna_of(await gateways.settle(conductor.admin_port, app_id, stand.access))
        for app_id in FUNCTIONS
    }
    requests = Requests(dnas, SEED)
    compared = Comparison()
    for _ in range(REQUESTS):
        method, target = requests.one()
        ours, other = await stand.client.ask(target, method), await theirs.ask(target, method)
        compared.add(method, target, ours, other)
    assert not compared.differed
    assert {200, 400, 403, 404, 405, 500} <= set(compared.agreed)
    assert compared.agreed[200] > REQUESTS / 10


RECORDED = {
    "notes/notes/whoami": 200,
    "notes/notes/fail?payload=" + payload("because"): 500,
    "notes/notes/create_note?payload=" + payload({"title": 1}): 500,
    "notes/notes/create_note?payload=" + payload({"title": " ", "body": ""}): 500,
    "notes/nozome/echo": 500,
    "notes/notes/no_such": 500,
    "listed/notes/echo": 200,
    "listed/notes/count_notes": 403,
    "unlisted/notes/echo": 403,
}


@pytest.mark.parametrize("what", RECORDED)
async def test_what_was_recorded_of_that_other_gateway_is_so_here(
    conductor: conductors.RealConductor, stand: Stand, theirs: Client, what: str
) -> None:
    app_id = what.partition("/")[0]
    opens = await gateways.settle(conductor.admin_port, app_id, stand.access)
    target = f"/{dna_of(opens)}/{what}"
    ours, other = await stand.client.ask(target), await theirs.ask(target)
    assert ours.status == RECORDED[what]
    assert ours.essence == other.essence


async def create(client: Client, dna: str, title: str, answers: dict[str, Reply]) -> None:
    note = {"title": title, "body": "b"}
    answers[title] = await client.call(dna, "notes", "create_note", note)


async def keep_creating(
    stand: Stand, dna: str, name: str, answers: dict[str, Reply], stop: asyncio.Event
) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        await create(stand.client, dna, f"{name}-{number}", answers)


async def test_when_the_conductor_is_killed_every_answered_note_is_there_once(
    conductor: conductors.RealConductor, stand: Stand
) -> None:
    dna = dna_of(await gateways.settle(conductor.admin_port, "notes", stand.access))
    answers: dict[str, Reply] = {}
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in "abcdefgh":
            group.create_task(keep_creating(stand, dna, name, answers, stop))
        for _ in range(2):
            await more_answers(answers)
            await asyncio.to_thread(conductor.kill)
            await asyncio.to_thread(conductor.start)
            await gateways.settle(conductor.admin_port, "notes", stand.access)
        await more_answers(answers)
        stop.set()
    titles = Counter((await stand.client.call(dna, "notes", "list_titles")).json())
    created = {title for title, reply in answers.items() if reply.status == 200}
    not_sent = {title for title, reply in answers.items() if reply.status == 502}
    assert {reply.status for reply in answers.values()} <= {200, 500, 502}
    assert {title: titles[title] for title in created} == dict.fromkeys(created, 1)
    assert max(titles.values()) == 1
    assert not not_sent & set(titles)


async def more_answers(answers: dict[str, Reply], count: int = 20) -> None:
    """Wait for some calls that are answered well."""
    before = sum(reply.status == 200 for reply in answers.values())
    await gateways.until(
        lambda: sum(reply.status == 200 for reply in answers.values()) >= before + count
    )
