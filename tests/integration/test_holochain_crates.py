"""A conductor is built with cargo, seen to progress, and in place only once it is whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hivekeeper.holochain import crates, releases
from hivekeeper.model.errors import PermanentError

VERSION = releases.version_of("0.6.3")
GOOD = r"""
echo "    Updating index" >&2
printf '    Building [=>    ] 1/4: libc\r    Building [===>  ] 2/4: serde, tokio\r' >&2
printf '    Building [======] 4/4: holochain(bin)\r' >&2
echo "   Compiling holochain v0.6.3" >&2
root=""
while [ $# -gt 0 ]; do [ "$1" = --root ] && root="$2"; shift; done
mkdir -p "$root/bin"; echo built > "$root/bin/holochain"
env | grep ^CARGO > "$(dirname "$0")/environment"
"""


def path_with(tmp_path: Path, script: str) -> dict[str, str]:
    """Return an environment whose cargo is `script`."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    cargo = folder / "cargo"
    cargo.write_text(f"#!/bin/sh\n{script}")
    cargo.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def test_it_is_built_and_its_progress_told(tmp_path: Path) -> None:
    said: list[tuple[str, float | None]] = []
    environ = path_with(tmp_path, GOOD)
    cache = tmp_path / "cache"
    path = crates.install(
        VERSION, cache, environ=environ, progress=lambda *each: said.append(each)
    )
    assert path == cache / "0.6.3/holochain"
    assert path.read_text() == "built\n"
    assert said == [
        ("building the conductor: 1 of 4 crates", 0.25),
        ("building the conductor: 2 of 4 crates", 0.5),
        ("building the conductor: 4 of 4 crates", 1.0),
    ]
    assert [each.name for each in cache.iterdir()] == ["0.6.3"]
    assert "CARGO_PROFILE_RELEASE_LTO=off" in (tmp_path / "bin/environment").read_text()


def test_one_that_is_there_is_kept(tmp_path: Path) -> None:
    there = tmp_path / "0.6.3/holochain"
    there.parent.mkdir()
    there.touch()
    assert crates.install(VERSION, tmp_path, environ={}, progress=lambda *_: None) == there


def test_a_failure_ends_with_cargos_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    script = 'echo "error: linker \\`mold\\` not found" >&2; exit 101'
    cache = tmp_path / "cache"
    with pytest.raises(PermanentError, match="error: linker `mold` not found") as caught:
        crates.install(
            VERSION, cache, environ=path_with(tmp_path, script), progress=lambda *_: None
        )
    assert "apt-get install" in caught.value.hint
    assert list(cache.iterdir()) == []


def test_without_cargo_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no cargo on PATH"):
        crates.install(VERSION, tmp_path, environ={"PATH": ""}, progress=lambda *_: None)


def test_what_the_user_set_stays_and_the_profile_is_added() -> None:
    environ = crates.environment({"RUSTFLAGS": "-C mine", "PATH": "/nowhere"})
    assert environ["RUSTFLAGS"] == "-C mine"
    assert environ["CARGO_PROFILE_RELEASE_OPT_LEVEL"] == "1"
    assert "RUSTFLAGS" not in crates.environment({"PATH": "/nowhere"})  # no mold there
    words = crates.command(VERSION, Path("/r"))
    assert words == ["cargo", "install", "--locked", "--root", "/r", "holochain@0.6.3"]


def test_stopped_in_the_middle_no_compiler_is_left(tmp_path: Path) -> None:
    """Ctrl-C reaches us; what cargo started is ended with it."""
    pid_file = tmp_path / "pid"
    script = f"sleep 600 &\necho $! > {pid_file}\nprintf ' Building [] 1/4: x\\r' >&2\nwait\n"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crates.install(
            VERSION,
            tmp_path / "cache",
            environ=path_with(tmp_path, script),
            progress=interrupt,
        )
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.long
@pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no cargo on PATH")
def test_the_real_cargo_begins_to_compile(tmp_path: Path) -> None:
    """Stopped once it does: all of it takes a quarter of an hour."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from hivekeeper.holochain import crates, releases\n"
        "crates.install(releases.version_of('0.6'), Path(sys.argv[1]), environ=dict(os.environ),"
        " progress=lambda *each: print(*each, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("building the conductor: ")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
