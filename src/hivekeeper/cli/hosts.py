"""`hive host`: let hosts in (`invite`, `join`), look at them (`list`), run one (`run`)."""

from pathlib import Path
from typing import Any

import click

from hivekeeper.adapters import keys
from hivekeeper.adapters.clock import SystemClock
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.cli import output, parts, settings, stack
from hivekeeper.cli.api import Api
from hivekeeper.cli.settings import Settings
from hivekeeper.model.errors import UserError
from hivekeeper.wire import invitations


@click.group()
def host() -> None:
    """Let hosts in, look at them, run one.

    \b
    Examples:
      hive host invite attic > attic.invitation        on the machine with the stack
      hive host join --token-file attic.invitation     on the new host, then `hive up`
      hive host list
    """  # noqa: D301


@host.command("list")
@output.json_option
@stack.options
def list_(folder: Path | None, url: str | None, *, as_json: bool) -> None:
    """Show all hosts.

    \b
    Example:
      hive host list
    """  # noqa: D301
    rows = Api(stack.find(folder, url)).get("/v1/hosts")
    if as_json:
        output.document(rows)
        return
    head = ["HOST", "STATE", "HEARD", "WORKLOADS", "JOINED"]
    output.table(head, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[object]:
    heard = output.ago(row["heard_at"])
    return [
        row["id"],
        row["state"],
        f"{heard} ago" if heard else "-",
        row["allocations"],
        f"{output.ago(row['joined_at'])} ago",
    ]


@host.command()
@click.argument("name")
@stack.options
def invite(name: str, folder: Path | None, url: str | None) -> None:
    """Print an invitation for host NAME: one line, good once, and for a day. It is a secret.

    \b
    Example:
      hive host invite attic > attic.invitation
    """  # noqa: D301
    answer = Api(stack.find(folder, url)).post(f"/v1/hosts/{name}/invitation")
    print(answer["invitation"])


@host.command()
@click.option("--url", help="The hub, as this host reaches it  [default: as the invitation says].")
@click.option(
    "--token-file",
    required=True,
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="What `hive host invite` printed.",
)
@parts.dir_option
def join(url: str | None, token_file: Path, folder: Path | None) -> None:
    """Make this machine a host of the stack that wrote the invitation.

    \b
    Example:
      hive host join --token-file attic.invitation && hive up
    """  # noqa: D301
    from hivekeeper.cli import joining  # noqa: PLC0415 -- the hub's client takes time to import

    where, disk = parts.stack_of(folder), RealDisk()
    invitation = invitations.decode(token_file.read_text())
    before = settings.read(disk, where)
    if before is not None:
        raise UserError(
            f"cannot join in {where.root}: host {before.host} lives there",
            hint="name another folder with --dir",
        )
    name = joining.ask(where, disk, invitation, url or invitation.url)
    settings.keep(disk, where, Settings(host=name, ports=None, hub=url or invitation.url))
    print(f"{name}: joined; `hive up --dir {where.root}` keeps it on")


@host.command()
@parts.dir_option
def run(folder: Path | None) -> None:
    """Run this host's agent: makes the host match what it was asked. `hive up` keeps it on.

    \b
    Example:
      hive host run --dir /var/lib/hivekeeper
    """  # noqa: D301
    from hivekeeper.cli import agent  # noqa: PLC0415

    where, disk = parts.stack_of(folder), RealDisk()
    now = parts.told(where, disk)
    seed = keys.read_seed(disk, where.host_key)
    parts.start(agent.serve(where, disk, SystemClock(), now, seed))
