"""`hive logs`: what a workload's program wrote, wherever it runs."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from hivekeeper.cli import completion, output, stack
from hivekeeper.cli.api import Api
from hivekeeper.model.errors import TransientError

_FOLLOW_EVERY_S: Final = 0.3


@click.command()
@click.argument("name", shell_complete=completion.workloads)
@click.option("-f", "--follow", is_flag=True, help="Go on, over restarts too.")
@click.option("--previous", is_flag=True, help="The run before: why did it end?")
@click.option("--tail", default=100, show_default=True, help="How many lines of the end.")
@output.json_option
@stack.options
def logs(
    name: str,
    folder: Path | None,
    url: str | None,
    tail: int,
    *,
    follow: bool,
    previous: bool,
    as_json: bool,
) -> None:
    """Show what the program of workload NAME wrote.

    \b
    Examples:
      hive logs notes -f
      hive logs notes --previous --tail 20
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    path = f"/v1/workloads/{name}/logs"
    piece = api.get(path, tail=tail, back=1 if previous else None)
    _show(piece, as_json=as_json)
    while follow or piece["more"]:
        if not piece["more"]:
            time.sleep(_FOLLOW_EVERY_S)
        piece = _next(api, path, piece, follow=follow and not previous)
        _show(piece, as_json=as_json)


def _next(api: Api, path: str, piece: dict[str, Any], *, follow: bool) -> dict[str, Any]:
    """Return what comes after `piece`: of the next run, when this one is over and read."""
    try:
        if piece["ended"] and not piece["more"] and follow:
            newest = api.get(path, tail=0)
            if newest["run"] != piece["run"]:
                return _get(api, path, run=newest["run"], offset=0)
        return _get(api, path, run=piece["run"], offset=piece["offset"])
    except TransientError as error:
        output.say(f"hive: {error}")
        return piece | {"text": "", "more": False}


def _get(api: Api, path: str, *, run: int, offset: int) -> dict[str, Any]:
    answer: dict[str, Any] = api.get(path, run=run, offset=offset)
    return answer


def _show(piece: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        for each in piece["text"].splitlines():
            output.line({"run": piece["run"], "line": each})
    else:
        sys.stdout.write(piece["text"])
        sys.stdout.flush()
