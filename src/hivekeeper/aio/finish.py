"""The end of tasks that others wait for: a moment to finish, then no more."""

import asyncio
from collections.abc import Collection


async def finish_within(tasks: Collection[asyncio.Task[None]], timeout_s: float) -> None:
    """Wait until all have finished, at most `timeout_s`; cancel those that have not."""
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
    finally:
        for task in tasks:
            task.cancel()
