"""Manifests from text and to text, and the JSON Schema that editors use.

`decode` tells all that is wrong at once, each with file, line, field and what was meant. Looks at
the text alone: whether a file, a host or a hash is what it should be is found out elsewhere.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Final, NewType, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from hivekeeper.model import manifest as model
from hivekeeper.model.errors import UserError
from hivekeeper.model.manifest import Manifest
from hivekeeper.wire import yaml
from hivekeeper.wire.yaml import Document, Path

PROBLEMS_TOLD: Final = 20
"""More do not fit a screen, and the first ones explain many of the others."""

_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list",
    list: "a list",
    dict: "a mapping",
    NoneType: "nothing",
}
_BOUNDS: Final[dict[str, str]] = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
}
_EXAMPLES: Final = [
    {
        "name": "hello",
        "kind": "process",
        "process": {"command": ["python3", "-m", "http.server", "8800"]},
        "readiness": {"tcp": 8800},
    },
    {
        "name": "notes",
        "kind": "holochain",
        "holochain": {"line": "0.6", "happ": "notes.happ", "network_seed": "example"},
        "gateway": {"functions": ["notes/*"]},
    },
]
_KINDS: Final = [
    {
        "if": {"properties": {"kind": {"const": kind}}},
        "then": {
            "required": [kind],
            "properties": {kind: {"type": "object"}, other: {"type": "null"}},
        },
    }
    for kind, other in (("holochain", "process"), ("process", "holochain"))
]
_SCHEMA: Final = Meta(
    title="Hivekeeper manifest", examples=_EXAMPLES, extra_json_schema={"allOf": _KINDS}
)
_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong with the value at `path`."""

    path: Path
    why: str


def decode(text: bytes, *, source: str) -> list[Manifest]:
    """Return the manifests in `text`: YAML with one or several documents, or JSON.

    Args:
        text: UTF-8, at most `MANIFEST_BYTES`.
        source: The file's name, for errors.

    Returns:
        At least one, in their order, no two of one name.

    Raises:
        UserError: A line for each problem, `file:line:column: field: what and what was meant`.
    """
    documents = yaml.load(text, source=source)
    if not documents:
        raise UserError(f"{source}: it is empty; a manifest has at least a name and a kind")
    found = [(document, problem) for document in documents for problem in _problems(document)]
    found = found or list(_twice(documents))
    if found:
        raise _refusal(found)
    return [msgspec.convert(document.value, Manifest) for document in documents]


def encode(manifest: Manifest) -> bytes:
    """Return the canonical JSON of `manifest`; equal manifests give equal bytes."""
    return _encoder.encode(manifest)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a manifest."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(Annotated[Manifest, _SCHEMA]),
    }


def _problems(document: Document) -> Iterator[_Problem]:
    """Yield what is wrong with a document's parts, or, if nothing, with how they fit together."""
    found = list(_check(Manifest, document.value, ()))
    yield from found
    if not found:
        for field, why in model.contradictions(msgspec.convert(document.value, Manifest)):
            yield _Problem(tuple(field.split(".")), why)


def _twice(documents: list[Document]) -> Iterator[tuple[Document, _Problem]]:
    first: dict[str, Document] = {}
    for document in documents:
        earlier = first.setdefault(document.value["name"], document)
        if earlier is not document:
            place = earlier.place(("name",))
            yield document, _Problem(("name",), f"is the name at {place} again")


def _check(form: Any, value: Any, path: Path) -> Iterator[_Problem]:
    """Yield what is wrong with `value`, which should be of the type `form`."""
    options = get_args(form)
    if NoneType in options:
        if value is None:
            return
        (form,) = (option for option in options if option is not NoneType)
    found = list(_check_parts(_bare(form), value, path))
    yield from found
    if not found:
        try:
            msgspec.convert(value, form)
        except msgspec.ValidationError as error:
            yield _Problem(path, _complaint(form, value, error))


def _check_parts(form: Any, value: Any, path: Path) -> Iterator[_Problem]:
    if isinstance(value, dict) and isinstance(form, type) and issubclass(form, Struct):
        yield from _check_fields(form, value, path)
    elif isinstance(value, dict) and get_origin(form) is dict:
        key_form, value_form = get_args(form)
        for key, each in value.items():
            yield from _check(key_form, key, (*path, key))
            yield from _check(value_form, each, (*path, key))
    elif isinstance(value, list) and get_origin(form) is tuple:
        for position, each in enumerate(value):
            yield from _check(get_args(form)[0], each, (*path, position))


def _check_fields(form: type[Struct], value: dict[str, Any], path: Path) -> Iterator[_Problem]:
    fields = {field.name: field for field in msgspec.structs.fields(form)}
    for name, each in value.items():
        if name in fields:
            yield from _check(fields[name].type, each, (*path, name))
        else:
            yield _Problem((*path, name), _unknown_field(form, name, list(fields)))
    for name, field in fields.items():
        if field.required and name not in value:
            yield _Problem((*path, name), "is missing")


def _bare(form: Any) -> Any:
    """Return a type without its annotations and new names."""
    while get_origin(form) is Annotated or isinstance(form, NewType):
        form = form.__supertype__ if isinstance(form, NewType) else get_args(form)[0]
    return form


def _unknown_field(form: type[Struct], name: str, known: list[str]) -> str:
    if name in model.LATER.get(form, ()):
        return "not supported yet"
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown field; {meant}"


def _complaint(form: Any, value: Any, error: msgspec.ValidationError) -> str:
    """Return what was expected. Shows no text that was there: it may be a secret."""
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__)  # the type's own rule: a sentence
    bare = _bare(form)
    if isinstance(value, str) and isinstance(bare, type) and issubclass(bare, Enum):
        return _unknown_word(bare, value)
    hint = "; put it in quotes" if _is_meant(form, value) else ""
    return f"expected {_expected(form)}{_but_got(bare, value)}{hint}"


def _is_meant(form: Any, value: Any) -> bool:
    """Return whether `value` would do as a text: 0.6 for "0.6"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        msgspec.convert(str(value), form)
    except msgspec.ValidationError:
        return False
    return True


def _unknown_word(form: type[Enum], word: str) -> str:
    known = [str(each.value) for each in form]
    if word in model.LATER.get(form, ()):
        return f"{word} is not supported yet; supported: {', '.join(known)}"
    near = difflib.get_close_matches(word, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"expected {_one_of(known)}{meant}"


def _one_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _expected(form: Any) -> str:
    """Return what `form` asks for, in words: its description, or its kind and its bounds."""
    bare = _bare(form)
    if isinstance(bare, type) and issubclass(bare, Enum):
        return _one_of([str(each.value) for each in bare])
    metas = [each for each in get_args(form)[1:] if isinstance(each, Meta)]
    for meta in metas:
        if meta.description:
            return meta.description
    words = [_NAMES.get(get_origin(bare) or bare, "a mapping")]
    for meta in metas:
        bounds = {name: getattr(meta, name) for name in _BOUNDS}
        words += [_BOUNDS[name].format(n) for name, n in bounds.items() if n is not None]
    return ", ".join(words)


def _but_got(form: Any, value: Any) -> str:
    """Return what was there, as far as it is safe to tell; nothing if it had the right kind."""
    if isinstance(value, str) and form is str:
        return ""
    if isinstance(value, bool):
        return f", got {'true' if value else 'false'}"
    if isinstance(value, int | float) and form in {int, float}:
        return f", got {value}"
    kind = _NAMES[type(value)]
    if kind == _NAMES.get(get_origin(form)):
        return f", got one {len(value)} long"
    return f", got {kind}"


def _refusal(found: list[tuple[Document, _Problem]]) -> UserError:
    lines = [_line(document, problem) for document, problem in found[:PROBLEMS_TOLD]]
    if len(found) > PROBLEMS_TOLD:
        lines.append(f"… and {len(found) - PROBLEMS_TOLD} more")
    return UserError("\n".join(lines), field=_field(found[0][1].path))


def _line(document: Document, problem: _Problem) -> str:
    parts = [document.place(problem.path), _field(problem.path), problem.why]
    return ": ".join(part for part in parts if part)


def _field(path: Path) -> str:
    """Return `path` as people write it: `holochain.init_calls[0].fn`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{yaml.shown(part)}" for part in path)
    return "".join(parts).removeprefix(".")
