"""A `process` workload through all parts, by the installed command."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import driving
from e2e.driving import Hive, eventually

SLEEPER = """
name: {name}
kind: process
process:
  command: [sh, -c, 'echo started with {word}; trap "exit 0" TERM; while true; do sleep 0.1; done']
readiness: {{log: started}}
restart: {{first_delay_s: 0.05, max_delay_s: 0.2, max_retries: 2, stable_after_s: 0.5}}
"""


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hive]:
    with driving.stack(tmp_path_factory.mktemp("stack") / "hive") as hive:
        yield hive


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "w.yaml"


def apply(hive: Hive, manifest: Path, name: str, *words: object, word: str = "one") -> None:
    manifest.write_text(SLEEPER.format(name=name, word=word))
    hive.run("apply", manifest, *words)


def test_it_is_declared_runs_and_its_log_is_there(hive: Hive, manifest: Path) -> None:
    apply(hive, manifest, "first", "--wait")
    row = hive.row("first")
    assert (row["actual"], row["desired"], row["revision"]) == ("running", "running", 1)
    assert set(row) == {
        *("workload", "kind", "revision", "host", "desired", "actual", "payload"),
        *("since", "pid", "restarts", "generation", "ports"),
    }
    assert "started with one" in hive.run("logs", "first").out
    assert "desired" in hive.run("why", "first").out
    assert "first" in hive.run("status").out


def test_killed_it_is_back_with_another_pid_and_the_log_of_before_is_kept(
    hive: Hive, manifest: Path
) -> None:
    apply(hive, manifest, "killed", "--wait")
    before = hive.row("killed")["pid"]
    os.kill(before, signal.SIGKILL)
    row = hive.until("killed", lambda row: row["actual"] == "running" and row["pid"] != before)
    assert row["restarts"] == 1
    assert "started" in hive.run("logs", "killed", "--previous").out


def test_the_same_again_changes_nothing_and_a_changed_manifest_is_a_new_revision(
    hive: Hive, manifest: Path
) -> None:
    apply(hive, manifest, "twice", "--wait")
    before = hive.row("twice")
    assert "unchanged" in hive.run("apply", manifest).out
    assert hive.row("twice") == before
    apply(hive, manifest, "twice", "--wait", word="two")
    after = hive.row("twice")
    assert after["revision"] == 2
    assert after["pid"] != before["pid"]
    assert "started with two" in hive.run("logs", "twice").out


def test_stop_start_restart(hive: Hive, manifest: Path) -> None:
    apply(hive, manifest, "stopped", "--wait")
    first = hive.row("stopped")["pid"]
    hive.run("stop", "stopped", "--wait")
    row = hive.row("stopped")
    assert (row["desired"], row["actual"], row["pid"]) == ("stopped", "installed", None)
    assert driving.is_dead(first)
    hive.run("start", "stopped", "--wait")
    second = hive.running("stopped")["pid"]
    hive.run("restart", "stopped", "--wait")
    hive.until(
        "stopped", lambda row: row["actual"] == "running" and row["pid"] not in {None, second}
    )


def test_what_keeps_failing_is_given_up_with_the_reason_and_begins_anew_when_asked(
    hive: Hive, manifest: Path
) -> None:
    manifest.write_text(
        "name: failing\nkind: process\nprocess: {command: [sh, -c, 'echo oh dear; exit 42']}\n"
        "restart: {first_delay_s: 0.02, max_delay_s: 0.05, max_retries: 2}\n"
    )
    done = hive.run("apply", manifest, "--wait", code=1)
    assert "42" in done.err
    row = hive.row("failing")
    assert row["actual"] == "error"
    assert row["payload"]["given_up"] is True
    said = hive.run("why", "failing").out
    assert "exited with code 42" in said
    assert "oh dear" in said
    assert "hive start failing" in said
    before = row["generation"]
    hive.run("start", "failing")
    hive.until("failing", lambda row: row["generation"] > before and "given_up" in row["payload"])


def test_what_runs_to_its_end_is_finished_and_waiting_for_it_ends(
    hive: Hive, manifest: Path
) -> None:
    manifest.write_text(
        "name: once\nkind: process\nprocess: {command: [sh, -c, 'sleep 0.2; echo done']}\n"
        "restart: {when: never}\n"
    )
    hive.run("apply", manifest, "--wait")
    row = hive.until("once", lambda row: row["pid"] is None)
    assert (row["actual"], row["payload"].get("finished")) == ("installed", True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as another user")
def test_run_as_another_user_it_has_a_folder_of_its_own_and_can_reach_it(
    hive: Hive, manifest: Path
) -> None:
    script = 'id -un; echo kept > "$PWD/file"; ls "$PWD"; exec sleep 1000'
    manifest.write_text(
        "name: other\nkind: process\nreadiness: {log: file}\n"
        f"process: {{user: nobody, command: [sh, -c, {json.dumps(script)}]}}\n"
    )
    reachable = hive.folder.parent
    while reachable != reachable.parent:
        reachable.chmod(reachable.stat().st_mode | 0o011)
        reachable = reachable.parent
    hive.run("apply", manifest, "--wait")
    assert "nobody" in hive.run("logs", "other").out
    hive.run("delete", "other", "--purge", "--wait")


def test_deleted_nothing_of_it_is_left(hive: Hive, manifest: Path) -> None:
    apply(hive, manifest, "gone", "--wait")
    pid = hive.row("gone")["pid"]
    folder = hive.folder / "host" / "workloads" / "gone"
    assert folder.exists()
    hive.run("delete", "gone", "--wait")
    assert [row for row in hive.rows() if row["workload"] == "gone"] == []
    eventually(lambda: driving.is_dead(pid))
    eventually(lambda: not folder.exists())
    hive.run("why", "gone", code=2)


def test_held_it_is_only_registered_until_it_is_assigned(hive: Hive, manifest: Path) -> None:
    apply(hive, manifest, "held", "--hold")
    row = hive.row("held")
    assert (row["actual"], row["host"], row["pid"]) == ("reported", None, None)
    assert "assign" in row["payload"]["reason"]
    (host,) = hive.json("host", "list")
    hive.run("assign", "held", host["id"])
    assert hive.running("held")["host"] == host["id"]


def test_a_second_up_on_one_folder_says_so_and_ends_with_2(hive: Hive) -> None:
    done = hive.run("up", code=2)
    assert "looks after it already" in done.err


def test_a_wrong_manifest_is_refused_with_its_line_and_the_right_name(
    hive: Hive, manifest: Path
) -> None:
    manifest.write_text("name: wrong\nkind: process\nproces:\n  command: [true]\n")
    done = hive.run("apply", manifest, code=2)
    assert f"{manifest}:3" in done.err
    assert "process" in done.err


def test_what_is_not_there_is_said_with_2_and_a_stack_that_is_not_there_with_3(
    hive: Hive, tmp_path: Path
) -> None:
    assert "nothing" in hive.run("why", "nothing", code=2).err
    assert "hive up" in hive.run("status", "--dir", tmp_path / "none", code=3).err


def test_events_tell_what_happened_and_the_audit_chain_verifies(
    hive: Hive, manifest: Path
) -> None:
    apply(hive, manifest, "told", "--wait")
    whats = [event["what"] for event in hive.json("events", "told")]
    assert "running" in whats
    assert "unbroken" in hive.run("audit", "verify").out


def test_every_command_has_help_with_an_example(hive: Hive) -> None:
    said = hive.run("--help").out
    for word in ("up", "apply", "status", "why", "logs", "delete"):
        assert word in said
        assert f"hive {word}" in hive.run(word, "--help").out


def test_shells_complete_the_words_and_the_names(hive: Hive, manifest: Path) -> None:
    apply(hive, manifest, "complete-me", "--wait")
    assert "_HIVE_COMPLETE" in hive.run("completion", "bash").out
    asking = Hive(
        hive.folder,
        {"_HIVE_COMPLETE": "bash_complete", "COMP_WORDS": "hive why comp", "COMP_CWORD": "2"},
    )
    assert "complete-me" in asking.run(code=None).out
