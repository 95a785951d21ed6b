"""A service that runs beside a body of code: started before it, ended after it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def beside(service: Coroutine[None, None, None], *, name: str) -> AsyncIterator[None]:
    """Run `service` as a task while the context lasts.

    The body's own error stays what it is (a task group alone would wrap it in an
    `ExceptionGroup`). A service that fails cancels the body; its error comes out in a group.
    """
    error: Exception | None = None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service, name=name)
        try:
            yield
        except Exception as failure:  # noqa: BLE001 -- raised again below, outside the group
            error = failure
        finally:
            task.cancel()
    if error is not None:
        raise error
