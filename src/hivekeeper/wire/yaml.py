"""YAML text to plain values, each with its place in the text. JSON is YAML too.

YAML 1.2, core schema: `no` is a text, `0o17` is fifteen. Refuses what a declaration has no use for
or an attacker has: tags, keys that are not text or there twice, numbers that JSON cannot say, and
more depth or nodes than a person writes, before it has built them. Knows no manifest.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.reader import ReaderError

from hivekeeper.model import limits
from hivekeeper.model.errors import UserError

Path = tuple[str | int, ...]
"""Where a value is in its document: keys and positions, from the top."""

_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_INTEGER_LENGTH: Final = 40
"""Longer than any that fits; Python's own limit is for conversions that take a second."""
_SHOWN_LENGTH: Final = 60
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
_INTEGERS: Final = range(-(2**63), 2**64)
"""What fits 64 bits, signed or not: what our JSON can say."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document's value, and where its parts were: 1-based lines and columns."""

    source: str
    value: Any
    marks: dict[Path, tuple[int, int]]

    def place(self, path: Path) -> str:
        """Return `file:line:column` of the value at `path`, or of the nearest one around it."""
        while path not in self.marks:
            path = path[:-1]
        line, column = self.marks[path]
        return f"{self.source}:{line}:{column}"


def load(data: bytes, *, source: str) -> list[Document]:
    """Return the documents in `data`, without those that hold nothing.

    Args:
        data: UTF-8, at most `MANIFEST_BYTES`.
        source: The file's name, for errors.

    Raises:
        UserError: It is no YAML, or not of the kind that this module takes. Says where.
    """
    if len(data) > limits.MANIFEST_BYTES:
        raise UserError(
            f"{source}: {len(data)} bytes are too many: at most {limits.MANIFEST_BYTES} are read"
        )
    text = _text(data, source)
    try:
        events = YAML(typ="safe", pure=True).parse(text)
        return list(_documents(events, source))
    except ReaderError as error:
        _refuse_letter(text, error.position, source)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{source}{at}: {error.problem or error.context}") from error
    except (YAMLError, ValueError, OverflowError) as error:  # the latter two: "\\UFFFFFFFF"
        raise UserError(f"{source}: it cannot be read as YAML: {error}") from error


def shown(text: str) -> str:
    """Return `text` as an error may show it: short, and without what a terminal would obey."""
    text = text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
    return text if text.isprintable() else ascii(text)


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{source}:{line}: it is not UTF-8 text") from error


def _refuse_letter(text: str, position: int, source: str) -> NoReturn:
    line = text.count("\n", 0, position) + 1
    raise UserError(
        f"{source}:{line}: the character U+{ord(text[position]):04X} may not be in YAML"
    )


def _documents(events: Iterator[Event], source: str) -> Iterator[Document]:
    used = 0
    for event in events:
        if isinstance(event, DocumentStartEvent):
            builder = _Builder(events, source, used)
            value, _ = builder.node(next(events), ())
            used = builder.used
            if value is not None:
                yield Document(source, value, builder.marks)


class _Builder:
    """Builds the values of one document from its events; counts each before it builds it."""

    def __init__(self, events: Iterator[Event], source: str, used: int) -> None:
        self.used = used
        """Nodes so far, in this document and those before it; an alias is as many as it names."""
        self.marks: dict[Path, tuple[int, int]] = {}
        self._events = events
        self._source = source
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """A value, how deep it is, and how many nodes it has."""

    def node(self, event: Event, path: Path) -> tuple[Any, int]:
        """Return the value that begins with `event`, and how deep it is."""
        self.marks.setdefault(path, _mark(event))
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        assert isinstance(event, ScalarEvent | CollectionStartEvent), "the parser's promise"
        before = self.used
        self._count(event, nodes=1, depth=len(path) + 1)
        if event.ctag is not None:
            self._refuse(event, f"tags are not used here: {shown(str(event.tag))}")
        if isinstance(event, ScalarEvent):
            value, height = self._scalar(event), 1
        elif isinstance(event, MappingStartEvent):
            value, height = self._mapping(path)
        else:
            value, height = self._sequence(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, height, self.used - before)
        return value, height

    def _alias(self, event: AliasEvent, path: Path) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            self._refuse(event, f"nothing called &{shown(event.anchor)} ends before this")
        value, height, nodes = self._anchors[event.anchor]
        self._count(event, nodes=nodes, depth=len(path) + height)
        return value, height

    def _sequence(self, path: Path) -> tuple[list[Any], int]:
        values: list[Any] = []
        deepest = 0
        while not isinstance(event := next(self._events), SequenceEndEvent):
            value, height = self.node(event, (*path, len(values)))
            values.append(value)
            deepest = max(deepest, height)
        return values, deepest + 1

    def _mapping(self, path: Path) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        deepest = 0
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, path)
            self.marks[*path, key] = _mark(event)
            values[key], height = self.node(next(self._events), (*path, key))
            deepest = max(deepest, height)
        return values, deepest + 1

    def _key(self, event: Event, path: Path) -> str:
        self._count(event, nodes=1, depth=len(path) + 1)
        if not isinstance(event, ScalarEvent) or event.ctag is not None:
            self._refuse(event, "a key is a text; this is none")
        key = self._scalar(event)
        if not isinstance(key, str):
            self._refuse(event, f"a key is a text: put {shown(event.value)} in quotes")
        if (*path, key) in self.marks:
            line, _ = self.marks[*path, key]
            self._refuse(event, f"{shown(key)} is here twice; the first is on line {line}")
        return key

    def _scalar(self, event: ScalarEvent) -> Any:
        text = event.value
        if not event.implicit[0]:
            return self._quoted(event)
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return self._integer(event)
        if _FLOAT.fullmatch(text):
            return self._float(event)
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{text} is no number that can be used here")
        return text

    def _quoted(self, event: ScalarEvent) -> str:
        """Join the pairs of surrogates that JSON writes for what lies beyond U+FFFF."""
        text: str = event.value
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, "half of a surrogate pair is no character")

    def _integer(self, event: ScalarEvent) -> int:
        text: str = event.value
        is_short = len(text) <= _INTEGER_LENGTH
        value = int(text, 0 if text[1:2] in {"o", "x"} else 10) if is_short else _INTEGERS.stop
        if value not in _INTEGERS:
            self._refuse(event, f"{text[:40]} does not fit 64 bits")
        return value

    def _float(self, event: ScalarEvent) -> float:
        value = float(event.value) + 0.0  # of -0.0 and 0.0, which are equal, only one
        if math.isinf(value):
            self._refuse(event, f"{event.value[:40]} is too large a number")
        return value

    def _count(self, event: Event, *, nodes: int, depth: int) -> None:
        self.used += nodes
        if self.used > limits.MANIFEST_NODES:
            self._refuse(event, f"more than {limits.MANIFEST_NODES} values, aliases followed")
        if depth > limits.MANIFEST_DEPTH:
            self._refuse(event, f"nested more than {limits.MANIFEST_DEPTH} deep, aliases followed")

    def _refuse(self, event: Event, why: str) -> NoReturn:
        line, column = _mark(event)
        raise UserError(f"{self._source}:{line}:{column}: {why}")


def _mark(event: Event) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
