"""`hive apply`, `delete`, `start`, `stop`, `restart`, `assign`: what users want of workloads."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from hivekeeper.cli import completion, happs, output, stack, waiting
from hivekeeper.cli.api import Api
from hivekeeper.model.errors import UserError
from hivekeeper.model.manifest import Manifest
from hivekeeper.wire import manifests

_WAIT_S: Final = 600.0

wait_option = click.option("--wait", is_flag=True, help="Return once it is so.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    default=_WAIT_S,
    show_default=True,
    help="How long to wait at most, in seconds.",
)
name_argument = click.argument("name", shell_complete=completion.workloads)


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path, allow_dash=True),
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--hold", is_flag=True, help="Register only; `hive assign` places it.")
@wait_option
@timeout_option
@output.json_option
@stack.options
def apply(
    files: tuple[Path, ...],
    folder: Path | None,
    url: str | None,
    timeout_s: float,
    *,
    dry_run: bool,
    hold: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Have workloads kept on as the manifests in FILES say (YAML or JSON; - reads stdin).

    All files are read and checked before anything is asked for. Applying the same again changes
    nothing; a changed manifest is a new revision.

    \b
    Examples:
      hive apply notes.yaml
      hive apply --wait *.yaml
      hive apply --dry-run notes.yaml
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    found = [(file, each) for file in files for each in _read(file)]
    prepared = [happs.resolve(api, each, file.parent, send=not dry_run) for file, each in found]
    answers = [
        api.call(
            "POST",
            "/v1/workloads",
            query={"hold": hold or None, "dry_run": dry_run or None},
            body=manifests.encode(each),
        )
        for each in prepared
    ]
    if not as_json:
        for answer in answers:
            print(_sentence(answer, dry_run=dry_run))
    if wait and not dry_run and not hold:
        rows = waiting.until_settled(api, _asked(answers), timeout_s=timeout_s, quiet=as_json)
        if not as_json:
            for name, row in rows.items():
                print(f"{name}: {waiting.sentence(row)}")
    if as_json:
        output.document(answers)


def _read(file: Path) -> list[Manifest]:
    if str(file) == "-":
        return list(manifests.decode(sys.stdin.buffer.read(), source="stdin"))
    try:
        return list(manifests.decode(file.read_bytes(), source=str(file)))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


def _sentence(answer: dict[str, Any], *, dry_run: bool) -> str:
    workload = answer["workload"]
    would = "would be " if dry_run else ""
    if not answer["changed"]:
        return f"{workload['name']}: unchanged (revision {workload['revision']})"
    return f"{workload['name']}: {would}revision {workload['revision']}, {workload['desired']}"


def _asked(answers: list[dict[str, Any]]) -> dict[str, int]:
    """Return which workloads were spoken of, and as of which generation."""
    return {each["workload"]["name"]: each["workload"]["generation"] for each in answers}


@click.command()
@name_argument
@click.option("--purge", is_flag=True, help="Its data and keys go too, for good.")
@wait_option
@timeout_option
@output.json_option
@stack.options
def delete(
    name: str,
    folder: Path | None,
    url: str | None,
    timeout_s: float,
    *,
    purge: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Remove workload NAME: its programs, ports and files. Its data and keys stay, unless purged.

    \b
    Examples:
      hive delete notes                apply it again, and it goes on with its data
      hive delete notes --purge --wait
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    answer = api.call("DELETE", f"/v1/workloads/{name}", query={"purge": purge or None})
    if wait:
        waiting.until_gone(api, _asked([answer]), timeout_s=timeout_s, quiet=as_json)
    if as_json:
        output.document(answer)
    else:
        print(
            f"{name}: {'removed' if wait else 'to be removed'}{' with its data' if purge else ''}"
        )


def _verb(word: str, text: str) -> click.Command:
    """Return the command for a verb that needs nothing but a name."""

    @click.command(word, help=text, short_help=text.split(".", maxsplit=1)[0])
    @name_argument
    @wait_option
    @timeout_option
    @output.json_option
    @stack.options
    def command(
        name: str,
        folder: Path | None,
        url: str | None,
        timeout_s: float,
        *,
        wait: bool,
        as_json: bool,
    ) -> None:
        api = Api(stack.find(folder, url))
        answer = api.post(f"/v1/workloads/{name}/{word}")
        if wait:
            waiting.until_settled(api, _asked([answer]), timeout_s=timeout_s, quiet=as_json)
        if as_json:
            output.document(answer)
        else:
            print(f"{name}: {answer['workload']['desired']}")

    return command


start = _verb("start", "Have workload NAME run again. What was given up is begun anew.")
stop = _verb("stop", "Have workload NAME stopped, gracefully, until it is started.")
restart = _verb("restart", "Stop workload NAME and start it again, as it is.")


@click.command()
@name_argument
@click.argument("host")
@output.json_option
@stack.options
def assign(name: str, host: str, folder: Path | None, url: str | None, *, as_json: bool) -> None:
    """Put workload NAME on HOST: one that was held, or that no host fitted.

    \b
    Example:
      hive apply --hold notes.yaml && hive assign notes attic
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    answer = api.post(f"/v1/workloads/{name}/assign", {"host": host})
    if as_json:
        output.document(answer)
    else:
        print(f"{name}: assigned to {host}")
