"""Small async pieces: a service beside a body, tasks that get a moment to finish, complaints."""

import asyncio
import logging

import pytest

from hivekeeper.aio.beside import beside
from hivekeeper.aio.complaints import Complaints
from hivekeeper.aio.finish import finish_within


class Service:
    def __init__(self, error: Exception | None = None) -> None:
        self.ended = False
        self._error = error

    async def run(self) -> None:
        try:
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_a_service_ends_with_the_body() -> None:
    service = Service()
    async with beside(service.run(), name="x"):
        await asyncio.sleep(0)
        assert not service.ended
    assert service.ended


async def test_an_error_of_the_body_stays_what_it_is() -> None:
    service, error = Service(), ValueError("mine")

    async def body() -> None:
        async with beside(service.run(), name="x"):
            await asyncio.sleep(0)
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await body()
    assert caught.value is error
    assert service.ended


async def test_a_service_that_fails_ends_the_body() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with beside(Service(ValueError("its own")).run(), name="x"):
            await asyncio.Event().wait()
    assert [str(error) for error in caught.value.exceptions] == ["its own"]


async def test_a_cancelled_body_is_cancelled() -> None:
    async with asyncio.TaskGroup() as group:
        service = Service()

        async def body() -> None:
            async with beside(service.run(), name="x"):
                await asyncio.Event().wait()

        task = group.create_task(body())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert service.ended


async def test_tasks_get_a_moment_to_finish_and_no_more() -> None:
    async with asyncio.TaskGroup() as group:
        quick = group.create_task(asyncio.sleep(0))
        slow = group.create_task(asyncio.Event().wait())
        await finish_within([quick, slow], 0.01)  # type: ignore[list-item]
    assert not quick.cancelled()
    assert slow.cancelled()


async def test_a_complaint_is_not_repeated_until_all_was_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints = Complaints(logging.getLogger("x"), "hub")
    for text in ("a", "a", "b", "a"):
        complaints.say(text)
    assert caplog.messages == ["hub: a", "hub: b"]
    complaints.forget()
    complaints.say("a")
    assert caplog.messages == ["hub: a", "hub: b", "hub: a"]


async def test_however_many_complaints_there_are_few_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints = Complaints(logging.getLogger("x"), "hub")
    for number in range(1000):
        complaints.say(str(number))
    assert len(complaints._said_s) <= 100
    assert len(caplog.messages) == 1000
