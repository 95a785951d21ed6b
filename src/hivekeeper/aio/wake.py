"""A wake-up that loses nothing and keeps no count.

"look again", said any number of times, is heard once.
"""

import asyncio


class Wake:
    """Set by anyone, waited for by one loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Make the present wait end, or the next one if nobody waits."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until set, at most `timeout_s`; return whether it was set.

        Either way it is unset after.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            woken = self._event.is_set()
            self._event.clear()
        return woken
