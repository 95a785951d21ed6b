"""Which functions of a hApp may be called: `zome/function`, each a name or a glob.

Only `*` and `?` are special, and neither reaches over the slash; case matters.
"""

import fnmatch
import functools
import re
from collections.abc import Iterable


class Functions:
    """What one manifest allows. False if that is nothing."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = [each.partition("/")[::2] for each in globs]

    def __bool__(self) -> bool:
        return bool(self._globs)

    def allow(self, zome: str, fn: str) -> bool:
        """Return whether `fn` of `zome` may be called."""
        return any(_matches(zomes, zome) and _matches(fns, fn) for zomes, fns in self._globs)


def _matches(glob: str, name: str) -> bool:
    return _pattern(glob).match(name) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    """Python's translation never backtracks for long, which a pattern of our own would."""
    return re.compile(fnmatch.translate(glob.replace("[", "[[]")))
