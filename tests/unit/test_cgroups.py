"""Where control groups are found, and what is written into them, on machines of several kinds."""

from pathlib import Path

import pytest

from hivekeeper.model.policy import Resources
from hivekeeper.supervisor import cgroups
from hivekeeper.supervisor.cgroups import Cgroups

PURE = (
    "31 23 0:28 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    "0::/system.slice/hive.service\n",
)
HYBRID = (
    (
        "32 31 0:29 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / {root}/memory rw - cgroup cgroup rw,memory\n"
        "36 31 0:33 / {root}/pids rw - cgroup cgroup rw,pids\n"
        "37 31 0:34 / {root}/devices rw - cgroup cgroup rw,devices\n"
        "41 31 0:38 / {root}/unified rw shared:9 - cgroup2 cgroup2 rw\n"
    ),
    "9:cpu,cpuacct:/\n8:pids:/\n5:devices:/\n4:memory:/jail/x\n1:name=systemd:/\n0::/\n",
)
CONTAINER = (
    (
        "31 23 0:28 /docker/abc {root} rw - cgroup2 cgroup2 rw\n"
        "32 23 0:28 /docker/other {root}/elsewhere rw - cgroup2 cgroup2 rw\n"
    ),
    "0::/docker/abc/inner\n",
)
BLANKS = ("31 23 0:28 / {root}/with\\040blank rw - cgroup2 cgroup2 rw\n", "0::/\n")


def proc(folder: Path, kind: tuple[str, str]) -> Path:
    """Return a /proc/self of such a machine, whose groups are below `folder`/sys."""
    (folder / "mountinfo").write_text(
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n" + kind[0].format(root=folder / "sys")
    )
    (folder / "cgroup").write_text(kind[1])
    return folder


def group(folder: Path, *, controllers: str | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").touch()
    if controllers is not None:
        (folder / "cgroup.controllers").write_text(controllers)
        (folder / "cgroup.subtree_control").touch()


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (PURE, {"system.slice/hive.service/k"}),
        (HYBRID, {"cpu,cpuacct/k", "memory/jail/x/k", "pids/k", "devices/k", "unified/k"}),
        (CONTAINER, {"inner/k"}),
        (BLANKS, {"with blank/k"}),
    ],
)
def test_ours_are_below_the_group_that_we_are_in(
    tmp_path: Path, kind: tuple[str, str], bases: set[str]
) -> None:
    found = cgroups.hierarchies("k", proc=proc(tmp_path, kind))
    assert {str(h.base.relative_to(tmp_path / "sys")) for h in found} == bases


@pytest.fixture
def hybrid(tmp_path: Path) -> Cgroups:
    for name in ("cpu,cpuacct", "memory/jail/x", "pids", "devices"):
        group(tmp_path / "sys" / name)
    group(tmp_path / "sys/unified", controllers="hugetlb")
    (tmp_path / "sys/unified/k").mkdir()
    return cgroups.find("k", proc=proc(tmp_path, HYBRID))


def test_programs_are_held_in_the_unified_hierarchy_and_limited_where_controllers_are(
    tmp_path: Path, hybrid: Cgroups
) -> None:
    root = tmp_path / "sys"
    assert hybrid.members is not None
    assert hybrid.members.base == root / "unified/k"
    assert {c: h.base for c, h in hybrid.limits.items()} == {
        "cpu": root / "cpu,cpuacct/k",
        "memory": root / "memory/jail/x/k",
        "pids": root / "pids/k",
    }


def test_a_program_enters_only_the_groups_that_limit_it(tmp_path: Path, hybrid: Cgroups) -> None:
    root = tmp_path / "sys"
    assert cgroups.folders(hybrid, "p", Resources()) == (str(root / "unified/k/p"),)
    assert cgroups.folders(hybrid, "p", Resources(tasks=5, memory_bytes=2**20)) == (
        str(root / "unified/k/p"),
        str(root / "memory/jail/x/k/p"),
        str(root / "pids/k/p"),
    )


def test_limits_are_written_in_the_words_of_version_1(tmp_path: Path, hybrid: Cgroups) -> None:
    root = tmp_path / "sys"
    cgroups.make(hybrid, "p", Resources(tasks=5, memory_bytes=2**20, cpu=0.25))
    assert (root / "pids/k/p/pids.max").read_text() == "5"
    assert (root / "memory/jail/x/k/p/memory.limit_in_bytes").read_text() == "1048576"
    assert (root / "cpu,cpuacct/k/p/cpu.cfs_quota_us").read_text() == "25000"


def test_in_version_2_controllers_are_handed_down_and_a_limit_can_be_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "sys/system.slice/hive.service"
    group(own, controllers="cpuset cpu memory pids")
    handed_down: list[Path] = []

    def delegate(folder: Path) -> None:
        """Show what a kernel shows afterwards."""
        handed_down.append(folder)
        (folder / "cgroup.subtree_control").write_text("cpu memory pids")

    monkeypatch.setattr(cgroups, "_delegate", delegate)
    found = cgroups.find("k", proc=proc(tmp_path, PURE))
    assert handed_down == [own, own / "k"]
    assert set(found.limits) == {"cpu", "memory", "pids"}
    assert cgroups.folders(found, "p", Resources(tasks=5)) == (str(own / "k/p"),)
    cgroups.make(found, "p", Resources(tasks=5, cpu=1.5))
    assert (own / "k/p/pids.max").read_text() == "5"
    assert (own / "k/p/cpu.max").read_text() == "150000"
    assert (own / "k/p/memory.max").read_text() == "max"


def test_what_is_handed_down_is_what_limits_need_and_a_refusal_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group(tmp_path / "own", controllers="cpuset memory io")
    cgroups._delegate(tmp_path / "own")
    assert (tmp_path / "own/cgroup.subtree_control").read_text() == "+memory"
    (tmp_path / "own/cgroup.subtree_control").unlink()
    (tmp_path / "own/cgroup.subtree_control").mkdir()
    cgroups._delegate(tmp_path / "own")
    assert "to the memory controller: Is a directory (under systemd: Delegate=yes" in caplog.text


def test_a_machine_that_gives_no_group_is_said_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = cgroups.find("k", proc=proc(tmp_path, PURE))
    assert found == Cgroups(None, {})
    assert cgroups.folders(found, "p", Resources(tasks=5)) == ()
    cgroups.make(found, "p", Resources(tasks=5))
    assert [r.getMessage() for r in caplog.records] == [
        "no control group can be made: programs are held without, and without limits"
    ]


def test_controllers_that_are_not_there_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "sys/system.slice/hive.service"
    group(own, controllers="pids")
    (own / "k").mkdir()
    (own / "k/cgroup.subtree_control").write_text("pids")
    cgroups.find("k", proc=proc(tmp_path, PURE))
    assert "no limit can be set on cpu, memory" in caplog.text


def test_what_is_not_there_is_empty_and_gone(tmp_path: Path) -> None:
    assert cgroups.clear(str(tmp_path / "nothing"))
    assert cgroups.remove([str(tmp_path / "nothing")])


def test_groups_that_a_program_made_in_its_own_are_removed_with_it(tmp_path: Path) -> None:
    (tmp_path / "p/inner/most").mkdir(parents=True)
    assert cgroups.remove([str(tmp_path / "p")])
    assert not (tmp_path / "p").exists()
    (tmp_path / "q").mkdir()
    (tmp_path / "q/busy").touch()
    assert not cgroups.remove([str(tmp_path / "q")]), "to be asked again"
