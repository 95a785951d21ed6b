"""A clock that stands still until a test moves it. Chance is a number that the test sets."""

from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `Clock` whose wall time goes along with its boot time; both begin at fixed moments."""

    def __init__(self, *, chance: float = 0.0) -> None:
        self.time_s = 0.0
        self.chance = chance

    def now_s(self) -> float:
        return self.time_s

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.time_s)

    def random(self) -> float:
        return self.chance

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        assert seconds >= 0, "time does not go back"
        self.time_s += seconds
