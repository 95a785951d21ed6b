"""Which hApp a call means, and whether it may be called; in the contract's order.

A hApp on this host goes first. Decides, and calls nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import AnsweredError, ZomeCall
from hivekeeper.gateway.neighbours import Neighbours
from hivekeeper.gateway.routes import Routes, Way
from hivekeeper.gateway.targets import Remote, Target
from hivekeeper.model.ids import HostId


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What can be called.

    Args:
        host: This one.
        routes: All that is declared.
        neighbours: What is installed on this host; None: no host agent runs here.
    """

    host: HostId
    routes: Routes
    neighbours: Neighbours | None

    def target(self, call: ZomeCall) -> Target:
        """Return where `call` goes; raises `AnsweredError` if nowhere."""
        way, target = self._find(call)
        if not way.functions:
            raise AnsweredError(contract.NOT_LISTED)
        if not way.functions.allow(call.zome, call.fn):
            raise contract.forbidden(call)
        return target

    def _find(self, call: ZomeCall) -> tuple[Way, Target]:
        ways = self.routes.ways(call.app_id)
        here = self._here(call, ways)
        if len(here) > 1:
            raise AnsweredError(contract.SEVERAL_INSTALLED)
        if here:
            return here[0]
        for way in ways:
            if self.neighbours is None or way.host != self.host:
                return way, Remote(way.host)
        if self.neighbours is not None and self.neighbours.any_serves(call):
            raise AnsweredError(contract.NOT_LISTED)
        raise AnsweredError(contract.NOT_INSTALLED)

    def _here(self, call: ZomeCall, ways: Sequence[Way]) -> list[tuple[Way, Target]]:
        if self.neighbours is None:
            return []
        mine = [way for way in ways if way.host == self.host]
        found = [(way, self.neighbours.find(way.workload, call)) for way in mine]
        return [(way, app) for way, app in found if app is not None]
