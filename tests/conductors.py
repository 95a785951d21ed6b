"""Conductors for tests: the real one, started and stopped by its pid, and what both are given.

A real one is looked for as the product does: `HIVE_HOLOCHAIN_DIR`, then PATH; a test that needs
one skips, with the reason, where there is none.
"""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.holochain import config, hashes
from hivekeeper.holochain.programs import Places, Programs
from hivekeeper.model.errors import PermanentError
from hivekeeper.model.manifest import HolochainNetwork
from hivekeeper.testing.conductor import FakeConductor
from hivekeeper.testing.happs import Call, Functions, GuestError

NOTES = Path(__file__).parents[1] / "examples/notes/notes.happ"
CLOCK = SystemClock()
START_S = 60.0
"""How long a test waits for a conductor on a machine that is busy with other things."""
STOP_S = 20.0


def programs() -> Programs:
    """Return the conductors of this machine; our own cache is not looked at."""
    named = os.environ.get("HIVE_HOLOCHAIN_DIR")  # noqa: TID251 -- tests are told by the environment
    folder = Path(named) if named else None
    path = os.environ.get("PATH", "")  # noqa: TID251
    return Programs(Places(folder=folder, path=path, cache=Path("/nonexistent")))


def real_program(line: str = "0.6") -> Path:
    """Return the conductor of a line, or skip the test."""
    try:
        with ThreadPoolExecutor() as outside:  # a fixture may be asked for from within a loop
            return outside.submit(asyncio.run, programs().find(line)).result().path
    except PermanentError as error:
        pytest.skip(str(error))


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RealConductor:
    """The real program in a folder of its own, running or not."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self.program = program
        self.admin_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        rendered = config.render(
            "0.6",
            data_root=str(folder),
            admin_port=self.admin_port,
            network=HolochainNetwork(),
        )
        (folder / "config.yaml").write_bytes(config.text(rendered))
        (folder / "passphrase").write_text("a secret of the test\n")

    def start(self) -> None:
        """Start it, and return once it is ready."""
        with (self.folder / "passphrase").open("rb") as stdin, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.program, "--piped", "-c", self.folder / "config.yaml"],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        deadline = time.monotonic() + START_S
        while b"Conductor ready." not in self.log.read_bytes():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"the conductor did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as it wants to be stopped; make sure that it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """Kill it outright."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def notes_functions() -> Functions:
    """Return what the example hApp does, as far as a fake conductor does, with its memory."""
    notes: list[dict[str, Any]] = []
    numbers = itertools.count(1)

    def create(call: Call) -> dict[str, Any]:
        note = dict(call.argument)
        note["hash"] = hashes.text(hashes.ACTION.of(next(numbers).to_bytes(32, "big")))
        note["author"] = hashes.text(call.cell.agent_pub_key)
        notes.append(note)
        call.emit({"type": "note_created", "title": note["title"]})
        return {"hash": note["hash"], "title": note["title"]}

    def fail(call: Call) -> None:
        raise GuestError(call.argument)

    nodes: list[str] = []

    def setup(call: Call) -> str:
        if nodes:
            raise GuestError("already set up")
        nodes.append(call.argument["node"])
        return nodes[0]

    return {
        ("notes", "create_note"): create,
        ("notes", "list_notes"): lambda _: notes,
        ("notes", "count_notes"): lambda _: len(notes),
        ("notes", "echo"): lambda call: call.argument,
        ("notes", "fail"): fail,
        ("notes", "setup"): setup,
        ("notes", "get_node"): lambda _: nodes[0] if nodes else None,
        ("notes", "whoami"): lambda call: {
            "agent": hashes.text(call.cell.agent_pub_key),
            "dna": hashes.text(call.cell.dna_hash),
        },
    }


def fake_conductor() -> FakeConductor:
    """Return a fake conductor for the example hApp."""
    return FakeConductor(clock=CLOCK, functions=notes_functions(), origins=config.ORIGINS)
