"""A stack driven as a user drives it: by the installed `hive` command, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HIVE: Final = Path(sys.executable).with_name("hive")
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
ENVIRONMENT: Final = dict(os.environ)  # noqa: TID251 -- commands are run in a user's environment
PATIENCE_S: Final = 60.0
"""Long enough for a noisy machine; nothing waits this long when all is well."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


def eventually(look: Callable[[], Any], *, within_s: float = PATIENCE_S, what: str = "") -> Any:
    """Return the first true value of `look`; fail with what was seen last."""
    deadline_s = time.monotonic() + within_s
    last: Any = None
    while time.monotonic() < deadline_s:
        last = look()
        if last:
            return last
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {what or look}; last seen: {last!r}")


@dataclass
class Hive:
    """One stack's folder, and the commands on it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    watcher: subprocess.Popen[str] | None = None

    def run(self, *words: object, code: int | None = 0) -> Outcome:
        """Run `hive WORDS` on this stack, and check its exit code."""
        done = subprocess.run(
            [str(HIVE), *map(str, words)],
            env={**ENVIRONMENT, "HIVE_DIR": str(self.folder), **self.env},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 3,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr)
        if code is not None:
            assert outcome.code == code, (words, outcome)
        return outcome

    def json(self, *words: object) -> Any:
        """Run a command with --json and return its document."""
        return json.loads(self.run(*words, "--json").out)

    def up(self, *words: object) -> None:
        """Bring it up in the foreground of a process of its own, and wait until it answers."""
        if self.watcher is not None:
            self.watcher.wait(PATIENCE_S)
        log = (self.folder.parent / f"{self.folder.name}.up.log").open("a+")
        start = log.tell()
        self.watcher = subprocess.Popen(
            [str(HIVE), "up", *map(str, words)],
            env={**ENVIRONMENT, "HIVE_DIR": str(self.folder), **self.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )

        def is_up() -> bool:
            assert self.watcher is not None
            log.seek(start)
            said = log.read()
            assert self.watcher.poll() is None, said
            return "hive: up in" in said

        try:
            eventually(is_up, what="hive up")
        finally:
            log.close()

    def down(self) -> None:
        """Stop everything, however it is."""
        self.run("down", code=None)
        if self.watcher is not None:
            self.watcher.kill()
            self.watcher.wait()
            self.watcher = None

    def rows(self, *words: object) -> list[Row]:
        """Return `hive status --json`."""
        rows: list[Row] = self.json("status", *words)
        return rows

    def row(self, name: str) -> Row:
        """Return the only row of a workload."""
        (row,) = [row for row in self.rows() if row["workload"] == name]
        return row

    def until(
        self, name: str, check: Callable[[Row], bool], *, within_s: float = PATIENCE_S
    ) -> Row:
        """Return the row of a workload once `check` holds."""
        last: list[Row] = []

        def look() -> Row | None:
            done = self.run("status", "--json", code=None)
            if done.code:
                return None
            last[:] = [row for row in json.loads(done.out) if row["workload"] == name]
            return next((row for row in last if check(row)), None)

        try:
            row: Row = eventually(look, within_s=within_s, what=name)
        except AssertionError as error:
            raise AssertionError(f"{error}; row: {last}") from None
        return row

    def running(self, name: str) -> Row:
        """Return the row of a workload once it runs."""
        return self.until(name, lambda row: row["actual"] == "running" and row["pid"] is not None)

    def url(self, part: str) -> str:
        """Return where a part answers."""
        return str(json.loads((self.folder / "endpoints.json").read_text())[part])

    def parts(self) -> dict[str, int]:
        """Return the process id of each part of ours, found as an operator would.

        By its command line.
        """
        marks = {
            "hub": f"{self.folder}/hub/hub.conf",
            "orchestrator": f"orchestrator --dir {self.folder}",
            "agent": f"host run --dir {self.folder}",
            "gateway": f"gateway --dir {self.folder}",
            "keeper": f"keeper --dir {self.folder}",
        }
        found = {}
        for pid, line in command_lines():
            for part, mark in marks.items():
                if mark in line and "/bin/sh" not in line:
                    found[part] = pid
        if self.watcher is not None and self.watcher.poll() is None:
            found["up"] = self.watcher.pid
        return found

    def kill(self, *names: str) -> None:
        """SIGKILL parts of ours."""
        pids = self.parts()
        for name in names:
            os.kill(pids[name], signal.SIGKILL)
        if "up" in names and self.watcher is not None:
            self.watcher.wait()
            self.watcher = None

    def leftovers(self) -> list[str]:
        """Return the command lines of all processes that have to do with this folder."""
        return [
            line for pid, line in command_lines() if str(self.folder) in line and not is_dead(pid)
        ]


def command_lines() -> Iterator[tuple[int, str]]:
    """Yield each process with its command line, words joined by blanks."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            yield int(entry.name), line


def is_dead(pid: int) -> bool:
    """Return whether a process is gone, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def stack(folder: Path, *words: object, env: dict[str, str] | None = None) -> Iterator[Hive]:
    """A stack on free ports, brought up; whatever happens, nothing of it is left."""
    hive = Hive(folder, env or {})
    try:
        hive.up("--port", 0, *words)
        yield hive
    finally:
        hive.down()
        for pid, line in command_lines():
            if str(folder) in line:
                os.kill(pid, signal.SIGKILL)
