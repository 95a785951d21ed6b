"""A real keeper with real programs: what it starts, watches, bounds, kills, and tells."""

import asyncio
import contextlib
import http.server
import json
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import keeping
from hivekeeper.model import limits
from hivekeeper.model.errors import (
    ConflictError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import ProgramId
from hivekeeper.model.policy import HttpProbe, Readiness, Resources, RestartPolicy
from hivekeeper.model.program import ProgramSpec, State
from hivekeeper.supervisor import logs
from hivekeeper.supervisor.client import KeeperClient
from hivekeeper.wire import keeper as wire
from keeping import Groups, Keeper, alive, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ONCE = RestartPolicy(max_retries=0)
FRAIL = RestartPolicy(first_delay_s=0.01, max_delay_s=0.02)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """A keeper for all tests that leave it alone; each has a program of a name of its own."""
    held = Keeper(tmp_path_factory.mktemp("shared") / "keeper")
    try:
        held.launch()
        asyncio.run(until(held._answers))
        yield held
    finally:
        held.close()


@pytest.fixture
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Make a spec whose name is the test's own."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**9}"

    def make(script: str, **more: Any) -> ProgramSpec:
        return keeping.spec(tmp_path, script, name, **more)

    return make


def output(spec: ProgramSpec, **words: Any) -> str:
    return logs.read(spec.logs, live=None, **words).data.decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What a program begins with.


async def test_a_program_gets_what_its_spec_says_and_little_else(
    shared: Keeper, one: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("from a file")
    odd = {"plain": "1", "with.dots": "2", "WITH-DASH": "a b"}
    spec = one(
        "pwd; cat; echo; tr '\\0' '\\n' </proc/self/environ; ls /proc/self/fd | wc -l; ulimit -n",
        env=odd,
        cwd=str(tmp_path),
        stdin=str(tmp_path / "secret"),
        restart=ONCE,
    )
    await shared.hold(spec)
    await shared.until(spec.id, State.FAILED)
    first, second, *rest = output(spec).splitlines()
    assert (first, second) == (str(tmp_path), "from a file")
    *variables, files, open_files = rest
    found = dict(v.split("=", 1) for v in variables)
    assert odd.items() <= found.items()
    assert found["HIVE_PROGRAM"] == spec.id
    assert found["HIVE_RUN"] == "1"
    own = {"PATH", "HOME", "LANG", "TZ", "PWD", "HIVE_PROGRAM", "HIVE_RUN", "HIVE_KEEPER"}
    assert found.keys() <= own | odd.keys()
    assert int(files) == 4, "0, 1, 2 and the folder that ls reads: nothing of the keeper's"
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert open_files == str(soft), "not the keeper's own, higher limit"


async def test_arguments_arrive_as_they_are(shared: Keeper, one: Any, tmp_path: Path) -> None:
    words = ("$HOME", "`id`", "a b", "", "*", "-n", "';'", "\n", "é\U0001f41d")
    spec = ProgramSpec(
        id=one("").id,
        command=(sys.executable, "-c", "import sys; print(sys.argv[1:])", *words),
        logs=str(tmp_path / "logs"),
        restart=ONCE,
    )
    await shared.hold(spec)
    await shared.until(spec.id, State.FAILED)
    assert output(spec).strip() == str(list(words))


async def test_signals_are_as_if_nobody_had_touched_them(shared: Keeper, one: Any) -> None:
    spec = one("grep -E 'Sig(Blk|Ign)' /proc/self/status", restart=ONCE)
    await shared.hold(spec)
    await shared.until(spec.id, State.FAILED)
    values = [int(line.split()[1], 16) for line in output(spec).splitlines()]
    assert values == [0, 0]


@needs_root
async def test_a_program_runs_as_its_user_with_that_users_groups(shared: Keeper, one: Any) -> None:
    script = "id -un; id -Gn; echo $HOME; grep CapEff /proc/self/status"
    spec = one(script, user="nobody", restart=ONCE)
    await shared.hold(spec)
    await shared.until(spec.id, State.FAILED)
    name, groups, home, capabilities = output(spec).splitlines()
    assert (name, groups, home) == ("nobody", "nogroup", pwd.getpwnam("nobody").pw_dir)
    assert int(capabilities.split()[1], 16) == 0


async def test_a_user_that_is_not_there_is_refused_with_a_way_out(
    shared: Keeper, one: Any
) -> None:
    with pytest.raises(UserError, match="there is no user 'no-such-user' here") as caught:
        await shared.hold(one("true", user="no-such-user"))
    assert "useradd" in caught.value.hint


async def test_a_signal_that_does_not_exist_is_refused(shared: Keeper, one: Any) -> None:
    with pytest.raises(UserError, match="there is no signal 'SIGNONE'"):
        await shared.hold(one("true", stop_signal="SIGNONE"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"command": ("no-such-program",)}, "no program 'no-such-program'"),
        ({"command": ("/no/such/program",)}, "no program '/no/such/program'"),
        ({"cwd": "/no/such/folder"}, "there is no folder '/no/such/folder'"),
        ({"stdin": "/no/such/file"}, "No such file or directory: '/no/such/file'"),
        ({"logs": "/proc/no/logs"}, "No such file or directory"),
    ],
)
async def test_what_cannot_be_started_says_why(
    shared: Keeper, one: Any, change: dict[str, Any], reason: str
) -> None:
    base = one("true", restart=ONCE)
    fields = {name: getattr(base, name) for name in base.__struct_fields__}
    spec = ProgramSpec(**(fields | change))
    await shared.hold(spec)
    status = await shared.until(spec.id, State.FAILED)
    assert status.reason.startswith("could not be started: ")
    assert reason in status.reason


@needs_root
def test_a_signal_for_a_program_that_is_being_born_is_not_taken_for_the_keepers() -> None:
    """The child shares the file by which signals wake the keeper's loop, until it has its own."""
    script = (
        "import asyncio, contextlib, os, signal, sys\n"
        "from hivekeeper.supervisor import cgroups, cloning\n"
        "async def main():\n"
        "    heard, base = [], cgroups.find(sys.argv[1]).members.base\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.append, 1)\n"
        "    for number in range(30):\n"
        "        group = base / str(number)\n"
        "        group.mkdir()\n"
        "        words = ['sh', '-c', 'sleep 9']\n"
        "        pid, pidfd = cloning.start(str(group), '/bin/sh', words, {}, ())\n"
        "        signal.pidfd_send_signal(pidfd, signal.SIGTERM)\n"
        "        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM\n"
        "        os.close(pidfd)\n"
        "        await asyncio.sleep(0)\n"
        "        while not cgroups.remove([str(group)]): pass\n"
        "    base.rmdir()\n"
        "    print(heard)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, f"hivekeeper-test-{os.getpid()}"]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"[]\n"


# What belongs to it.


LEAVES_ORPHANS = (
    "sleep 1001 & setsid sleep 1002 & (setsid sh -c 'sleep 1003 & (setsid sleep 1004 &)' &) ; "
    "{end}"
)


def family(spec: ProgramSpec) -> list[int]:
    """Return the living `sleep`s of a program, however far they went."""
    marked = keeping.marked(f"HIVE_PROGRAM={spec.id}")
    return [pid for pid in marked if command_name(pid) == "sleep"]


def command_name(pid: int) -> str:
    """Return what a process is called; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.fixture(params=Groups)
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Keeper]:
    """A keeper on a machine with each kind of control groups, and without any."""
    if request.param is not Groups.NONE and os.geteuid() != 0:
        pytest.skip("needs root: control groups")
    async with keeping.kept(tmp_path / "keeper", request.param) as keeper:
        yield keeper


async def test_nothing_of_a_program_survives_its_stop(kind: Keeper, one: Any) -> None:
    """Background jobs, new sessions and double forks, while the main process ignores SIGTERM."""
    spec = one(
        "trap '' TERM; " + LEAVES_ORPHANS.format(end="while :; do sleep 1000; done"),
        stop_timeout_s=0.05,
    )
    await kind.runs(spec)
    await until(lambda: len(family(spec)) == 5)
    await kind.hold(spec, wanted=False, generation=2)
    status = await kind.until(spec.id, State.STOPPED)
    assert family(spec) == [], "when it says stopped, nothing is left"
    assert status.last_end is not None
    assert status.last_end.signal == "SIGKILL"


async def test_what_a_program_leaves_behind_is_killed_before_the_next_start(
    kind: Keeper, one: Any, tmp_path: Path
) -> None:
    """Each run looks whether anything of an earlier one still lives: its locks would be held."""
    count = tmp_path / "violations"
    spec = one(
        f"exec 9>{tmp_path}/lock; flock -n 9 || echo again >>{count}; "
        + LEAVES_ORPHANS.format(end="exit 1"),
        restart=FRAIL,
    )
    await kind.hold(spec)
    await kind.until(spec.id, State.FAILED)
    assert family(spec) == []
    assert not count.exists()


async def test_after_its_release_nothing_is_left_of_a_program(kind: Keeper, one: Any) -> None:
    spec = one(LEAVES_ORPHANS.format(end="exec sleep 1000"))
    await kind.runs(spec)
    await kind.client.release(spec.id, logs=True)
    assert family(spec) == []
    assert kind.processes() == []
    assert [g for g in kind.groups() if g.name == spec.id] == []
    assert files_of(kind, spec) == []


def files_of(keeper: Keeper, spec: ProgramSpec) -> list[Path]:
    return [*(keeper.folder / "programs").iterdir(), *Path(spec.logs).parent.iterdir()]


async def test_logs_are_left_if_asked_for(shared: Keeper, one: Any) -> None:
    spec = one("echo here; exec sleep 1000")
    await shared.runs(spec)
    await until(lambda: output(spec) == "here\n")
    await shared.client.release(spec.id, logs=False)
    assert output(spec) == "here\n"


def limits_of(keeper: Keeper, pid: int, files: Iterable[str]) -> dict[str, str]:
    """Return what is in these files of the groups that the process is in."""
    return {
        file: (group / file).read_text().strip()
        for group in keeper.groups()
        for file in files
        if str(pid) in (group / "cgroup.procs").read_text().split() and (group / file).exists()
    }


@needs_root
@pytest.mark.parametrize("groups", [Groups.UNIFIED, Groups.VERSION_1])
async def test_limits_are_set_where_the_controllers_are(
    groups: Groups, one: Any, tmp_path: Path
) -> None:
    resources = Resources(memory_bytes=64 * limits.MIB, cpu=0.5, tasks=20)
    spec = one("cat /proc/self/cgroup; exec sleep 1000", resources=resources)
    wanted = {
        "memory.limit_in_bytes": str(64 * limits.MIB),
        "memory.max": str(64 * limits.MIB),
        "pids.max": "20",
        "cpu.cfs_quota_us": "50000",
        "cpu.max": "50000 100000",
    }
    async with keeping.kept(tmp_path / "keeper", groups) as keeper:
        pid = await keeper.runs(spec)
        await until(lambda: len(limits_of(keeper, pid, wanted)) == 3)
        found = limits_of(keeper, pid, wanted)
    assert found.items() <= wanted.items()


@needs_root
async def test_a_program_that_takes_more_memory_than_it_may_is_killed(
    shared: Keeper, one: Any
) -> None:
    spec = one(
        f"exec {sys.executable} -c 'x = bytearray(400 * 2**20); print(len(x))'",
        resources=Resources(memory_bytes=32 * limits.MIB),
        restart=ONCE,
    )
    await shared.hold(spec)
    status = await shared.until(spec.id, State.FAILED)
    assert status.reason.startswith("killed by SIGKILL")
    assert output(spec) == ""


# How it shows that it is ready.


class Page(http.server.BaseHTTPRequestHandler):
    """404 until it is let, then a redirect."""

    status = 404

    def do_GET(self) -> None:
        self.send_response(type(self).status if self.path == "/health?x=1" else 500)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def page() -> Iterator[int]:
    Page.status = 404
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


async def stays(keeper: Keeper, program: ProgramId, state: State, looks: int = 20) -> None:
    for _ in range(looks):
        status = await keeper.get(program)
        assert status is not None
        assert status.state is state
        await asyncio.sleep(0.005)


async def test_ready_by_a_line_of_output(shared: Keeper, one: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    spec = one(
        f"printf 'Conductor rea'; while [ ! -e {gate} ]; do sleep 0.01; done; "
        "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo Conductor ready.; exec sleep 1000",
        readiness=Readiness(log="Conductor ready."),
    )
    await shared.hold(spec)
    await stays(shared, spec.id, State.STARTING)
    gate.touch()
    assert (await shared.until(spec.id, State.READY)).ready


async def test_ready_by_a_port(shared: Keeper, one: Any, tmp_path: Path) -> None:
    port, gate = free_port(), tmp_path / "gate"
    listen = (
        "import socket, time, os, sys\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "time.sleep(1000)"
    )
    spec = ProgramSpec(
        id=one("").id,
        command=(sys.executable, "-c", listen),
        logs=str(tmp_path / "logs"),
        readiness=Readiness(tcp=port),
    )
    await shared.hold(spec)
    await stays(shared, spec.id, State.STARTING)
    gate.touch()
    await shared.until(spec.id, State.READY)


async def test_ready_by_http(shared: Keeper, one: Any, page: int) -> None:
    probe = HttpProbe(port=page, path="/health?x=1")
    spec = one("exec sleep 1000", readiness=Readiness(http=probe))
    await shared.hold(spec)
    await stays(shared, spec.id, State.STARTING)
    Page.status = 302
    await shared.until(spec.id, State.READY)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that any user can see into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


NOTIFY = (
    "import os, socket, sys, time\n"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "name = os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)\n"
    "s.sendto(b'STATUS=nearly there', name)\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    "s.sendto(b'STATUS=there' + bytes([10]) + b'READY=1', name)\n"
    "time.sleep(1000)"
)


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=needs_root)])
async def test_ready_by_sd_notify_also_as_another_user(
    shared: Keeper, one: Any, tmp_path: Path, public: Path, user: str | None
) -> None:
    gate = public / f"{one('').id}.gate"
    spec = ProgramSpec(
        id=one("").id,
        command=("/usr/bin/python3", "-c", NOTIFY, str(gate)),
        logs=str(tmp_path / "logs"),
        user=user,
        readiness=Readiness(notify=True),
    )
    await shared.hold(spec)
    await stays(shared, spec.id, State.STARTING)
    gate.touch()
    await shared.until(spec.id, State.READY)


async def test_a_stranger_cannot_say_that_a_program_is_ready(kind: Keeper, one: Any) -> None:
    spec = one(
        "echo $NOTIFY_SOCKET; exec sleep 1000", readiness=Readiness(notify=True, timeout_s=30)
    )
    await kind.hold(spec)
    await until(lambda: output(spec) != "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"READY=1", output(spec).strip().replace("@", "\0", 1))
    await stays(kind, spec.id, State.STARTING)


@pytest.mark.parametrize(
    "readiness",
    [
        Readiness(log="never said", timeout_s=0.1),
        Readiness(tcp=9, timeout_s=0.1),
        Readiness(http=HttpProbe(port=9), timeout_s=0.1),
        Readiness(notify=True, timeout_s=0.1),
    ],
)
async def test_what_is_not_ready_in_time_is_killed_and_counts_as_failed(
    shared: Keeper, one: Any, readiness: Readiness
) -> None:
    policy = RestartPolicy(max_retries=1, first_delay_s=0.01, max_delay_s=0.01)
    spec = one("trap '' TERM; sleep 1000", readiness=readiness, restart=policy)
    await shared.hold(spec)
    status = await shared.until(spec.id, State.FAILED)
    assert (status.run, status.failures) == (2, 2)
    assert status.reason == (
        "was not ready within 0.1 s and was killed; given up after 1 retries in a row"
    )


# What it says.


async def test_each_run_has_a_log_and_the_newest_few_are_kept(shared: Keeper, one: Any) -> None:
    spec = one('echo "run $HIVE_RUN" >&2; exit 1', restart=FRAIL)
    await shared.hold(spec)
    status = await shared.until(spec.id, State.FAILED)
    assert status.run == 6
    assert logs.runs(spec.logs) == [6, 5, 4]
    assert output(spec) == "run 6\n"
    assert output(spec, back=1) == "run 5\n"
    assert output(spec, run=4) == "run 4\n"
    assert output(spec, run=3) == ""


async def test_a_flood_is_bounded_and_what_fits_is_all_there(shared: Keeper, one: Any) -> None:
    """The head is given back to the disk, at a line's beginning; offsets stay what they were."""
    count = 1_200_000
    spec = one(f"seq -f 'line %012.0f' 1 {count}; echo end; exec sleep 1000")
    await shared.hold(spec)
    file = logs.path(spec.logs, 1)
    await until(lambda: file.exists() and file.stat().st_size == count * 18 + 4)
    await until(lambda: file.stat().st_blocks * 512 <= limits.LOG_BYTES + logs.SLACK_BYTES)
    whole, offset = b"", 0
    while (piece := logs.read(spec.logs, live=1, offset=offset)).data:
        whole, offset = whole + piece.data, piece.offset
    assert len(whole) >= limits.LOG_BYTES - 18, "what fits"
    first, *lines, end = whole.splitlines()
    begin = int(first.split()[1])
    assert len(first) == 17, "a whole line"
    assert [int(line.split()[1]) for line in lines] == list(range(begin + 1, count + 1))
    assert end == b"end"
    middle = (count - 1) * 18
    piece = logs.read(spec.logs, live=1, offset=middle)
    assert piece.data == f"line {count:012}\nend\n".encode(), "an offset is a cursor for good"
    assert (piece.more, piece.ended) == (False, False)


# Who may speak, and how.


async def talk(keeper: Keeper, data: bytes, *, until_closed: bool = True) -> list[Any]:
    """Send raw bytes; return what comes back."""
    reader, writer = await asyncio.open_unix_connection(
        str(keeper.folder / wire.SOCKET), limit=2**24
    )
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    if until_closed:
        with contextlib.suppress(OSError):
            writer.write_eof()
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(keeping.DEADLINE_S):
            answer = await reader.read() if until_closed else await reader.readline()
    await closed(writer)
    return [json.loads(line) for line in answer.splitlines()]


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


HELLO = b'{"type":"hello","versions":[1]}\n'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"type":"hello","versions":[7,8]}\n', "it speaks version 1, the client 7, 8"),
        (b"GET / HTTP/1.1\r\n\r\n", "cannot read a greeting"),
        (b"\xff\xfe\x00\n", "cannot read a greeting"),
        (b"[" * 100_000 + b"\n", "cannot read a greeting"),
        (HELLO + b'{"type":"dance"}\n', "Invalid value 'dance'"),
        (HELLO + b'{"type":"hold","wanted":true}\n', "missing required field"),
        (HELLO + b'{"type":"release","program":1,"logs":true}\n', "Expected `str`, got `int`"),
        (HELLO + b"x" * (limits.KEEPER_LINE_BYTES + 10) + b"\n", "longer than 1048576 bytes"),
    ],
)
async def test_what_is_not_a_request_is_refused_and_disturbs_nobody(
    shared: Keeper, data: bytes, message: str
) -> None:
    answers = await talk(shared, data)
    assert answers[-1]["type"] == "refused"
    assert message in answers[-1]["message"]
    assert (await shared.client.info()).pid == shared.pid


async def test_a_client_of_several_versions_is_spoken_to_in_the_highest_common_one(
    shared: Keeper,
) -> None:
    (welcome,) = await talk(shared, b'{"type":"hello","versions":[0,1,99],"new":"field"}\n')
    assert welcome == {"type": "welcome", "version": 1, "release": "test", "pid": shared.pid}


async def test_half_a_request_is_no_request(shared: Keeper, one: Any) -> None:
    hold = wire.line(wire.Hold(spec=one("true"), wanted=True, generation=1))  # type: ignore[arg-type]
    assert [a["type"] for a in await talk(shared, HELLO + hold[:-1])] == ["welcome"]
    assert await shared.get(one("true").id) is None


async def test_too_many_clients_are_told_so_and_the_others_are_served(tmp_path: Path) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        idle = [
            await asyncio.open_unix_connection(str(keeper.folder / wire.SOCKET))
            for _ in range(limits.KEEPER_CLIENTS)
        ]
        with pytest.raises(TransientError, match="too many clients"):
            await keeper.client.info()
        for _, writer in idle:
            await closed(writer)
        await until(keeper._answers)


async def test_a_subscriber_that_does_not_read_delays_nobody_and_gets_the_newest(
    shared: Keeper, one: Any
) -> None:
    spec = one("exec sleep 1000")
    async with asyncio.timeout(60), aclosing(shared.client.changes()) as slow:  # type: ignore[type-var]
        await anext(slow)  # and then it sleeps
        for generation in range(1, 41):
            await shared.hold(spec, wanted=False, generation=generation)
        async for status in slow:
            if (status.id, status.generation) == (spec.id, 40):
                break


def as_nobody(script: str, *words: str, keep: int) -> bytes:
    """Return what a Python script prints as another user, with one of our files."""
    return subprocess.run(
        ["/usr/bin/python3", "-c", script, *words],
        user="nobody",
        group="nogroup",
        extra_groups=[],
        pass_fds=[keep],
        capture_output=True,
        check=True,
        cwd="/",
    ).stdout


@needs_root
def test_another_user_is_refused(shared: Keeper) -> None:
    """Even where the modes of files would let it in: whoever connects is looked at."""
    ask = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode()); print(s.makefile().readline())"
    )
    path = shared.folder / wire.SOCKET
    assert path.stat().st_mode & 0o777 == 0o600
    place = os.open(shared.folder, os.O_PATH)
    try:
        path.chmod(0o666)
        shared.folder.chmod(0o711)
        answer = as_nobody(ask, f"/proc/self/fd/{place}/{wire.SOCKET}", HELLO.decode(), keep=place)
    finally:
        shared.folder.chmod(0o700)
        path.chmod(0o600)
        os.close(place)
    refused = json.loads(answer)
    assert (refused["type"], refused["error"]) == ("refused", "permission")
    error = wire.error(wire.Refused(error=refused["error"], message=refused["message"]))
    assert isinstance(error, PermissionRefusedError)


async def test_a_folder_of_any_length_will_do(tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; a folder's many more."""
    folder = tmp_path / ("long" * 50) / ("longer" * 30)
    folder.parent.mkdir()
    async with keeping.kept(folder) as keeper:
        assert (await keeper.client.info()).pid == keeper.pid


def test_the_second_keeper_of_a_folder_says_so_and_ends(shared: Keeper) -> None:
    command = [sys.executable, keeping.__file__, str(shared.folder), "unified", "0"]
    second = subprocess.run(command, capture_output=True, check=False)
    assert second.returncode == 2
    assert f"one runs there already, as process {shared.pid}".encode() in second.stderr
    assert asyncio.run(shared.client.info()).pid == shared.pid


async def test_a_keeper_that_is_not_there_is_a_matter_of_time(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TransientError, match="cannot reach the keeper"):
            await KeeperClient(folder).status()


# Several at once.


STOPS_WHEN = (
    "trap 'while [ ! -e {go} ]; do sleep 0.01; done; exit' TERM; echo up; "
    "while :; do sleep 0.01; done"
)
UP = Readiness(log="up")


async def test_two_that_hold_the_same_at_once_get_one_program(shared: Keeper, one: Any) -> None:
    spec = one("exec sleep 1000")
    async with asyncio.TaskGroup() as both:
        for number in range(8):
            both.create_task(shared.hold(spec), name=f"hold {number}")
    status = await shared.until(spec.id, State.READY)
    assert status.run == 1
    await keeping.until(lambda: family(spec))  # its launcher has become it
    assert len(family(spec)) == 1


async def test_of_two_generations_at_once_the_newer_one_wins(shared: Keeper, one: Any) -> None:
    async def hold(generation: int) -> None:
        with contextlib.suppress(ConflictError):
            spec = one("exec sleep 1000", env={"GENERATION": str(generation)})
            await shared.hold(spec, generation=generation)

    async with asyncio.TaskGroup() as all_at_once:
        for generation in (3, 9, 1, 7, 5):
            all_at_once.create_task(hold(generation), name=f"hold {generation}")
    program = one("").id
    status = await shared.until(program, lambda s: s.generation == 9 and s.ready)
    await until(lambda: keeping.marked("GENERATION=9") == [status.pid])


async def test_what_is_being_released_can_be_released_but_not_held(
    shared: Keeper, one: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    spec = one(STOPS_WHEN.format(go=go), readiness=UP)
    await shared.runs(spec)
    async with asyncio.TaskGroup() as releasing:
        for number in range(2):
            asked = shared.client.release(spec.id, logs=True)
            releasing.create_task(asked, name=f"release {number}")
        await shared.until(spec.id, State.STOPPING)
        with pytest.raises(TransientError, match="it is being stopped for good"):
            await shared.hold(spec, generation=2)
        go.touch()
    assert await shared.get(spec.id) is None


# How the keeper ends.


async def test_a_keeper_that_is_asked_to_end_leaves_its_programs_running(
    tmp_path: Path, one: Any
) -> None:
    async with keeping.kept(tmp_path / "keeper") as keeper:
        pid = await keeper.runs(one("exec sleep 1000"))
        assert keeper.kill(signal.SIGTERM) == 0
        assert alive(pid)
        assert not (keeper.folder / wire.SOCKET).exists()


async def test_a_shutdown_stops_the_last_ones_last_and_leaves_nothing_but_what_is_wanted(
    tmp_path: Path,
) -> None:
    order = tmp_path / "order"
    script = "trap 'echo {name} >>{order}; exit' TERM; echo up; while :; do sleep 0.01; done"
    names = ["first", "hub", "second", "agent"]
    async with keeping.kept(tmp_path / "keeper") as keeper:
        for name in names:
            text = script.format(name=name, order=order)
            await keeper.runs(keeping.spec(tmp_path, text, name, readiness=UP))
        last = (ProgramId("workload.agent"), ProgramId("workload.hub"))
        await keeper.client.shutdown(last)
        assert await keeper.wait() == 0
        assert keeper.processes() == []
        assert keeper.groups() == []
        stopped = order.read_text().split()
        assert set(stopped[:2]) == {"first", "second"}
        assert stopped[2:] == ["agent", "hub"]
        await keeper.start()
        for name in names:
            await keeper.until(ProgramId(f"workload.{name}"), State.READY)


async def test_while_it_shuts_down_nothing_can_be_held(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with keeping.kept(tmp_path / "keeper") as keeper:
        spec = keeping.spec(tmp_path, STOPS_WHEN.format(go=go), readiness=UP)
        await keeper.runs(spec)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keeper.client.shutdown(), name="shutdown")
            await keeper.until(spec.id, State.STOPPING)
            with pytest.raises(TransientError, match="shutting down"):
                await keeper.hold(keeping.spec(tmp_path, "true", "other"))
            go.touch()
        assert await keeper.wait() == 0


def test_a_keeper_is_small(shared: Keeper) -> None:
    fields = dict(
        line.split(":") for line in Path(f"/proc/{shared.pid}/status").read_text().splitlines()
    )
    assert int(fields["VmRSS"].split()[0]) < 30 * 1024
    assert int(fields["Threads"]) == 1
