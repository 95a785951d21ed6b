"""`hive completion SHELL`, and what shells ask for: the names of workloads.

Silent when anything is amiss.
"""

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from hivekeeper.model.errors import HiveError


def workloads(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the workloads whose name begins with `incomplete`."""
    from hivekeeper.cli import api, stack  # noqa: PLC0415 -- only a shell that completes needs them

    folder = ctx.params.get("folder")
    try:
        target = stack.find(Path(folder) if folder else None, ctx.params.get("url"))
        rows = api.Api(target).get("/v1/workloads")
    except HiveError:
        return []
    return [
        CompletionItem(row["name"], help=row["desired"])
        for row in rows
        if row["name"].startswith(incomplete)
    ]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete hive's words.

    \b
    Examples:
      hive completion bash > ~/.local/share/bash-completion/completions/hive
      hive completion fish > ~/.config/fish/completions/hive.fish
    """  # noqa: D301
    from hivekeeper.cli.main import root  # noqa: PLC0415 -- it imports this module

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells of the choice"
    print(found(root, {}, "hive", "_HIVE_COMPLETE").source())
