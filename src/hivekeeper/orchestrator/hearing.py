"""When hosts were heard of, and which version of their document they have: in memory only.

After a start nobody is silent yet: a host gets its full time to be heard. Stores nothing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from hivekeeper.core.lifecycle import Facts
from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation, Report
from hivekeeper.model.ids import HostId, Sequence
from hivekeeper.model.record import ABSENT
from hivekeeper.orchestrator.fleet import Kept
from hivekeeper.ports import Clock

_POLLS_MISSED = limits.HOST_LOST_AFTER_S / limits.HOST_POLL_S


class Hearing:
    """What is known of hosts by listening."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._listening_since_s = clock.now_s()
        self._heard_s: dict[HostId, float] = {}
        self._fetched: dict[HostId, Sequence] = {}
        self.poll_s = limits.HOST_POLL_S

    @property
    def lost_after_s(self) -> float:
        """How long a host may be silent."""
        return self.poll_s * _POLLS_MISSED

    def expect(self, hosts: int) -> None:
        """Have so many hosts ask, each as often as all of them together may."""
        self.poll_s = max(limits.HOST_POLL_S, hosts / limits.HOST_REQUESTS_PER_S)

    def begin_anew(self) -> None:
        """Nobody was listening until now: who was silent is not to blame."""
        self._listening_since_s = self._clock.now_s()

    def heard(self, host: HostId, fetched: Sequence | None = None) -> None:
        """Note that `host` was heard of, and (if it said so) which version it has."""
        self._heard_s[host] = self._clock.now_s()
        if fetched is not None:
            self._fetched[host] = fetched

    def heard_at(self, host: HostId) -> datetime | None:
        """Return when `host` was heard of last, by the wall clock; None: not yet."""
        heard_s = self._heard_s.get(host)
        if heard_s is None:
            return None
        return self._clock.now() - timedelta(seconds=self._clock.now_s() - heard_s)

    def fetched(self, host: HostId) -> Sequence:
        """Return which version of its document `host` has stored, as far as is known."""
        return self._fetched.get(host, ABSENT)

    def is_silent(self, host: HostId) -> bool:
        """Return whether `host` was not heard of for longer than its lease."""
        heard_s = max(self._heard_s.get(host, 0.0), self._listening_since_s)
        return self._clock.now_s() - heard_s > self.lost_after_s

    def silent(self, hosts: Iterable[HostId]) -> frozenset[HostId]:
        """Return which of `hosts` are silent."""
        return frozenset(host for host in hosts if self.is_silent(host))

    def facts(self, allocation: Kept[Allocation], report: Report | None) -> Facts:
        """Return what the status word of an allocation depends on."""
        host = allocation.value.host
        return Facts(
            allocation=allocation.value,
            report=report,
            fetched=self.fetched(host) >= allocation.sequence,
            silent=self.is_silent(host),
        )
