"""`hive status`, `why`, `events`: what is wanted, what is, and how it came to be so."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from hivekeeper.cli import completion, output, stack
from hivekeeper.cli.api import Api
from hivekeeper.model.errors import NotFoundError, TransientError

_WATCH_EVERY_S: Final = 0.5
_WHY_LINES: Final = 10

Row = dict[str, Any]


@click.command()
@click.argument("name", required=False, shell_complete=completion.workloads)
@click.option("--watch", is_flag=True, help="Go on, and show every change.")
@click.option("--all", "everything", is_flag=True, help="Also what was removed and left data.")
@output.json_option
@stack.options
def status(
    name: str | None,
    folder: Path | None,
    url: str | None,
    *,
    watch: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what is wanted and what is, of workload NAME or of all.

    \b
    Examples:
      hive status
      hive status notes --watch
      hive status --json | jq '.[] | select(.actual != "running")'
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    if not watch:
        rows = _rows(api, name, everything=everything)
        output.document(rows) if as_json else _table(rows)
        return
    for rows in _changes(api, name, everything=everything):
        if as_json:
            output.line(rows)
        else:
            click.clear()
            _table(rows)


def _rows(api: Api, name: str | None, *, everything: bool) -> list[Row]:
    rows: list[Row] = api.get("/v1/allocations", workload=name, all=everything or None)
    if name is not None and not rows:
        raise NotFoundError(
            f"cannot find workload {name}", hint="`hive status --all` shows what there is and was"
        )
    return rows


def _changes(api: Api, name: str | None, *, everything: bool) -> Iterator[list[Row]]:
    last: list[Row] | None = None
    while True:
        try:
            rows = _rows(api, name, everything=everything)
        except TransientError as error:
            output.say(f"hive: {error}")
        else:
            if rows != last:
                yield rows
            last = rows
        time.sleep(_WATCH_EVERY_S)


def _table(rows: list[Row]) -> None:
    if not rows:
        output.say("nothing is kept on here; `hive apply FILE` changes that")
        return
    head = ["WORKLOAD", "KIND", "REV", "HOST", "DESIRED", "ACTUAL", "SINCE", "PID", "RESTARTS", ""]
    output.table(head, [_cells(row) for row in rows])


def _cells(row: Row) -> list[object]:
    payload = row["payload"]
    note = payload.get("error") or payload.get("doing") or payload.get("reason") or ""
    note = note or payload.get("phase", "")
    again = output.until(payload.get("retry_at"))
    tail = f", again {again}" if again else ", given up" if payload.get("given_up") else ""
    return [
        row["workload"],
        row["kind"],
        row["revision"],
        row["host"] or "-",
        row["desired"],
        row["actual"],
        output.ago(row["since"]),
        row["pid"] or "-",
        row["restarts"],
        _short(note) + tail,
    ]


def _short(text: str, width: int = 60) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= width else line[: width - 1] + "…"


@click.command()
@click.argument("name", shell_complete=completion.workloads)
@output.json_option
@stack.options
def why(name: str, folder: Path | None, url: str | None, *, as_json: bool) -> None:
    """Explain workload NAME: what is wanted, what is, the last error in full, what happens next.

    \b
    Example:
      hive why notes
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    rows = _rows(api, name, everything=True)
    lines = _last_lines(api, name)
    events = api.get("/v1/events", workload=name, last=5)
    if as_json:
        output.document({"allocations": rows, "log": lines, "events": events})
        return
    for row in rows:
        _explain(row)
    if events:
        print("\nlast events")
        for event in events:
            print(f"  {output.ago(event['at']):>8} ago  {event['what']}: {event['because']}")
    if lines:
        print(f"\nlast log lines (`hive logs {name}` shows more)")
        for each in lines:
            print(f"  {each}")


def _explain(row: Row) -> None:
    payload = row["payload"]
    facts = {
        "workload": f"{row['workload']} ({row['kind']}, revision {row['revision']})",
        "host": row["host"] or "none",
        "desired": row["desired"],
        "actual": f"{row['actual']} for {output.ago(row['since'])}",
        "process": f"pid {row['pid']}" if row["pid"] else "none",
        "restarts": row["restarts"],
        "reason": payload.get("reason"),
        "doing": payload.get("doing") or payload.get("phase"),
        "last error": payload.get("error"),
        "hint": payload.get("hint"),
        "next": _next(row),
    }
    for name, value in facts.items():
        if value not in {None, ""}:
            print(f"{name:<11} {_indent(str(value))}")


def _indent(text: str) -> str:
    return text.replace("\n", "\n" + " " * 12)


def _next(row: Row) -> str:
    """Return what happens next, a sentence."""
    payload, name = row["payload"], row["workload"]
    if payload.get("given_up"):
        return f"nothing, until its manifest changes or `hive start {name}`"
    if again := output.until(payload.get("retry_at")):
        return f"it is tried again {again}"
    if row["actual"] == "installed" and row["desired"] == "stopped":
        return f"nothing, until `hive start {name}`"
    if row["actual"] == "uninstalled" and payload.get("data_kept"):
        return f"nothing; its data is kept until `hive delete {name} --purge`"
    return _EXPECTED.get(row["actual"], "it is being worked on")


_EXPECTED: Final = {
    "running": "it is kept running",
    "reported": "it is placed once a host fits",
    "unknown": "its host is not heard of; it is left where its data is",
    "uninstalled": "nothing",
}


def _last_lines(api: Api, name: str) -> list[str]:
    try:
        answer = api.get(f"/v1/workloads/{name}/logs", tail=_WHY_LINES)
    except (NotFoundError, TransientError):
        return []
    return str(answer["text"]).splitlines()[-_WHY_LINES:]


@click.command()
@click.argument("name", required=False, shell_complete=completion.workloads)
@click.option("-f", "--follow", is_flag=True, help="Go on, and show what happens.")
@output.json_option
@stack.options
def events(
    name: str | None, folder: Path | None, url: str | None, *, follow: bool, as_json: bool
) -> None:
    """Show what happened, and why, to workload NAME or to all.

    \b
    Examples:
      hive events notes
      hive events -f --json
    """  # noqa: D301
    api = Api(stack.find(folder, url))
    after = 0
    while True:
        found = api.get("/v1/events", workload=name, after=after or None)
        after = max([after, *(event["sequence"] for event in found)])
        if as_json and not follow:
            output.document(found)
        else:
            for event in found:
                output.line(event) if as_json else print(_event(event), flush=True)
        if not follow:
            return
        time.sleep(_WATCH_EVERY_S)


def _event(event: Row) -> str:
    where = f"{event['workload']}@{event['host']}" if event.get("host") else event["workload"]
    return f"{event['at'][:19]}Z  {where:<24} {event['what']:<10} {event['because']}"
