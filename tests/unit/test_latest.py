"""A mailbox of the newest values."""

import asyncio

from hivekeeper.aio.latest import Latest


async def test_only_the_newest_value_of_each_key_is_kept() -> None:
    box: Latest[str, int] = Latest()
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        box.put(key, value)
    assert await box.take() == [3, 2]


async def test_whoever_takes_waits_for_something() -> None:
    box: Latest[str, int] = Latest()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        taken = tasks.create_task(box.take(), name="take")
        await asyncio.sleep(0)
        assert not taken.done()
        box.put("a", 1)
    assert taken.result() == [1]
    box.put("b", 2)
    assert await box.take() == [2], "what was taken is not there any more"
