"""Events: what is told of a workload's life, and what would only be chatter.

A word that changes is told; the same of the same allocation only once a minute, since a program
that crashes again and again says nothing new. Keeps what was told in memory; stores nothing.
"""

from typing import Final

from hivekeeper.model.allocation import Actual, Allocation, Desired, Phase, Report
from hivekeeper.model.ids import HostId
from hivekeeper.model.record import Event
from hivekeeper.orchestrator.fleet import Fleet, Write
from hivekeeper.ports import Clock

_AGAIN_S: Final = 60.0
_REMEMBERED: Final = 20_000
"""Things said and not to be said again yet; past that, all are forgotten."""
_BECAUSE_CHARACTERS: Final = 500
"""Enough to recognise an error; all of it is in the status."""


class Teller:
    """Makes events to be stored along with what they are about."""

    def __init__(self, fleet: Fleet, clock: Clock) -> None:
        self._fleet, self._clock = fleet, clock
        self._count = 0
        self._said_s: dict[tuple[str, str, str], float] = {}

    def event(self, workload: str, what: str, because: str, host: HostId | None = None) -> Write:
        """Return an event to be stored."""
        at = self._clock.now()
        self._count += 1
        event = Event(
            at=at, workload=workload, host=host, what=what, because=because[:_BECAUSE_CHARACTERS]
        )
        key = f"{at:%Y%m%dT%H%M%S.%f}Z-{self._count:08}"
        return self._fleet.events.put(key, event)

    def report(
        self, allocation: Allocation, before: Report | None, report: Report, word: Actual
    ) -> Write | None:
        """Return what there is to tell of a new report, if anything.

        Args:
            allocation: What the report is about.
            before: The report before it.
            report: The new one.
            word: What users see now.
        """
        is_new = before is None or before.phase is not report.phase
        match word:
            case Actual.RUNNING if is_new or (before and report.restarts > before.restarts):
                again = f" again (restart {report.restarts})" if report.restarts else ""
                return self._once(allocation, word, f"its program is ready{again}", same="ready")
            case Actual.ERROR:
                cause = report.error.strip().partition(";")[0]
                end = "; given up" if report.phase is Phase.FAILED else ""
                return self._once(allocation, word, report.error.strip(), same=cause + end)
            case Actual.INSTALLED if is_new and allocation.desired is Desired.STOPPED:
                return self._once(allocation, word, "stopped, as it is to be")
            case Actual.UNINSTALLED if is_new:
                kept = "its data is kept" if report.data_kept else "nothing of it is left"
                return self._once(allocation, word, f"removed; {kept}")
        return None

    def silence(
        self, allocation: Allocation, *, silent: bool, lost_after_s: float
    ) -> Write | None:
        """Return what there is to tell of a host that falls silent, or is heard of again."""
        if silent:
            because = f"its host was not heard of for {lost_after_s:g} s; it stays where it is"
            return self._once(allocation, Actual.UNKNOWN, because)
        return self._once(allocation, "heard", "its host is heard of again")

    def _once(
        self, allocation: Allocation, what: str, because: str, *, same: str = ""
    ) -> Write | None:
        """Return the event, unless it, or one that is the `same`, was told within the minute."""
        said, now_s = (allocation.id, what, same or because), self._clock.now_s()
        if now_s - self._said_s.get(said, -_AGAIN_S) < _AGAIN_S:
            return None
        if len(self._said_s) >= _REMEMBERED:
            self._said_s.clear()
        self._said_s[said] = now_s
        return self.event(allocation.workload, what, because, allocation.host)
