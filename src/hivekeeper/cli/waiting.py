"""Waiting until workloads are as they should be, and telling how it goes.

Looks at all of them again and again; keeps nothing.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from hivekeeper.cli import output
from hivekeeper.cli.api import Api
from hivekeeper.cli.progress import Progress
from hivekeeper.model.errors import PermanentError, TransientError

_LOOK_EVERY_S: Final = 0.1
_STAYS_S: Final = 0.5

Row = dict[str, Any]
Wanted = Mapping[str, int]
"""Names of workloads, each with the generation that it was asked for."""


def until_settled(api: Api, wanted: Wanted, *, timeout_s: float, quiet: bool) -> dict[str, Row]:
    """Return the rows of workloads once each runs, or is stopped, as it was asked to.

    Raises:
        PermanentError: One was given up.
        TransientError: Not within `timeout_s`.
    """
    seen: dict[tuple[object, ...], float] = {}

    def settled(name: str, rows: list[Row]) -> Row | None:
        """One run of it must stay for a moment: without readiness, started is ready."""
        for row in rows:
            if row["generation"] >= wanted[name] and _is_there(row):
                run = (name, row["host"], row["pid"], row["restarts"])
                first_s = seen.setdefault(run, time.monotonic())
                if time.monotonic() - first_s >= _STAYS_S:
                    return row
        return None

    return _watch(api, wanted, settled, timeout_s=timeout_s, quiet=quiet)


def until_gone(api: Api, wanted: Wanted, *, timeout_s: float, quiet: bool) -> None:
    """Return once nothing of these workloads runs anywhere; raises as `until_settled`."""

    def gone(_: str, rows: list[Row]) -> Row | None:
        return {} if all(row["actual"] == "uninstalled" for row in rows) else None

    _watch(api, wanted, gone, timeout_s=timeout_s, quiet=quiet)


def _is_there(row: Row) -> bool:
    stopped = row["desired"] == "stopped" and row["pid"] is None
    finished = row["desired"] == "running" and row["payload"].get("finished")
    return row["actual"] == "running" or (
        row["actual"] == "installed" and bool(stopped or finished)
    )


def _watch(
    api: Api,
    wanted: Wanted,
    done: Callable[[str, list[Row]], Row | None],
    *,
    timeout_s: float,
    quiet: bool,
) -> dict[str, Row]:
    deadline_s = time.monotonic() + timeout_s
    found: dict[str, Row] = {}
    with Progress(quiet=quiet) as progress:
        while True:
            rows = _look(api, wanted)
            for name in wanted.keys() - found.keys():
                row = done(name, rows[name])
                if row is not None:
                    found[name] = row
                else:
                    _give_up(
                        name, [row for row in rows[name] if row["generation"] >= wanted[name]]
                    )
            waiting = [name for name in wanted if name not in found]
            if not waiting:
                return found
            said = "; ".join(_said(name, rows[name]) for name in waiting[:3])
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""  # noqa: PLR2004 -- one line
            if time.monotonic() > deadline_s:
                raise TransientError(
                    f"cannot wait longer: after {timeout_s:g} s {said}{more} (`hive why NAME`)"
                )
            progress.show(said + more)
            time.sleep(_LOOK_EVERY_S)


def _look(api: Api, wanted: Wanted) -> dict[str, list[Row]]:
    only = next(iter(wanted)) if len(wanted) == 1 else None
    rows: dict[str, list[Row]] = {name: [] for name in wanted}
    for row in api.get("/v1/allocations", workload=only, all=True):
        if row["workload"] in rows:
            rows[row["workload"]].append(row)
    return rows


def _give_up(name: str, rows: list[Row]) -> None:
    for row in rows:
        if row["payload"].get("given_up"):
            raise PermanentError(
                f"cannot keep {name} on: {row['payload'].get('error', 'given up')}",
                hint=row["payload"].get("hint") or f"`hive why {name}` tells more",
            )


def _said(name: str, rows: list[Row]) -> str:
    return f"{name}: {', '.join(sentence(row) for row in rows) or 'nowhere'}"


def sentence(row: Row) -> str:
    """Return in a few words how a workload is and what it does."""
    payload = row["payload"]
    doing = payload.get("doing") or payload.get("error") or payload.get("reason") or ""
    doing = doing or payload.get("phase", "")
    again = output.until(payload.get("retry_at"))
    return " ".join(filter(None, [row["actual"], f"({doing})" if doing else "", again]))
