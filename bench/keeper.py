"""How soon the keeper has a killed program back, alone and among others, and what it costs.

    python bench/keeper.py [--others 50] [--kills 200]

A program says that it has begun by writing into a pipe that this script reads: the time is from
before the SIGKILL until that is read. About a millisecond of it is the program's own shell.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keeping
from hivekeeper.model.policy import RestartPolicy
from hivekeeper.model.program import ProgramSpec, State

STABLE = RestartPolicy(first_delay_s=0.01, max_delay_s=0.05, stable_after_s=0.0)
"""Stable after 10 ms: the same code path as after a minute, and a measurement need not wait."""


async def single(keeper: keeping.Keeper, folder: Path, kills: int) -> list[float]:
    """Return how long it took each time, in milliseconds."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    begun = os.open(pipe, os.O_RDWR)
    one = spec(folder, f"echo $$ >{pipe}; exec sleep 1000", "measured")
    await keeper.hold(one)
    pid, took_ms = int(os.read(begun, 64)), []
    for _ in range(kills):
        await asyncio.sleep(0.05)
        before = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        pid = int(os.read(begun, 64))
        took_ms.append((time.perf_counter() - before) * 1000)
    await keeper.client.release(one.id, logs=True)
    os.close(begun)
    pipe.unlink()
    return sorted(took_ms)


async def storm(keeper: keeping.Keeper, folder: Path, count: int) -> float:
    """Kill `count` programs at once; return after how many milliseconds all were back."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    begun = os.open(pipe, os.O_RDWR)
    for number in range(count):
        script = f"echo $$ >{pipe}; exec sleep 1000"
        await keeper.hold(spec(folder, script, f"storm-{number}"))
    pids = read_pids(begun, count)
    await asyncio.sleep(1)
    before = time.perf_counter()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    read_pids(begun, count)
    took_ms = (time.perf_counter() - before) * 1000
    os.close(begun)
    return took_ms


def read_pids(begun: int, count: int) -> list[int]:
    text = b""
    while text.count(b"\n") < count:
        text += os.read(begun, 65536)
    return [int(word) for word in text.split()]


def spec(folder: Path, script: str, name: str) -> ProgramSpec:
    return keeping.spec(folder, script, name, restart=STABLE)


def show(what: str, took_ms: list[float]) -> None:
    p99 = took_ms[min(len(took_ms) - 1, int(len(took_ms) * 0.99))]
    print(f"{what}: p50 {statistics.median(took_ms):.1f} ms, p99 {p99:.1f} ms, n {len(took_ms)}")


def memory(pid: int) -> str:
    words = dict(
        line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    rss, pss = (int(words[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    return f"RSS {rss:.1f} MiB, PSS {pss:.1f} MiB"


def ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]))


async def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--others", type=int, default=50)
    words.add_argument("--kills", type=int, default=200)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with keeping.kept(folder / "keeper") as keeper:
            show("alone", await single(keeper, folder, asked.kills))
            for number in range(asked.others):
                await keeper.hold(spec(folder, "exec sleep 1000", f"other-{number}"))
            await keeper.until(spec(folder, "", f"other-{number}").id, State.READY)
            show(f"among {asked.others}", await single(keeper, folder, asked.kills))
            before = ticks(keeper.pid)
            await asyncio.sleep(5)
            idle = (ticks(keeper.pid) - before) / os.sysconf("SC_CLK_TCK") / 5
            print(f"idle with {asked.others}: {idle:.2%} of a core, {memory(keeper.pid)}")
            print(f"200 killed at once, all back: {await storm(keeper, folder, 200):.0f} ms")
            print(f"with {asked.others + 200}: {memory(keeper.pid)}")


if __name__ == "__main__":
    asyncio.run(main())
