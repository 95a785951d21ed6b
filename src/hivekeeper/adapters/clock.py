"""The machine's own time and chance. Nothing else in the product asks for either."""

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """The real `Clock`."""

    def now_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  # the one place that may

    def random(self) -> float:
        return random.random()  # noqa: S311  # spreads retries, guards nothing
