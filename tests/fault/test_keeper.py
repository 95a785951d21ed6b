"""The keeper is killed, at any moment, and what it held goes on: the same copy, and its count.

A program here notes when it starts beside another copy of itself, or beside what one left behind.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import keeping
from hivekeeper.model.errors import TransientError
from hivekeeper.model.policy import Readiness, RestartPolicy
from hivekeeper.model.program import ProgramSpec, ProgramStatus, State
from hivekeeper.supervisor import identity, logs
from keeping import Groups, Keeper, alive, until

PATIENT = RestartPolicy(max_retries=5, first_delay_s=0.01, max_delay_s=0.02)
"""Not stable before a minute: every end is a failure."""

SINGLE = (
    "exec 9>{folder}/lock; flock -n 9 || echo again >>{folder}/violations; "
    "(setsid sleep 1000 &); {then}"
)
"""The lock is held by all that the program starts: nothing of an earlier run may be left."""


def single(folder: Path, then: str = "echo up; exec sleep 1000", **more: Any) -> ProgramSpec:
    return keeping.spec(folder, SINGLE.format(folder=folder, then=then), **more)


def assert_single(folder: Path) -> None:
    assert not (folder / "violations").exists(), "there was a second copy"


async def test_a_killed_keeper_costs_a_program_nothing(tmp_path: Path) -> None:
    """The same process; and when it dies later, it is started again."""
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path)
        pid = await keeper.runs(spec)
        await keeper.until(spec.id, lambda s: s.failures == 0 and s.reason == "")
        for _ in range(2):
            keeper.kill()
            assert alive(pid)
            await keeper.start()
            status = await keeper.until(spec.id, State.READY)
            assert (status.pid, status.run, status.restarts) == (pid, 1, 0)
        os.kill(pid, signal.SIGKILL)
        status = await keeper.until(spec.id, lambda s: s.run == 2 and s.ready)
        assert status.last_end is not None
        assert str(status.last_end) == "ended, nobody saw how"
        assert_single(tmp_path)


async def test_what_ended_while_there_was_no_keeper_is_a_failure_that_nobody_saw(
    tmp_path: Path,
) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path, restart=PATIENT)
        pid = await keeper.runs(spec)
        keeper.kill()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        await keeper.start()
        status = await keeper.until(spec.id, lambda s: s.run == 2 and s.ready)
        assert (status.failures, status.restarts) == (1, 1)
        assert status.reason.startswith("ended, nobody saw how; retry 1 of 5")
        assert_single(tmp_path)


async def test_failures_are_counted_over_keepers_until_it_is_given_up(tmp_path: Path) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        policy = RestartPolicy(max_retries=5, first_delay_s=0.3, max_delay_s=0.3)
        spec = single(tmp_path, "exit 42", restart=policy)
        await keeper.hold(spec)
        for failures in (1, 2, 3):
            await keeper.until(spec.id, waits_after(failures))
            keeper.kill()
            await keeper.start()
        status = await keeper.until(spec.id, State.FAILED)
        assert (status.failures, status.restarts, status.run) == (6, 5, 6)
        assert status.reason == "exited with code 42; given up after 5 retries in a row"
        keeper.kill()
        await keeper.start()
        again = await keeper.until(spec.id, State.FAILED)
        assert (again.failures, again.run, again.reason) == (6, 6, status.reason)
        assert_single(tmp_path)


def waits_after(failures: int) -> Callable[[ProgramStatus], bool]:
    return lambda s: s.state is State.BACKOFF and s.failures == failures


async def test_a_stop_that_was_under_way_is_finished(tmp_path: Path) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        deaf = "trap '' TERM; echo deaf; sleep 1000; sleep 1000"
        spec = single(tmp_path, deaf, stop_timeout_s=1.0, readiness=Readiness(log="deaf"))
        pid = await keeper.runs(spec)
        await keeper.hold(spec, wanted=False, generation=2)
        await keeper.until(spec.id, State.STOPPING)
        keeper.kill()
        assert alive(pid)
        await keeper.start()
        await keeper.until(spec.id, State.STOPPED)
        assert not alive(pid)
        assert keeper.processes() == []


@pytest.mark.parametrize("way", ["log", "notify"])
async def test_a_start_that_was_under_way_goes_on(tmp_path: Path, way: str) -> None:
    wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; "
    tell = "echo now ready; " if way == "log" else "systemd-notify --ready; "
    readiness = Readiness(log="now ready") if way == "log" else Readiness(notify=True)
    if way == "notify":
        tell = (
            "exec /usr/bin/python3 -c 'import os, socket, time; "
            'socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", '
            'os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1)); time.sleep(1000)\'; '
        )
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path, wait + tell + "exec sleep 1000", readiness=readiness)
        await keeper.hold(spec)
        pid = (await keeper.until(spec.id, lambda s: s.pid is not None)).pid
        keeper.kill()
        await keeper.start()
        assert (await keeper.until(spec.id, State.STARTING)).pid == pid
        (tmp_path / "go").touch()
        assert (await keeper.until(spec.id, State.READY)).pid == pid
        assert_single(tmp_path)


async def test_a_start_that_was_under_way_keeps_its_deadline(tmp_path: Path) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        late = Readiness(log="never said", timeout_s=0.5)
        spec = single(tmp_path, readiness=late, restart=RestartPolicy(max_retries=0))
        await keeper.hold(spec)
        await keeper.until(spec.id, State.STARTING)
        keeper.kill()
        await keeper.start()
        status = await keeper.until(spec.id, State.FAILED)
        assert status.reason.startswith("was not ready within 0.5 s")


async def test_a_spec_that_changed_when_the_keeper_was_killed_is_run(tmp_path: Path) -> None:
    """It was on the disk, and the running program was started with the one before."""
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path)
        await keeper.runs(spec)
        keeper.kill()
        hold = keeper.folder / "programs" / spec.id / "hold.json"
        text = (
            hold.read_text()
            .replace("echo up", "echo changed")
            .replace('"edition":1', '"edition":2')
        )
        hold.write_text(text)
        await keeper.start()
        await keeper.until(spec.id, lambda s: s.run == 2 and s.ready)
        await until(lambda: b"changed" in logs.read(spec.logs, live=2).data)
        assert_single(tmp_path)


# It never signals a stranger.


@pytest.fixture
def stranger() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("other", ["start", "boot", "run"])
async def test_a_number_that_is_a_strangers_by_now_is_left_alone(
    tmp_path: Path, stranger: int, other: str
) -> None:
    """The pid file names a living process, but one of another start, boot or run."""
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path, readiness=Readiness(log="up"))
        pid = await keeper.runs(spec)
        keeper.kill()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        found = identity.stat(stranger)
        assert found is not None
        run, boot, started = 1, identity.boot_id(), found.started
        match other:
            case "start":
                started += 1
            case "boot":
                boot = "0" * 8 + boot[8:]
            case _:
                run = 2
        line = f"{run} {boot} {stranger} (sleep) S {'1 ' * 18}{started} 0"
        (keeper.folder / "programs" / spec.id / "pid").write_text(line)
        assert identity.written(keeper.folder / "programs" / spec.id / "pid") is not None
        await keeper.start()
        status = await keeper.until(spec.id, lambda s: s.run == 2 and s.ready)
        assert status.pid != stranger
        await keeper.client.release(spec.id, logs=True)
        assert alive(stranger)
        assert_single(tmp_path)


async def test_after_a_reboot_everything_that_ran_begins_anew_and_numbers_mean_nothing(
    tmp_path: Path, stranger: int
) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        ran = single(tmp_path, readiness=Readiness(log="up"))
        given_up = keeping.spec(tmp_path, "exit 1", "two", restart=PATIENT)
        finished = keeping.spec(tmp_path, "true", "three", restart=RestartPolicy(when="never"))  # type: ignore[arg-type]
        pid = await keeper.runs(ran)
        await keeper.hold(given_up)
        await keeper.hold(finished)
        await keeper.until(given_up.id, State.FAILED)
        await keeper.until(finished.id, State.FINISHED)
        keeper.kill()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        for left in keeper.processes():
            os.kill(left, signal.SIGKILL)
        boot, other = identity.boot_id(), "0" * 8 + identity.boot_id()[8:]
        started = identity.stat(stranger)
        assert started is not None
        for folder in (keeper.folder / "programs").iterdir():
            for name in ("known.json", "pid"):
                text = (folder / name).read_text().replace(boot, other)
                (folder / name).write_text(text.replace(f" {pid} ", f" {stranger} "))
        await keeper.start()
        status = await keeper.until(ran.id, lambda s: s.run == 2 and s.ready)
        assert (status.failures, status.restarts, status.reason) in [
            (0, 1, "the machine was restarted"),
            (0, 1, ""),
        ]
        assert (await keeper.until(given_up.id, lambda s: s.run > 6)).wanted
        assert (await keeper.until(finished.id, State.FINISHED)).run == 1
        assert alive(stranger)
        assert_single(tmp_path)


# Files that are torn, gone, or can't be written.


async def test_a_torn_account_of_a_program_means_a_fresh_start_without_a_second_copy(
    tmp_path: Path,
) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path, readiness=Readiness(log="up"))
        pid = await keeper.runs(spec)
        keeper.kill()
        (keeper.folder / "programs" / spec.id / "known.json").write_text('{"program": {"state"')
        await keeper.start()
        status = await keeper.until(spec.id, lambda s: s.ready and s.pid != pid)
        assert status.run == 2, "never the number of a log that is there"
        assert not alive(pid)
        assert_single(tmp_path)


async def test_what_cannot_be_read_is_left_alone_and_disturbs_nobody(tmp_path: Path) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        good, bad = keeping.spec(tmp_path, "exec sleep 1000", "good"), single(tmp_path)
        await keeper.runs(good)
        pid = await keeper.runs(bad)
        keeper.kill()
        hold = keeper.folder / "programs" / bad.id / "hold.json"
        hold.write_text("not JSON")
        await keeper.start()
        assert (await keeper.until(good.id, State.READY)).run == 1
        assert await keeper.get(bad.id) is None
        assert hold.read_text() == "not JSON"
        assert alive(pid)
        status = await keeper.hold(bad)
        assert (status.pid, status.state) == (pid, State.READY), "told again, it goes on with it"


async def test_a_launcher_that_is_still_at_work_is_waited_for(tmp_path: Path) -> None:
    """The successor finds the pid file locked: only its writer knows yet what will run."""
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = single(tmp_path, readiness=Readiness(log="up"))
        pid = await keeper.runs(spec)
        keeper.kill()
        file = keeper.folder / "programs" / spec.id / "pid"
        line = file.read_text()
        held = identity.blank(file)
        try:
            await keeper.start()
            status = await keeper.get(spec.id)
            assert status is not None
            assert status.pid is None, "not known yet"
            os.pwrite(held, line.encode(), 0)
        finally:
            os.close(held)
        assert (await keeper.until(spec.id, lambda s: s.pid is not None)).pid == pid
        assert_single(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small disk")
async def test_a_full_disk_keeps_no_program_down_and_loses_nothing(
    tmp_path: Path, disk: Path
) -> None:
    keeper = Keeper(disk / "keeper")
    try:
        await keeper.start()
        spec = single(tmp_path)
        pid = await keeper.runs(spec)
        await keeper.until(spec.id, lambda s: s.failures == 0 and s.reason == "")
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        os.kill(pid, signal.SIGKILL)
        status = await keeper.until(spec.id, lambda s: s.run == 2 and s.ready)
        with pytest.raises(TransientError, match="No space left"):
            await keeper.hold(spec, wanted=False, generation=2)
        assert (await keeper.until(spec.id, State.READY)).generation == 1
        keeper.kill()
        await keeper.start()
        again = await keeper.until(spec.id, State.READY)
        assert (again.pid, again.run, again.restarts) == (status.pid, 2, 1)
        await keeper.client.release(spec.id, logs=True)
        assert_nothing_left(keeper, spec)
        assert_single(tmp_path)
    finally:
        keeper.close()


# At any moment.


async def insist(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until it is answered, as a client does whose keeper comes and goes."""
    while True:
        with contextlib.suppress(TransientError):
            await ask()
            return
        await asyncio.sleep(0.01)


async def lead_a_life(keeper: Keeper, spec: ProgramSpec) -> None:
    """Hold a program; let it be killed, stopped and released."""
    await insist(lambda: keeper.hold(spec))
    pid = (await keeper.until(spec.id, lambda s: s.ready)).pid
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    await keeper.until(spec.id, lambda s: s.ready and s.pid != pid)
    await insist(lambda: keeper.hold(spec, wanted=False, generation=2))
    await keeper.until(spec.id, State.STOPPED)
    await insist(lambda: keeper.client.release(spec.id, logs=True))


async def live_through(folder: Path, step: int) -> bool:
    """Let the keeper be killed at one step of that life; return whether it came so far."""
    keeper, killed = Keeper(folder / "keeper"), False
    ready = Readiness(log="up")
    spec = single(folder, readiness=ready, stop_timeout_s=600.0, restart=PATIENT)
    try:
        keeper.launch(die_at=step)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            life = tasks.create_task(lead_a_life(keeper, spec), name="life")
            while not life.done():
                if keeper.ended:
                    killed = True
                    await keeper.start()
                await asyncio.sleep(0.005)
        assert_single(folder)
        assert_nothing_left(keeper, spec)
    finally:
        keeper.close()
    shutil.rmtree(folder)
    return killed


def assert_nothing_left(keeper: Keeper, spec: ProgramSpec) -> None:
    assert keeper.processes() == []
    assert [g for g in keeper.groups() if g.name == spec.id] == []
    assert list((keeper.folder / "programs").iterdir()) == []
    assert not Path(spec.logs).exists()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("lane", range(8))
async def test_killed_before_and_after_each_of_its_steps_it_loses_and_doubles_nothing(
    tmp_path: Path, lane: int
) -> None:
    """Every eighth step from `lane` on, until the life is over before that step comes."""
    step = lane + 1
    while await live_through(made(tmp_path / f"step{step}"), step):
        step += 8
    assert step > 8, "the life has many steps"


def has_run_since(run: int) -> Callable[[ProgramStatus], bool]:
    return lambda s: s.run > run


@pytest.mark.parametrize("groups", Groups)
async def test_killed_at_random_among_crashing_programs_it_never_doubles_one(
    tmp_path: Path, groups: Groups
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    sys.stdout.write(f"seed {seed}\n")
    forever = RestartPolicy(max_retries=1000, first_delay_s=0.005, max_delay_s=0.02)
    async with keeping.kept(tmp_path / "keeper", groups) as keeper:
        folders = [tmp_path / f"p{n}" for n in range(4)]
        specs = []
        for number, folder in enumerate(folders):
            folder.mkdir()
            script = SINGLE.format(folder=folder, then=f"sleep 0.0{number}3; exit {number}")
            specs.append(keeping.spec(folder, script, folder.name, restart=forever))
            await keeper.hold(specs[-1])
        for _ in range(8):
            await asyncio.sleep(chance.uniform(0, 0.1))
            keeper.kill()
            await keeper.start()
        for spec in specs:
            before = await keeper.until(spec.id, lambda s: s.run > 0)
            await keeper.until(spec.id, has_run_since(before.run + 1))
            await keeper.client.release(spec.id, logs=True)
        assert keeper.processes() == []
        for folder in folders:
            assert_single(folder)
