"""Something has changed: told to all who wait for it just now. Who comes later looks first."""

import asyncio


class News:
    """Told by one, waited for by any number."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Make all present waits end."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait until it is told the next time."""
        await self._next.wait()
