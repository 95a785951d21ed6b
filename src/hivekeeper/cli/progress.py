"""How long work shows itself to whoever waits.

One line that changes on a terminal, a line a change elsewhere.
"""

import sys
from typing import Self


class Progress:
    """A context: what is being done just now, on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._last = quiet, ""
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._last and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """Say what is being done now; the same again says nothing."""
        if self._quiet or text == self._last:
            return
        self._last = text
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
