"""The main job as a user does it: a real hApp, called over HTTP, and all of it killed."""

import base64
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import conductors
from e2e import driving
from e2e.driving import EXAMPLES, Hive, Row, eventually

pytestmark = [pytest.mark.conductor, pytest.mark.timeout(900)]
NOTES = EXAMPLES / "notes" / "notes.yaml"
PARTS = ("up", "keeper", "hub", "orchestrator", "agent", "gateway")


def conductor_env() -> dict[str, str]:
    """Where the conductor is; without one the test is skipped, with the reason."""
    program = conductors.real_program()
    return {"HIVE_HOLOCHAIN_DIR": str(program.parents[1])}


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hive]:
    folder = tmp_path_factory.mktemp("happ") / "hive"
    with driving.stack(folder, env=conductor_env()) as hive:
        hive.run("apply", often_killed(folder.parent), "--wait")
        yield hive


def often_killed(folder: Path) -> Path:
    """The example's manifest, for a conductor that is killed more often than any would be."""
    path = folder / "notes.yaml"
    text = NOTES.read_text().replace("happ: notes.happ", f"happ: {NOTES.parent / 'notes.happ'}")
    path.write_text(text + "restart: {max_retries: 100, stable_after_s: 1}\n")
    return path


@pytest.fixture
def notes(hive: Hive) -> Row:
    return hive.running("notes")


def ask(hive: Hive, row: Row, fn: str, payload: object = None) -> tuple[int, str]:
    """Call the gateway as any client does; -1 for an answer that never came."""
    dna = row["payload"]["dna_hashes"]["notes"]
    app = row["payload"]["app_info"]["installed_app_id"]
    path = f"/{dna}/{app}/notes/{fn}"
    if payload is not None:
        path += "?payload=" + base64.urlsafe_b64encode(json.dumps(payload).encode()).decode()
    parts = urlsplit(hive.url("gateway"))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return -1, repr(error)
    finally:
        connection.close()


def titles(hive: Hive, row: Row) -> list[str]:
    def look() -> tuple[str] | None:
        status, body = ask(hive, row, "list_titles")
        return (body,) if status == 200 else None

    found: list[str] = json.loads(eventually(look, what="list_titles")[0])
    return found


class Writer:
    """Writes notes one after the other, as fast as they are answered, and remembers which were."""

    def __init__(self, hive: Hive, row: Row, word: str) -> None:
        self._hive, self._row, self._word = hive, row, word
        self.answered: list[str] = []
        self.others: dict[str, tuple[int, str]] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        for number in itertools.count():
            if self._ends.is_set():
                return
            title = f"{self._word} {number}"
            answer = ask(self._hive, self._row, "create_note", {"title": title, "body": ""})
            if answer[0] == 200:
                self.answered.append(title)
            else:
                self.others[title] = answer
                time.sleep(0.05)

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        self._thread.start()
        try:
            eventually(lambda: len(self.answered) > 2, what=f"the first notes; {self.others}")
            yield self
        finally:
            self._ends.set()
            self._thread.join()

    def goes_on(self) -> None:
        """Wait until notes are answered again."""
        before = len(self.answered)
        eventually(lambda: len(self.answered) > before + 2, what=f"new notes; {self.others}")

    def check(self) -> None:
        """Every note that was answered is there once; none is there twice."""
        there = titles(self._hive, self._row)
        ours = [each for each in there if each.startswith(self._word + " ")]
        assert len(ours) == len(set(ours)), "a note was written twice"
        assert set(self.answered) <= set(ours), "an answered note is lost"


def test_it_is_called_over_http_and_by_the_command(hive: Hive, notes: Row) -> None:
    assert notes["payload"]["conductor"]["mode"] == "real"
    assert notes["payload"]["conductor"]["version"].startswith("0.6.")
    assert notes["payload"]["agent_pub_key"].startswith("uhCAk")
    assert notes["payload"]["dna_hashes"]["notes"].startswith("uhC0k")
    note = '{"title": "Milk", "body": "two litres"}'
    made = json.loads(hive.run("call", "notes", "notes", "create_note", note).out)
    status, body = ask(hive, notes, "get_note", made["hash"])
    assert status == 200
    assert json.loads(body)["title"] == "Milk"
    assert "a note needs a title" not in ask(hive, notes, "create_note", {"title": ""})[1]
    assert ask(hive, notes, "fail", "so")[0] == 500
    host = hive.json("host", "list")[0]["id"]
    assert json.loads(hive.run("call", "notes", "notes/notes", "get_node").out) == host


def test_applied_again_it_is_not_touched(hive: Hive, notes: Row) -> None:
    assert "unchanged" in hive.run("apply", often_killed(hive.folder.parent)).out
    assert hive.row("notes")["pid"] == notes["pid"]


def test_the_conductor_killed_is_back_on_its_port_and_no_answered_note_is_lost(
    hive: Hive, notes: Row
) -> None:
    with Writer(hive, notes, "conductor").writing() as writer:
        os.kill(notes["pid"], signal.SIGKILL)
        writer.goes_on()
    after = hive.until(
        "notes", lambda row: row["actual"] == "running" and row["pid"] != notes["pid"]
    )
    assert after["payload"]["conductor"] == notes["payload"]["conductor"]
    assert after["payload"]["agent_pub_key"] == notes["payload"]["agent_pub_key"]
    writer.check()


@pytest.mark.parametrize("part", PARTS)
def test_any_part_killed_is_back_and_the_conductor_does_not_notice(
    hive: Hive, notes: Row, part: str
) -> None:
    survives(hive, notes, part)


@pytest.mark.parametrize("pair", list(itertools.combinations(PARTS, 2)), ids="-".join)
def test_any_two_parts_killed_are_back_and_the_conductor_does_not_notice(
    hive: Hive, notes: Row, pair: tuple[str, str]
) -> None:
    survives(hive, notes, *pair)


def are_back(hive: Hive, before: dict[str, int], parts: tuple[str, ...]) -> bool:
    now = hive.parts()
    return set(now) == set(PARTS) and all(now[part] != before[part] for part in parts)


def survives(hive: Hive, notes: Row, *parts: str) -> None:
    before = hive.parts()
    with Writer(hive, notes, "-".join(parts)).writing() as writer:
        hive.kill(*parts)
        if "up" in parts:
            hive.up()
        eventually(lambda: are_back(hive, before, parts), what=f"{parts} back")
        writer.goes_on()
    after = hive.running("notes")
    assert after["pid"] == notes["pid"], "the conductor noticed"
    assert after["restarts"] == notes["restarts"]
    survivors, now = set(PARTS) - set(parts), hive.parts()
    assert {part: now[part] for part in survivors} == {part: before[part] for part in survivors}, (
        "a part that was not killed noticed"
    )
    writer.check()


@pytest.mark.parametrize("part", [part for part in PARTS if part != "up"])
def test_the_conductor_and_any_part_killed_are_back(hive: Hive, notes: Row, part: str) -> None:
    with Writer(hive, notes, f"both-{part}").writing() as writer:
        os.kill(notes["pid"], signal.SIGKILL)
        hive.kill(part)
        writer.goes_on()
    hive.until("notes", lambda row: row["actual"] == "running" and row["pid"] != notes["pid"])
    writer.check()


def test_stopped_deleted_and_applied_again_it_goes_on_with_its_data_and_purged_it_does_not(
    hive: Hive, notes: Row
) -> None:
    written = set(titles(hive, notes))
    agent = notes["payload"]["agent_pub_key"]
    hive.run("stop", "notes", "--wait")
    eventually(lambda: driving.is_dead(notes["pid"]))
    hive.run("start", "notes", "--wait")
    assert set(titles(hive, hive.running("notes"))) == written

    hive.run("delete", "notes", "--wait")
    folder = hive.folder / "host" / "workloads" / "notes"
    eventually(lambda: [each.name for each in folder.iterdir()] == ["data"], what="data alone")
    assert not (hive.folder / "host" / "access" / "notes.json").exists()
    nothing_of_it_runs(hive, notes)
    assert [row for row in hive.rows() if row["workload"] == "notes"] == []

    hive.run("apply", often_killed(hive.folder.parent), "--wait")
    again = hive.running("notes")
    assert again["payload"]["agent_pub_key"] == agent
    assert set(titles(hive, again)) == written

    hive.run("delete", "notes", "--purge", "--wait")
    eventually(lambda: not folder.exists(), what="nothing is left")
    nothing_of_it_runs(hive, again)

    hive.run("apply", often_killed(hive.folder.parent), "--wait")
    fresh = hive.running("notes")
    assert fresh["payload"]["agent_pub_key"] != agent
    assert titles(hive, fresh) == []


def nothing_of_it_runs(hive: Hive, row: Row) -> None:
    """No process, no port, no cgroup of it."""
    eventually(lambda: driving.is_dead(row["pid"]))
    ports = row["ports"].values()
    eventually(lambda: not any(is_open(port) for port in ports), what=f"{ports} closed")
    groups = [*Path("/sys/fs/cgroup").rglob("workload.notes*")]
    mine = [group for group in groups if str(hive.folder) in str(group)]
    assert mine == []


def is_open(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def test_two_happs_on_one_host_do_not_disturb_each_other(
    hive: Hive, notes: Row, tmp_path: Path
) -> None:
    second = tmp_path / "second.yaml"
    text = NOTES.read_text().replace("name: notes", "name: second", 1)
    second.write_text(text.replace("happ: notes.happ", f"happ: {NOTES.parent / 'notes.happ'}"))
    hive.run("apply", second, "--wait")
    other = hive.running("second")
    assert other["pid"] != notes["pid"]
    assert not set(other["ports"].values()) & set(notes["ports"].values())
    assert ask(hive, other, "create_note", {"title": "only here", "body": ""})[0] == 200
    assert "only here" not in titles(hive, notes)
    os.kill(other["pid"], signal.SIGKILL)
    assert ask(hive, notes, "count_notes")[0] == 200
    hive.until("second", lambda row: row["actual"] == "running" and row["pid"] != other["pid"])
    assert hive.row("notes")["pid"] == notes["pid"]
    hive.run("delete", "second", "--purge", "--wait")


def test_a_file_that_is_no_bundle_says_so_and_the_rest_is_undisturbed(
    hive: Hive, notes: Row, tmp_path: Path
) -> None:
    (tmp_path / "no.happ").write_bytes(b"this is no bundle")
    manifest = tmp_path / "no.yaml"
    manifest.write_text(
        "name: nobundle\nkind: holochain\nholochain: {line: '0.6', happ: no.happ}\n"
    )
    hive.run("apply", manifest, code=None)
    row = hive.until("nobundle", lambda row: row["actual"] == "error")
    assert row["payload"]["given_up"] is True
    assert "bundle" in hive.run("why", "nobundle").out
    assert hive.row("notes")["pid"] == notes["pid"]
    hive.run("delete", "nobundle", "--purge", "--wait")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'holochain 0.6.9: no'; exit 42", "exited with code 42"),
        ("sleep 1000", "ready"),
    ],
    ids=["exits-42", "hangs"],
)
def test_a_conductor_that_fails_or_hangs_at_start_is_told_in_why(
    tmp_path: Path, script: str, said: str
) -> None:
    program = tmp_path / "programs" / "0.6.9" / "holochain"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\ncase $1 in\n--version) echo 'holochain 0.6.9';;\n"
        f"--config-schema) echo '{{}}';;\n*) {script};;\nesac\n"
    )
    program.chmod(0o755)
    manifest = tmp_path / "bad.yaml"
    happ = EXAMPLES / "notes" / "notes.happ"
    manifest.write_text(
        f"name: bad\nkind: holochain\nholochain: {{line: '0.6', happ: {happ}}}\n"
        "restart: {first_delay_s: 0.05, max_delay_s: 0.1, max_retries: 1}\n"
    )
    env = {"HIVE_HOLOCHAIN_DIR": str(tmp_path / "programs")}
    with driving.stack(tmp_path / "hive", env=env) as hive:
        hive.run("apply", manifest)
        if script.startswith("sleep"):
            row = hive.until("bad", lambda row: row["pid"] is not None)
            assert row["actual"] == "installed"
            assert "starting" in hive.run("why", "bad").out
        else:
            hive.until("bad", lambda row: row["actual"] == "error")
            assert said in hive.run("why", "bad").out
        hive.run("delete", "bad", "--purge", "--wait")
