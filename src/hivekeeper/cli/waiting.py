"""Waiting until a workload is as it should be, and telling how it goes.

Looks again and again; keeps nothing.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from hivekeeper.cli import output
from hivekeeper.cli.api import Api
from hivekeeper.cli.progress import Progress
from hivekeeper.model.errors import PermanentError, TransientError

_LOOK_EVERY_S: Final = 0.1
_STAYS_S: Final = 0.5

Row = dict[str, Any]


def until_settled(api: Api, name: str, generation: int, *, timeout_s: float, quiet: bool) -> Row:
    """Return the row of workload `name` once it is as asked for at `generation`.

    Raises:
        PermanentError: It was given up.
        TransientError: Not within `timeout_s`.
    """
    seen: dict[tuple[object, ...], float] = {}

    def settled(rows: list[Row]) -> Row | None:
        """One run of it must stay for a moment: without readiness, started is ready."""
        for row in rows:
            if row["generation"] >= generation and _is_there(row):
                run = (row["host"], row["pid"], row["restarts"])
                first_s = seen.setdefault(run, time.monotonic())
                if time.monotonic() - first_s >= _STAYS_S:
                    return row
        return None

    return _watch(api, name, generation, settled, timeout_s=timeout_s, quiet=quiet)


def until_gone(api: Api, name: str, generation: int, *, timeout_s: float, quiet: bool) -> Row:
    """Return once nothing of `name` runs anywhere; raises as `until_settled`."""

    def gone(rows: list[Row]) -> Row | None:
        return {} if all(row["actual"] == "uninstalled" for row in rows) else None

    return _watch(api, name, generation, gone, timeout_s=timeout_s, quiet=quiet)


def _is_there(row: Row) -> bool:
    stopped = row["desired"] == "stopped" and row["pid"] is None
    finished = row["desired"] == "running" and row["payload"].get("finished")
    return row["actual"] == "running" or (
        row["actual"] == "installed" and bool(stopped or finished)
    )


def _watch(
    api: Api,
    name: str,
    generation: int,
    done: Callable[[list[Row]], Row | None],
    *,
    timeout_s: float,
    quiet: bool,
) -> Row:
    deadline_s = time.monotonic() + timeout_s
    with Progress(quiet=quiet) as progress:
        while True:
            rows = api.get("/v1/allocations", workload=name, all=True)
            found = done(rows)
            if found is not None:
                return found
            _give_up(name, [row for row in rows if row["generation"] >= generation])
            if time.monotonic() > deadline_s:
                raise TransientError(
                    f"cannot wait longer for {name}: after {timeout_s:g} s it is "
                    f"{'; '.join(sentence(row) for row in rows) or 'nowhere'} (`hive why {name}`)"
                )
            progress.show(f"{name}: " + "; ".join(sentence(row) for row in rows))
            time.sleep(_LOOK_EVERY_S)


def _give_up(name: str, rows: list[Row]) -> None:
    for row in rows:
        if row["payload"].get("given_up"):
            raise PermanentError(
                f"cannot keep {name} on: {row['payload'].get('error', 'given up')}",
                hint=row["payload"].get("hint") or f"`hive why {name}` tells more",
            )


def sentence(row: Row) -> str:
    """Return in a few words how a workload is and what it does."""
    payload = row["payload"]
    doing = payload.get("doing") or payload.get("error") or payload.get("reason") or ""
    doing = doing or payload.get("phase", "")
    again = output.until(payload.get("retry_at"))
    return " ".join(filter(None, [row["actual"], f"({doing})" if doing else "", again]))
