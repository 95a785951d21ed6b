"""A mailbox that keeps the newest value of each key: bounded, however slow its reader is."""

import asyncio
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Latest(Generic[K, V]):
    """Many may put, one takes."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._any = asyncio.Event()

    def put(self, key: K, value: V) -> None:
        """Keep `value`, in place of what was put for `key` before and not taken yet."""
        self._values[key] = value
        self._any.set()

    async def take(self) -> list[V]:
        """Return all that is there, once something is; keys in the order of their first put."""
        await self._any.wait()
        self._any.clear()
        values, self._values = self._values, {}
        return list(values.values())
