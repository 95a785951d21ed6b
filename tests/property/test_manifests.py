"""Manifests survive every way of writing them, and nothing else gets through the decoder."""

import io
import json
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hivekeeper.model.errors import UserError
from hivekeeper.model.manifest import Manifest
from hivekeeper.wire import manifests

SCHEMA = jsonschema.Draft202012Validator(manifests.schema())

# A noisy machine is no failure of the code.
unhurried = settings(deadline=None)

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
identifiers = st.from_regex(r"[a-zA-Z][a-z_ ]{0,8}", fullmatch=True)
hashes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
seconds = st.integers(1, 5) | st.floats(0.1, 5.0)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def mappings(
    needed: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needed, optional=optional)


readiness = st.one_of(
    mappings({"tcp": st.integers(1, 65_535)}, {"timeout_s": seconds}),
    mappings({"log": words.filter(bool)}, {}),
    mappings({"notify": st.just(value=True)}, {}),
    mappings({"http": mappings({"port": st.integers(1, 65_535)}, {"path": st.just("/up")})}, {}),
)
shared: dict[str, st.SearchStrategy[Any]] = {
    "desired": st.sampled_from(["running", "stopped"]),
    "runtime": mappings({}, {"type": st.sampled_from(["auto", "process"])}),
    "placement": mappings({}, {"host": st.none() | names}),
    "restart": mappings(
        {},
        {
            "when": st.sampled_from(["always", "failure", "never"]),
            "max_retries": st.integers(0, 1_000_000),
            "max_delay_s": st.integers(1, 600),
        },
    ),
    "resources": mappings(
        {},
        {
            "memory": st.sampled_from(["512MiB", "1.5 GiB", "2GB"]),
            "cpu": st.floats(0.01, 1024),
            "tasks": st.integers(1, 4_194_304),
        },
    ),
}
processes = mappings(
    {
        "name": names,
        "kind": st.just("process"),
        "process": mappings(
            {"command": st.lists(words, min_size=1, max_size=3)},
            {
                "env": st.dictionaries(
                    st.from_regex("[A-Z_]{1,6}", fullmatch=True), words, max_size=3
                ),
                "cwd": st.just("/srv"),
                "stop_signal": st.sampled_from(["SIGTERM", "SIGINT"]),
                "stop_timeout_s": seconds,
            },
        ),
    },
    {**shared, "readiness": readiness},
)
happs = mappings(
    {
        "name": names,
        "kind": st.just("holochain"),
        "holochain": st.one_of(
            mappings(
                {"happ": st.just("notes.happ")},
                {
                    "line": st.just("0.6"),
                    "network_seed": words,
                    "roles": st.dictionaries(
                        identifiers,
                        mappings({}, {"properties": st.dictionaries(words, anything, max_size=3)}),
                        max_size=2,
                    ),
                    "init_calls": st.lists(
                        mappings(dict.fromkeys(["role", "zome", "fn"], identifiers), {}),
                        max_size=2,
                    ),
                },
            ),
            mappings({"happ": st.just("https://example.org/a.happ"), "sha256": hashes}, {}),
            mappings({"happ": hashes.map("blob:{}".format)}, {}),
        ),
    },
    {**shared, "gateway": mappings({}, {"functions": st.lists(st.just("notes/*"), max_size=2)})},
)
declared = processes | happs


def as_yaml(value: Any) -> bytes:
    """Return `value` in blocks: what ruamel writes in braces it cannot always read (`{a: ?0}`)."""
    out = io.BytesIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.dump(value, out)
    return out.getvalue()


def decoded(data: bytes) -> list[Manifest] | str:
    """Return the manifests in `data`, or why they are refused."""
    try:
        return manifests.decode(data, source="f")
    except UserError as refused:
        return str(refused)


@given(declared)
@unhurried
def test_a_manifest_means_the_same_in_yaml_in_json_and_as_it_is_stored(
    value: dict[str, Any],
) -> None:
    (manifest,) = manifests.decode(json.dumps(value).encode(), source="f")
    assert manifests.decode(as_yaml(value), source="f") == [manifest]
    stored = manifests.encode(manifest)
    assert manifests.decode(stored, source="f") == [manifest]
    assert manifests.encode(manifests.decode(stored, source="f")[0]) == stored


@given(declared)
@unhurried
def test_the_schema_takes_whatever_the_decoder_takes(value: dict[str, Any]) -> None:
    SCHEMA.validate(value)
    (manifest,) = manifests.decode(json.dumps(value).encode(), source="f")
    SCHEMA.validate(json.loads(manifests.encode(manifest)))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value within `value`."""
    steps: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


def changed(value: Any, path: tuple[str | int, ...], to: Any) -> Any:
    if not path:
        return to
    copy: Any = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


@given(declared, st.data())
@unhurried
def test_a_manifest_with_anything_anywhere_is_refused_by_name_or_fits_the_schema(
    value: dict[str, Any], data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(places(value)))
    broken = changed(value, place, data.draw(anything))
    found = decoded(json.dumps(broken, indent=1).encode())
    if isinstance(found, str):
        assert found.startswith("f:")
    else:
        SCHEMA.validate(broken)
        assert [decoded(manifests.encode(manifest)) for manifest in found] == [found]


@given(declared, st.data())
@unhurried
def test_a_key_that_is_there_twice_is_refused_at_any_depth(
    value: dict[str, Any], data: st.DataObject
) -> None:
    mapping_places = [place for place in places(value) if place and isinstance(place[-1], str)]
    place = data.draw(st.sampled_from(mapping_places))
    twice = changed(value, place, {"\ue000": 0})  # a mark that is nowhere else
    key = json.dumps(place[-1])
    text = json.dumps(twice).replace('{"\\ue000": 0}', f"1, {key}: 2")
    assert "is here twice" in decoded(text.encode())


TOKENS = """name|kind: process|: |:|- |[|]|{|}|,|&a |*a|!x |"|'|>-\n|#|? |\\|0x1|1e9|~|<<|@|`|é"""
MORE_TOKENS = [
    "\n",
    "\n  ",
    "|\n",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "\t",
    "\\U0011FFFF",
    "\\uD800",
]
STRANGE_TOKENS = ["\u2028", "\x85", "\0", "\r", "\ufeff", "\x1b"]
tokens = st.sampled_from([*TOKENS.split("|"), *MORE_TOKENS, *STRANGE_TOKENS])


@given(st.binary(max_size=200) | st.lists(tokens, max_size=40).map("".join).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    found = decoded(data)
    if isinstance(found, str):
        assert found.startswith("f")
        assert all(line.isprintable() for line in found.splitlines())
