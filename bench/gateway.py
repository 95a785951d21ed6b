"""What the gateway costs: calls a second, beside Holochain's own gateway, in one run.

    python bench/gateway.py [--seconds 5] [--rounds 3]

Needs `wrk` in PATH, and Holochain's programs (HIVE_HOLOCHAIN_DIR, or PATH) for the comparison.
Gateways take turns, and the best round of each counts, so that what else the machine does matters
less. First a conductor that answers at once (`instant.py`), then the real one.
"""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import conductors
import gateways
from hivekeeper.adapters.clock import SystemClock
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import parts
from hivekeeper.gateway import gateway
from hivekeeper.testing.bus import FakeHub
from hivekeeper.wire import authority

CONNECTIONS = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answers calls."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """What wrk saw in one round, and what it cost the server."""

    calls_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    bad: str


async def serve(port: int, folder: Path) -> None:
    """Be a gateway, of the hApps handed over in `folder`."""
    hub = FakeHub()
    async with (
        gateways.orchestrating(hub, gateways.route()),
        hub.connect(authority.GATEWAY) as bus,
    ):
        await gateway.run(
            sockets=[parts.listen("127.0.0.1", port)],
            folder=folder / "gateway",
            access=folder / "access",
            host=gateways.HERE,
            bus=bus,
            disk=RealDisk(),
            clock=SystemClock(),
        )


@contextmanager
def started(name: str, port: int, *command: object, **env: str) -> Iterator[Server]:
    """Run a server, on a port of its own, while the context lasts."""
    words = [str(word) for word in command]
    process = subprocess.Popen(words, env=env or None, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not answers(port):
            assert time.monotonic() < deadline, f"{name} did not start"
            time.sleep(0.02)
        yield Server(name, port, process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        connection.connect()
        connection.close()
    except OSError:
        return False
    return True


def ours(folder: Path) -> AbstractContextManager[Server]:
    port = conductors.free_port()
    return started("ours", port, sys.executable, __file__, "--serve", port, folder)


def measure(server: Server, path: str, connections: int, seconds: int) -> Round:
    url = f"http://127.0.0.1:{server.port}{path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    before = cpu_s(server.pid)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used_s = cpu_s(server.pid) - before
    calls = int(found(r"(\d+) requests in", said))
    return Round(
        calls_s=float(found(r"Requests/sec: +([\d.]+)", said)),
        p50_ms=milliseconds(found(r"50% +(\S+)", said)),
        p99_ms=milliseconds(found(r"99% +(\S+)", said)),
        cpu_us=used_s / calls * 1e6,
        bad=" ".join(re.findall(r"Non-2xx.*|Socket errors.*", said)),
    )


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(found(r"Pss: +(\d+)", text)) / 1024


def compare(what: str, path: str, servers: list[Server], asked: argparse.Namespace) -> None:
    print(f"\n{what}, load {os.getloadavg()[0]:.1f}")
    for server in servers:
        measure(server, path, 8, 1)
    for connections in CONNECTIONS:
        rounds: dict[Server, list[Round]] = {server: [] for server in servers}
        for _ in range(asked.rounds):
            for server in servers:
                rounds[server].append(measure(server, path, connections, asked.seconds))
        for server in servers:
            best = max(rounds[server], key=lambda each: each.calls_s)
            print(
                f"  {connections:2} connections, {server.name:10} {best.calls_s:7.0f} calls/s,"
                f" p50 {best.p50_ms:6.2f} ms, p99 {best.p99_ms:6.2f} ms,"
                f" {best.cpu_us:4.0f} us of CPU a call {best.bad}"
            )
    for server in servers:
        print(f"  {server.name}: PSS {memory_mib(server.pid):.1f} MiB")


def instant(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), conductors.free_port()
        script = Path(__file__).parent / "instant.py"
        with (
            started("instant", port, sys.executable, script, port, folder / "access"),
            ours(folder) as mine,
        ):
            path = f"/{gateways.DNA_TEXT}/notes/notes/count_notes"
            compare("a conductor that answers at once", path, [mine], asked)
            compare("/health alone", "/health", [mine], asked)


def real(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, program = Path(name), conductors.real_program()
        conductor = conductors.RealConductor(folder / "hc", program)
        try:
            conductor.start()
            access = folder / "access"
            opens = asyncio.run(gateways.settle(conductor.admin_port, "notes", access))
            path = f"/{gateways.dna_of(opens)}/notes/notes/count_notes"
            port = conductors.free_port()
            env = {
                "HC_GW_ADMIN_WS_URL": f"ws://127.0.0.1:{conductor.admin_port}",
                "HC_GW_ALLOWED_APP_IDS": "notes",
                "HC_GW_ALLOWED_FNS_notes": "*",
                "HC_GW_PORT": str(port),
                "RUST_LOG": "error",
            }
            with (
                ours(folder) as mine,
                started("hc-http-gw", port, program.parent / "hc-http-gw", **env) as theirs,
            ):
                compare(f"the real conductor ({program})", path, [theirs, mine], asked)
        finally:
            conductor.stop()


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--seconds", type=int, default=5)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.serve:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(int(asked.serve[0]), Path(asked.serve[1])))
        return
    instant(asked)
    real(asked)


if __name__ == "__main__":
    main()
