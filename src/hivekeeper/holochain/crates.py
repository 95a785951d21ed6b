"""Build a conductor from its source, from the Rust project's own registry, with `cargo install`.

Takes about 15 minutes. The compiler and what it links to must be here already; what cargo says of
a failure is handed on. Blocks while it works, for the command line.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from hivekeeper.holochain import programs
from hivekeeper.holochain.downloads import Progress
from hivekeeper.holochain.programs import Version
from hivekeeper.model.errors import PermanentError

PROFILE: Final = {
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    "CARGO_PROFILE_RELEASE_STRIP": "true",
}
"""Change how long it takes to build and how large it is, not what it does."""

_BAR: Final = {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "120"}
_COUNT: Final = re.compile(r"\] (\d+)/(\d+)")
_LINES_KEPT: Final = 20
_HINT: Final = (
    "On Debian: apt-get install clang libclang-dev cmake perl pkg-config libssl-dev"
    " libsodium-dev protobuf-compiler; and rustup for cargo."
)


def command(version: Version, root: Path) -> list[str]:
    """Return what builds that version's conductor into `root`/bin."""
    return ["cargo", "install", "--locked", "--root", str(root), f"holochain@{version}"]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment to build in: quick, with progress to be seen; what is set stays."""
    fast = {"RUSTFLAGS": "-C link-arg=-fuse-ld=mold"} if _has(base, "mold") else {}
    return {**PROFILE, **fast, **base, **_BAR}


def install(
    version: Version, cache: Path, *, environ: Mapping[str, str], progress: Progress
) -> Path:
    """Build a conductor into `cache` and return its path; one that is there already is kept.

    Args:
        version: Which.
        cache: Becomes `<cache>/<version>/holochain`.
        environ: This process' environment; PATH says where cargo is.
        progress: See `downloads.Progress`.

    Raises:
        PermanentError: There is no cargo, or the build failed; the text ends with cargo's own.
    """
    target = cache / str(version) / programs.NAME
    if target.exists():
        return target
    if not _has(environ, "cargo"):
        raise PermanentError("cannot build a conductor: there is no cargo on PATH", hint=_HINT)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as root:
        _build(command(version, Path(root)), environment(environ), progress)
        target.parent.mkdir(exist_ok=True)
        (Path(root) / "bin" / programs.NAME).replace(target)
    return target


def _build(words: list[str], environ: dict[str, str], progress: Progress) -> None:
    cargo = shutil.which(words[0], path=environ.get("PATH"))
    assert cargo is not None, "looked for before"
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    with subprocess.Popen(
        [cargo, *words[1:]],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stderr is not None, "asked for above"
        try:
            for line in _lines(process.stderr):
                said = progress_of(line)
                if said is None:
                    last.append(line)
                else:
                    progress(*said)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # its compilers too
            raise
    if process.returncode != 0:
        raise PermanentError(
            "cannot build a conductor: cargo failed\n" + "\n".join(last), hint=_HINT
        )


def progress_of(line: str) -> tuple[str, float] | None:
    """Return what a line of cargo's progress bar says; None if it is another line."""
    match = _COUNT.search(line)
    if match is None:
        return None
    done, total = int(match[1]), int(match[2])
    return f"building the conductor: {done} of {total} crates", done / max(total, 1)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield lines, also those of a bar that ends them with a carriage return alone."""
    pending = b""
    while chunk := stream.read1(4096):  # type: ignore[attr-defined]
        *whole, pending = re.split(rb"[\r\n]+", pending + chunk)
        yield from (line.decode(errors="replace").strip() for line in whole if line.strip())
    if pending.strip():
        yield pending.decode(errors="replace").strip()


def _has(environ: Mapping[str, str], program: str) -> bool:
    return shutil.which(program, path=environ.get("PATH", "")) is not None
