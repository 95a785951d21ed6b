"""Where a status word comes from: `word` derives it, and nothing else does.

The facts are the orchestrator's `Allocation` and the host's `Report`; the observations are whether
the host has fetched the order, and whether it is silent. `TRANSITIONS` says which words may follow
which, event by event; tests prove that it is exactly what `word` does. Stores nothing, decides
nothing.
"""

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final

from hivekeeper.model.allocation import (
    Actual,
    Allocation,
    Desired,
    Phase,
    Report,
    Status,
    Workload,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the word depends on.

    Args:
        allocation: What the orchestrator wants; None: no host yet.
        report: What the host last said, of whatever generation; None: nothing yet.
        fetched: The host has stored a document with this order in it.
        silent: The host was not heard for longer than its lease.
    """

    allocation: Allocation | None
    report: Report | None = None
    fetched: bool = False
    silent: bool = False


class Event(StrEnum):
    """What can happen to the facts."""

    ASSIGN = auto()
    FETCH = auto()
    REPORT_PREPARING = auto()
    REPORT_INSTALLED = auto()
    REPORT_STARTING = auto()
    REPORT_READY = auto()
    REPORT_STOPPING = auto()
    REPORT_FAILURE = auto()
    REPORT_REMOVING = auto()
    REPORT_GONE = auto()
    ASK_UPDATE = auto()
    ASK_CHANGE = auto()
    ASK_DELETE = auto()
    FALL_SILENT = auto()
    BE_HEARD = auto()


def word(facts: Facts) -> Actual:
    """Return the word that users see."""
    if facts.allocation is None:
        return Actual.REPORTED
    report = _current_life(facts.report)
    if facts.allocation.desired is Desired.UNINSTALLED:
        return _leaving(facts, facts.allocation)
    if facts.silent:
        return Actual.UNKNOWN
    if report is None:
        return Actual.PENDING if facts.fetched else Actual.ASSIGNED
    if report.generation < facts.allocation.generation and _updates(facts.allocation, report):
        return Actual.UPDATING
    return _present(facts.allocation, report)


def _current_life(report: Report | None) -> Report | None:
    """What was said before it was removed from its host says nothing of a new life there."""
    return None if report is None or report.phase is Phase.GONE else report


def _updates(allocation: Allocation, report: Report) -> bool:
    """Whether something else was running here before the manifest that is wanted now."""
    before = report.ready_revision if report.ready_revision is not None else report.revision
    return before != allocation.revision


def _leaving(facts: Facts, allocation: Allocation) -> Actual:
    report = facts.report
    confirmed = report is not None and report.generation >= allocation.generation
    if confirmed and report is not None and report.phase is Phase.GONE:
        return Actual.UNINSTALLED
    if facts.silent:
        return Actual.UNKNOWN
    if confirmed and report is not None and report.phase in {Phase.BACKOFF, Phase.FAILED}:
        return Actual.ERROR
    return Actual.REMOVED if facts.fetched or confirmed else Actual.DELETED


def _present(allocation: Allocation, report: Report) -> Actual:
    changed = _updates(allocation, report)
    match report.phase:
        case Phase.PREPARING if changed:
            return Actual.UPDATING
        case Phase.PREPARING:
            return Actual.PENDING if report.ready_revision is None else Actual.INSTALLED
        case Phase.STARTING:
            return Actual.UPDATED if changed else Actual.INSTALLED
        case Phase.READY | Phase.STOPPING:
            return Actual.RUNNING
        case Phase.BACKOFF | Phase.FAILED:
            return Actual.ERROR
        case _:
            return Actual.INSTALLED


# Rows: the word now. Columns: what happens. `.` leaves the word, `-` cannot happen to it, a word
# is what follows, `a/b` one of these (the facts decide), `*` whatever was last known,
# `+` the same, now that the order is fetched.
_ASKED: Final = """
              ASSIGN   FETCH   ASK_UPDATE        ASK_CHANGE  ASK_DELETE FALL_SILENT BE_HEARD
  REPORTED    assigned -       -                 -           -          -           -
  ASSIGNED    -        pending .                 .           deleted    unknown     -
  PENDING     -        .       assigned/updating ./assigned  deleted    unknown     -
  INSTALLED   -        .       updating          ./updating  deleted    unknown     -
  RUNNING     -        .       updating          ./updating  deleted    unknown     -
  UPDATING    -        .       .                 .           deleted    unknown     -
  UPDATED     -        -       updating          updating    deleted    unknown     -
  DELETED     -        removed assigned/updating -           -          unknown     -
  REMOVED     -        -       assigned/updating -           -          unknown     -
  UNINSTALLED -        -       assigned/unknown  -           -          .           .
  ERROR       -        .       updating          ./updating  deleted    unknown     -
  UNKNOWN     -        +       .                 .           .          -           *
"""
# The same for what the host reports.
_REPORTED: Final = """
              PREPARING                  INSTALLED STARTING          READY   STOPPING FAILURE REMOVING GONE
  REPORTED    -                          -         -                 -       -        -       -        -
  ASSIGNED    -                          -         -                 -       -        -       -        -
  PENDING     .                          installed installed         running running  error   -        -
  INSTALLED   ./pending/updating         .         ./updated         running running  error   -        -
  RUNNING     installed/pending/updating installed installed/updated .       .        error   -        -
  UPDATING    ./pending                  installed installed/updated running running  error   -        -
  UPDATED     updating                   installed .                 running running  error   -        -
  DELETED     -                          -         -                 -       -        -       -        -
  REMOVED     -                          -         -                 -       .        error   .        uninstalled
  UNINSTALLED -                          -         -                 -       -        -       -        -
  ERROR       installed/pending/updating installed installed/updated running removed/running .       removed  uninstalled
  UNKNOWN     installed/pending/updating installed installed/updated running removed/running error   removed  uninstalled
"""  # noqa: E501 -- a table is read as a table


def _read(table: str, prefix: str) -> dict[tuple[Actual, Event], frozenset[Actual]]:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return {
        (Actual[row[0]], Event[prefix + name]): _cell(Actual[row[0]], text)
        for row in rows
        for name, text in zip(head, row[1:], strict=True)
    }


def _cell(now: Actual, text: str) -> frozenset[Actual]:
    words = (_SETS.get(word) or {now if word == "." else Actual(word)} for word in text.split("/"))
    return frozenset().union(*words) if text != "-" else frozenset()


_FETCHED: Final = frozenset(
    {
        Actual.ERROR,
        Actual.INSTALLED,
        Actual.PENDING,
        Actual.REMOVED,
        Actual.RUNNING,
        Actual.UPDATING,
    }
)
_SETS: Final = {"+": _FETCHED, "*": _FETCHED | {Actual.ASSIGNED, Actual.DELETED, Actual.UPDATED}}

TRANSITIONS: Final = _read(_ASKED, "") | _read(_REPORTED, "REPORT_")
"""Total over word and event; empty: that event cannot happen to that word."""


def status(workload: Workload, facts: Facts, *, reason: str = "") -> Status:
    """Return the row that users see of `workload` on one host, or of none.

    Args:
        workload: As stored.
        facts: Of one allocation of it.
        reason: Why it has no host, a sentence; only without an allocation.
    """
    allocation, report = facts.allocation, facts.report
    if allocation is None:
        return Status(
            workload=workload.name,
            kind=workload.kind,
            revision=workload.revision,
            host=None,
            desired=workload.desired,
            actual=word(facts),
            payload={"reason": reason} if reason else {},
            since=workload.changed_at,
            pid=None,
            restarts=0,
            generation=workload.generation,
            ports={},
        )
    confirmed = report is not None and report.generation >= allocation.generation
    return Status(
        workload=workload.name,
        kind=workload.kind,
        revision=allocation.revision,
        host=allocation.host,
        desired=allocation.desired,
        actual=word(facts),
        payload={} if report is None else _payload(allocation, report),
        since=report.since if report is not None and confirmed else allocation.changed_at,
        pid=None if report is None else report.pid,
        restarts=0 if report is None else report.restarts,
        generation=allocation.generation,
        ports={} if report is None else report.ports,
    )


def _payload(allocation: Allocation, report: Report) -> dict[str, Any]:
    """Error, progress and facts, each only where it has something to say.

    What was given up, or is over, is so until the user's next word.
    """
    confirmed = report.generation >= allocation.generation
    said: dict[str, Any] = {
        "error": report.error,
        "hint": report.hint,
        "phase": str(report.phase) if report.phase in _PASSING else "",
        "doing": report.doing,
        "retry_at": report.retry_at if report.phase is Phase.BACKOFF else None,
        "given_up": confirmed and report.phase is Phase.FAILED,
        "finished": confirmed and report.finished,
        "data_kept": report.data_kept,
    }
    return {name: value for name, value in said.items() if value} | report.facts


_PASSING: Final = {Phase.PREPARING, Phase.STARTING, Phase.STOPPING, Phase.BACKOFF, Phase.REMOVING}
