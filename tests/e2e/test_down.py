"""Ending and beginning again.

Everything comes back from disk, and nothing is left when it is down.
"""

import os
import signal
import socket
from pathlib import Path

from e2e import driving
from e2e.driving import Hive, eventually

WORKLOAD = """
name: steady
kind: process
process: {command: [sleep, "1000"]}
"""


def test_down_leaves_no_process_and_up_brings_the_same_state_back(tmp_path: Path) -> None:
    manifest = tmp_path / "w.yaml"
    manifest.write_text(WORKLOAD)
    with driving.stack(tmp_path / "hive") as hive:
        hive.run("apply", manifest, "--wait")
        before = hive.row("steady")
        hive.run("down")
        eventually(lambda: not hive.leftovers())
        assert hive.run("status", code=None).code == 3
        hive.up()
        after = hive.running("steady")
        assert (after["revision"], after["generation"]) == (
            before["revision"],
            before["generation"],
        )


def test_everything_killed_at_once_is_back_from_disk_after_up(tmp_path: Path) -> None:
    manifest = tmp_path / "w.yaml"
    manifest.write_text(WORKLOAD)
    with driving.stack(tmp_path / "hive") as hive:
        hive.run("apply", manifest, "--wait")
        pids = [*hive.parts().values(), hive.row("steady")["pid"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert hive.watcher is not None
        hive.watcher.wait()
        hive.watcher = None
        hive.up()
        hive.until(
            "steady", lambda row: row["actual"] == "running" and row["pid"] not in [None, *pids]
        )


def test_a_taken_port_is_said_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        hive = Hive(tmp_path / "hive")
        done = hive.run("up", "--port", other.getsockname()[1], code=2)
        assert "is taken" in done.err
        assert "--port 0" in done.err
        assert not hive.leftovers()


def test_detached_it_stays_and_down_stops_it(tmp_path: Path) -> None:
    hive = Hive(tmp_path / "hive")
    try:
        hive.run("up", "--port", 0, "--detach")
        assert hive.rows() == []
        assert hive.run("up", code=2).err
    finally:
        hive.run("down")
    eventually(lambda: not hive.leftovers())


def test_a_damaged_store_is_told_by_up_and_nothing_is_left_half_begun(tmp_path: Path) -> None:
    hive = Hive(tmp_path / "hive")
    hive.up("--port", 0)
    hive.down()
    store = hive.folder / "orchestrator" / "store.db"
    store.write_bytes(b"scribbled on" * 1000)
    done = hive.run("up", code=1)
    assert "cannot start the orchestrator" in done.err
    assert "store.db" in done.err
    assert store.read_bytes() == b"scribbled on" * 1000
    eventually(lambda: not hive.leftovers())


def test_a_part_of_the_organisation_does_not_run_on_a_joined_host(tmp_path: Path) -> None:
    hive = Hive(tmp_path / "hive")
    hive.folder.mkdir()
    (hive.folder / "settings.json").write_text('{"host": "attic", "hub": "nats://127.0.0.1:1"}')
    for part in ("hub", "orchestrator", "gateway"):
        assert "belongs to the stack behind" in hive.run(part, code=2).err
