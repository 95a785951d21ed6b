"""Who a process is, and that a number alone is nobody."""

import os
import subprocess
from pathlib import Path

import pytest

from hivekeeper.supervisor import identity, kin
from hivekeeper.supervisor.identity import Stat, Written
from hivekeeper.supervisor.kin import Kin

LINE = "7 (a) b (c) S 1 2 3 0 -1 4194304 " + " ".join(str(n) for n in range(10, 53))


def test_a_name_may_have_anything_in_it() -> None:
    assert identity.parse_stat(LINE) == (7, Stat("S", 2, 3, 4194304, 22))


@pytest.mark.parametrize(
    "line", ["", "7", "7 (x", "7 (x) S 1 2 3", LINE.replace("S 1 2", "S 1 two")]
)
def test_what_is_not_a_whole_line_is_refused(line: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        identity.parse_stat(line)


def test_a_living_process_is_pinned_down_only_with_its_own_start() -> None:
    own = identity.stat(os.getpid())
    assert own is not None
    assert not own.ended
    pidfd = identity.open_process(os.getpid(), own.started)
    assert pidfd is not None
    os.close(pidfd)
    assert identity.open_process(os.getpid(), own.started + 1) is None


def test_a_dead_process_is_nobody_even_while_it_is_a_zombie() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        found = identity.stat(process.pid)
        assert found is not None
        assert found.ended
        assert identity.open_process(process.pid, found.started) is None
    assert identity.stat(process.pid) is None
    assert identity.open_process(process.pid, found.started) is None


def test_a_blank_file_names_nobody_and_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert identity.written(file) is None, "not there"
    held = identity.blank(file)
    with pytest.raises(BlockingIOError):
        identity.written(file)
    with pytest.raises(BlockingIOError):
        identity.blank(file)
    os.close(held)
    assert identity.written(file) is None


def test_what_a_launcher_wrote_is_read_and_a_later_blank_wipes_it_in_place(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pid"
    held = identity.blank(file)
    os.write(held, f"12 boot-id {LINE}\n".encode())
    os.close(held)
    assert file.stat().st_size == identity.PID_BYTES
    assert identity.written(file) == Written(12, "boot-id", 7, 22)
    os.close(identity.blank(file))
    assert identity.written(file) is None
    assert file.stat().st_size == identity.PID_BYTES


@pytest.mark.parametrize(
    "text", ["", "\n", "12", "12 boot", "12 boot 7 (sh", f"x boot {LINE}\n", "\0" * 100, "\xff"]
)
def test_a_torn_file_names_nobody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pid"
    file.write_text(text, encoding="latin-1")
    assert identity.written(file) is None


# Kin.


def test_kin_has_the_mark_or_is_in_the_leaders_session() -> None:
    mark = Kin("k", "workload.x").mark
    with (
        subprocess.Popen(["sleep", "60"], env=mark, start_new_session=True) as marked,
        subprocess.Popen(["sleep", "60"], env={}, start_new_session=True) as bare,
    ):
        try:
            assert kin.contains(Kin("k", "workload.x"), marked.pid)
            assert not kin.contains(Kin("k", "workload.y"), marked.pid)
            assert not kin.contains(Kin("other", "workload.x"), marked.pid)
            assert not kin.contains(Kin("k", "workload.x"), bare.pid)
            assert kin.contains(Kin("k", "workload.x", leader=bare.pid), bare.pid)
        finally:
            marked.kill()
            bare.kill()


def test_clear_kills_kin_and_nobody_else() -> None:
    name = f"test-{os.getpid()}"
    mark = Kin(name, "workload.x").mark
    with (
        subprocess.Popen(["sleep", "60"], env=mark, start_new_session=True) as ours,
        subprocess.Popen(["sleep", "60"], env=Kin(name, "workload.y").mark) as other,
    ):
        try:
            while not kin.clear(Kin(name, "workload.x")):
                pass
            assert ours.wait(10) == -9
            assert other.poll() is None
        finally:
            ours.kill()
            other.kill()
