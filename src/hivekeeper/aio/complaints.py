"""Log lines about what goes wrong again and again: said at once, then only now and then."""

import asyncio
import logging
from typing import Final

_AGAIN_S: Final = 60.0
_KEPT: Final = 100
"""Different complaints told apart; past that, all are forgotten, and said once more."""


class Complaints:
    """Warnings about one thing. To be used where an event loop runs.

    Args:
        log: Where to say it.
        about: What it is about; begins every line.
    """

    def __init__(self, log: logging.Logger, about: str) -> None:
        self._log = log
        self._about = about
        self._said_s: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Say it, unless the same was said within the last minute."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._said_s.get(text, -_AGAIN_S) < _AGAIN_S:
            return
        if len(self._said_s) >= _KEPT:
            self._said_s.clear()
        self._said_s[text] = now_s
        self._log.warning("%s: %s", self._about, text)

    def forget(self) -> None:
        """All is well again: what goes wrong from now on is news."""
        self._said_s.clear()
