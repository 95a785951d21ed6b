"""Measures what `bench/README.md` reports, side by side with what a user would otherwise pick.

Usage: ./dev bench [restart] [write] [memory] [status]    (all of them when none is named)

Prints medians and the 99th percentile as a table; asserts nothing: machines are noisy.
"""

import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HIVE = Path(sys.executable).with_name("hive")
SHELL = "echo $$ >>{file}; exec sleep 1000"
ROUNDS = 50
NEIGHBOURS = 200


def wait_for(look: Callable[[], object], within_s: float = 60.0) -> float:
    """Return when `look` was first true, in monotonic seconds; looks as fast as it can."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if look():
            return time.monotonic()
    raise SystemExit(f"bench: not within {within_s} s")


def last_pid(file: Path) -> int:
    """Return the pid in the last whole line of `file`, or 0."""
    try:
        lines = file.read_text().split("\n")
    except FileNotFoundError:
        return 0
    return int(lines[-2]) if len(lines) > 1 else 0


def measure_restarts(file: Path, *, settle_s: float) -> list[float]:
    """Kill what wrote its pid to `file`, and return how long each next start took, in ms."""
    found = []
    for _ in range(ROUNDS):
        before = last_pid(file)
        time.sleep(settle_s)
        began_s = time.monotonic()
        os.kill(before, signal.SIGKILL)
        ended_s = wait_for(lambda before=before: last_pid(file) != before)
        found.append((ended_s - began_s) * 1000)
    return found


def row(name: str, values: list[float], unit: str) -> None:
    """Print one line of a table."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"| {name} | {statistics.median(ordered):.1f} {unit} | {p99:.1f} {unit} | {len(values)} |",
        flush=True,
    )


@contextmanager
def stack(*words: str) -> Iterator[Path]:
    """A stack on free ports, in a folder that goes away."""
    folder = Path(tempfile.mkdtemp(prefix="hive-bench-"))
    hive("up", "--dir", str(folder / "s"), "--port", "0", "--detach", *words)
    try:
        yield folder / "s"
    finally:
        hive("down", "--dir", str(folder / "s"))
        shutil.rmtree(folder)


def hive(*words: str) -> str:
    """Run a command of the command line, and return what it printed."""
    return subprocess.run([HIVE, *words], check=True, capture_output=True, text=True).stdout


def manifest(name: str, command: str, **restart: float) -> str:
    """Return a manifest of a program that is a line of shell."""
    policy = json.dumps(
        {"first_delay_s": 0.1, "max_retries": 1000, "stable_after_s": 0.2} | restart
    )
    process = json.dumps({"command": ["sh", "-c", command]})
    return f"name: {name}\nkind: process\nprocess: {process}\nrestart: {policy}\n"


def bench_restart() -> None:
    """SIGKILL to the first line of the next start, alone and among others; beside s6 and runit."""
    print("\n| SIGKILL to next start | median | p99 | rounds |\n|---|---|---|---|")
    for count in (0, NEIGHBOURS):
        with stack() as where:
            file = where.parent / "pids"
            text = [manifest("target", SHELL.format(file=file))]
            text += [manifest(f"n{k}", "exec sleep 1000") for k in range(count)]
            (where.parent / "w.yaml").write_text("---\n".join(text))
            hive("apply", str(where.parent / "w.yaml"), "--wait", "--dir", str(where))
            values = measure_restarts(file, settle_s=0.4)
            row(f"Hivekeeper, among {count} others", values, "ms")
    for name, supervise in (("s6", with_s6), ("runit", with_runit)):
        supervise(name)


def with_s6(name: str) -> None:
    """Measure s6, where it is installed."""
    scan = shutil.which("s6-svscan")
    if scan is None:
        print(f"| {name} | not installed | | |")
        return
    measure_other(name, [scan], settle_s=1.2)


def with_runit(name: str) -> None:
    """Measure runit, where it is installed."""
    scan = shutil.which("runsvdir")
    if scan is None:
        print(f"| {name} | not installed | | |")
        return
    measure_other(name, [scan, "-P"], settle_s=1.2)


def measure_other(name: str, command: list[str], *, settle_s: float) -> None:
    """Measure a supervisor of service folders; both hold back a start that comes too soon."""
    folder = Path(tempfile.mkdtemp(prefix="hive-bench-"))
    file, script = folder / "pids", folder / "scan" / "target" / "run"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\n{SHELL.format(file=file)}\n")
    script.chmod(0o755)
    running = subprocess.Popen(
        [*command, str(folder / "scan")], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: last_pid(file))
        row(name, measure_restarts(file, settle_s=settle_s), "ms")
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        os.kill(last_pid(file), signal.SIGKILL)
        subprocess.run(["pkill", "-9", "-f", str(folder)], check=False)
        running.wait()
        shutil.rmtree(folder, ignore_errors=True)


def bench_write() -> None:
    """A manifest posted to the API, to the program's first line."""
    import http.client  # noqa: PLC0415 -- this one alone
    from urllib.parse import urlsplit  # noqa: PLC0415

    with stack() as where:
        target = urlsplit(json.loads((where / "endpoints.json").read_text())["api"])
        headers = {
            "Authorization": f"Bearer {(where / 'token').read_text().strip()}",
            "Content-Type": "application/yaml",
        }
        values = []
        for number in range(ROUNDS):
            file = where.parent / f"{number}.pid"
            body = manifest(f"w{number}", SHELL.format(file=file)).encode()
            connection = http.client.HTTPConnection(target.hostname, target.port)
            began_s = time.monotonic()
            connection.request("POST", "/v1/workloads", body=body, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status >= 300:
                raise SystemExit(f"bench: the API answered {answer.status}")
            ended_s = wait_for(lambda file=file: last_pid(file))
            connection.close()
            values.append((ended_s - began_s) * 1000)
    print("\n| desired write to program started | median | p99 | rounds |\n|---|---|---|---|")
    row("POST to the program's first line", values, "ms")


def bench_memory() -> None:
    """Proportional memory of every process of the stack, with ten workloads."""
    with stack() as where:
        text = "---\n".join(manifest(f"m{k}", "exec sleep 1000") for k in range(10))
        (where.parent / "w.yaml").write_text(text)
        hive("apply", str(where.parent / "w.yaml"), "--wait", "--dir", str(where))
        time.sleep(5)
        print("\n| process | proportional | resident |\n|---|---|---|")
        total = 0.0
        for entry in sorted(Path("/proc").iterdir()):
            if not entry.name.isdecimal():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                rollup = (entry / "smaps_rollup").read_text()
            except OSError:
                continue
            if str(where) not in line or "sleep" in line:
                continue
            sizes = {
                each.split(":")[0]: int(each.split()[1]) / 1024 for each in rollup.splitlines()[1:]
            }
            total += sizes["Pss"]
            name = (
                "nats-server"
                if "nats-server" in line
                else line.split("hivekeeper.cli.main ")[-1].replace(f"{HIVE} ", "")
            )
            print(f"| {name.split(' --')[0]} | {sizes['Pss']:.0f} MiB | {sizes['Rss']:.0f} MiB |")
        print(f"| **all** | **{total:.0f} MiB** | |")


def bench_status() -> None:
    """Wall time of commands a person waits for, against a running stack."""
    with stack() as where:
        (where.parent / "w.yaml").write_text(manifest("s", "exec sleep 1000"))
        hive("apply", str(where.parent / "w.yaml"), "--wait", "--dir", str(where))
        print("\n| command | median | p99 | rounds |\n|---|---|---|---|")
        for words in (
            ["--help"],
            ["status", "--dir", str(where)],
            ["status", "--json", "--dir", str(where)],
        ):
            values = []
            for _ in range(20):
                began_s = time.monotonic()
                hive(*words)
                values.append((time.monotonic() - began_s) * 1000)
            row(
                "hive " + " ".join(each for each in words if each[0] != "/" and each != "--dir"),
                values,
                "ms",
            )


BENCHES = {
    "restart": bench_restart,
    "write": bench_write,
    "memory": bench_memory,
    "status": bench_status,
}


def main() -> None:
    """Run the measurements that are named."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = set(names) - set(BENCHES)
    if unknown:
        raise SystemExit(
            f"bench: there is no {', '.join(sorted(unknown))}; there is {', '.join(BENCHES)}"
        )
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}"
    )
    for name in names:
        BENCHES[name]()


main()
