"""`hive holochain`: which conductors this machine has, and how to get one."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from hivekeeper.cli import agent, output, parts
from hivekeeper.cli.progress import Progress
from hivekeeper.holochain import crates, programs, releases
from hivekeeper.holochain.programs import Program, Programs
from hivekeeper.model.errors import PermanentError, UserError


@click.group()
def holochain() -> None:
    """Find or get Holochain conductors.

    \b
    Looked for in HIVE_HOLOCHAIN_DIR/<version>/holochain, on PATH, then in what was installed.

    \b
    Examples:
      hive holochain list
      hive holochain install 0.6
      hive holochain which 0.6
    """  # noqa: D301


@holochain.command("list")
@parts.dir_option
@output.json_option
def list_(folder: Path | None, *, as_json: bool) -> None:
    """Show all conductors on this machine, the preferred ones first.

    \b
    Example:
      hive holochain list
    """  # noqa: D301
    found = asyncio.run(_programs(folder).list())
    if as_json:
        output.document([_facts(each) for each in found])
    elif found:
        output.table(["VERSION", "FROM", "PATH"], [list(_facts(each).values()) for each in found])
    else:
        output.say("no conductor is here; `hive holochain install 0.6` gets one")


@holochain.command()
@click.argument("line")
@parts.dir_option
@output.json_option
def which(line: str, folder: Path | None, *, as_json: bool) -> None:
    """Print the path of the conductor that release line LINE is run with.

    \b
    Example:
      hive holochain which 0.6
    """  # noqa: D301
    found = asyncio.run(_programs(folder).find(line))
    output.document(_facts(found)) if as_json else print(found.path)


@holochain.command()
@click.argument("line")
@click.option(
    "--from-source", is_flag=True, help="Build it with cargo, from the Rust package registry."
)
@click.option("--yes", is_flag=True, help="Take the checksum that is seen if none is published.")
@parts.dir_option
@output.json_option
def install(
    line: str, folder: Path | None, *, from_source: bool, yes: bool, as_json: bool
) -> None:
    """Get a conductor of LINE (0.6, or a version as 0.6.3): the project's own release, checked.

    Where no release is to be had, --from-source builds it with cargo, in about 15 minutes.

    \b
    Examples:
      hive holochain install 0.6
      hive holochain install 0.6.3 --from-source
    """  # noqa: D301
    version = releases.version_of(line)
    cache = parts.stack_of(folder).holochain
    with Progress(quiet=as_json) as progress:

        def show(text: str, part: float | None) -> None:
            progress.show(text if part is None else f"{text} ({part:.0%})")

        def confirm(address: str, digest: str) -> bool:
            return _confirm(address, digest, yes=yes)

        if from_source:
            path = crates.install(version, cache, environ=dict(os.environ), progress=show)  # noqa: TID251 -- cargo's
        else:
            path = releases.install(version, cache, confirm=confirm, progress=show)
    found = programs.Program(version=version, path=path, source=programs.Source.CACHE)
    output.document(_facts(found)) if as_json else print(path)


def _confirm(address: str, digest: str, *, yes: bool) -> bool:
    output.say(f"no checksum is published for {address}\n  its SHA-256 is {digest}")
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(
            "cannot ask whether that file is to be trusted: this is no terminal",
            hint="compare the checksum, then give --yes; it is pinned from then on",
        )
    if not click.confirm("Use it, and pin this checksum?", err=True):
        raise PermanentError(f"cannot use {address}: its checksum was not confirmed")
    return True


def _programs(folder: Path | None) -> Programs:
    return Programs(agent.places(parts.stack_of(folder)))


def _facts(program: Program) -> dict[str, Any]:
    return {
        "version": str(program.version),
        "from": str(program.source),
        "path": str(program.path),
    }
