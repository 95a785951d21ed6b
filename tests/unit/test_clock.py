"""The real clock and the one for tests keep the same promises."""

from datetime import UTC, datetime

import pytest

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.ports import Clock
from hivekeeper.testing.clock import FakeClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_time_never_goes_back_and_knows_its_zone(clock: Clock) -> None:
    first, second = clock.now_s(), clock.now_s()
    assert 0 <= first <= second
    assert clock.now().tzinfo is UTC
    assert 0 <= clock.random() < 1


def test_the_real_one_is_the_machines() -> None:
    clock = SystemClock()
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 5  # noqa: TID251
    assert len({clock.random() for _ in range(10)}) > 1


def test_the_one_for_tests_moves_only_when_told() -> None:
    clock = FakeClock(chance=0.5)
    before = clock.now()
    clock.advance(90.5)
    assert clock.now_s() == 90.5
    assert (clock.now() - before).total_seconds() == 90.5
    assert clock.random() == 0.5
