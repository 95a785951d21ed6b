"""What manifests may say, and what is said about those that may not."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from hivekeeper.model import limits, text
from hivekeeper.model import manifest as model
from hivekeeper.model.errors import UserError
from hivekeeper.model.limits import GIB, KIB, MANIFEST_BYTES, MIB
from hivekeeper.model.manifest import Conductor, Kind, Line, Manifest, StopSignal
from hivekeeper.model.policy import Resources, RestartWhen
from hivekeeper.wire import manifests, yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
SHA = "0123456789abcdef" * 4
EVERYTHING = f"""
name: notes
kind: holochain
desired: stopped
holochain:
  line: "0.6"
  conductor: real
  installed_app_id: Notes App
  happ: https://example.org/notes.happ
  sha256: {SHA}
  network_seed: example
  roles:
    notes: {{properties: {{max: 3, deep: [1, null, 2.5, {{no: no}}]}}, membrane_proof: aGVsbG8=}}
  init_calls: [{{role: notes, zome: notes, fn: setup, payload: {{node: "<NODE_NAME>"}}}}]
  network: {{bootstrap_url: "https://b.example", signal_url: "wss://s.org", advanced: {{a: 1}}}}
gateway: {{functions: ["notes/*"]}}
runtime: {{type: process}}
network: {{mode: host}}
placement: {{host: big-one}}
restart: {{when: failure, max_retries: 2, first_delay_s: 1, max_delay_s: 2.5}}
resources: {{memory: 1.5GiB, cpu: 2, tasks: 100}}
"""
HELLO = """\
name: hello
kind: process
process:
  command: [serve, "8800"]
  env:
    GREETING: hi
"""
WRONG = r"""
restart: {max_retires: 3}
    7:11: restart.max_retires: unknown field; did you mean max_retries?

zzz: 3
    7:1: zzz: unknown field; known are name, kind, desired, process, holochain, gateway,
    runtime, network, readiness, placement, restart, resources

volumes: []
    7:1: volumes: not supported yet

placement: {on_lost: move}
    7:13: placement.on_lost: not supported yet

network: {ports: [{name: web, port: 1, host_port: 2}]}
    7:40: network.ports[0].host_port: not supported yet

network: {ports: [{name: web}]}
    7:19: network.ports[0].port: is missing

restart: null
    7:1: restart: expected a mapping, got nothing

restart: []
    7:1: restart: expected a mapping, got a list

restart: soon
    7:1: restart: expected a mapping, got text

desired: runing
    7:1: desired: expected running or stopped; did you mean running?

desired: true
    7:1: desired: expected running or stopped, got true

runtime: {type: nspawn}
    7:11: runtime.type: nspawn is not supported yet; supported: auto, process

runtime: {type: bhyve}
    7:11: runtime.type: expected auto or process

network: {mode: private}
    7:11: network.mode: private is not supported yet; supported: host

restart: {max_retries: 2.0}
    7:11: restart.max_retries: expected a whole number, at least 0, at most 1000000, got
    2.0

restart: {max_retries: -1}
    7:11: restart.max_retries: expected a whole number, at least 0, at most 1000000, got -1

restart: {max_retries: '3'}
    7:11: restart.max_retries: expected a whole number, at least 0, at most 1000000, got
    text

restart: {max_retries: true}
    7:11: restart.max_retries: expected a whole number, at least 0, at most 1000000, got
    true

restart: {first_delay_s: 5s}
    7:11: restart.first_delay_s: expected seconds, more than 0, at most 604800 (a week),
    got text

restart: {first_delay_s: 0}
    7:11: restart.first_delay_s: expected seconds, more than 0, at most 604800 (a week),
    got 0

readiness: {tcp: 65536}
    7:13: readiness.tcp: expected a port number, a whole number from 1 to 65535, got 65536

resources: {cpu: 0}
    7:13: resources.cpu: expected a number, more than 0, at most 1024, got 0

resources: {memory: 512}
    7:13: resources.memory: expected a size: a number and KiB, MiB, GiB or TiB (or kB, MB,
    GB, TB), as in 512MiB, got a whole number

resources: {memory: 512M}
    7:13: resources.memory: expected a size: a number and KiB, MiB, GiB or TiB (or kB, MB,
    GB, TB), as in 512MiB

resources: {memory: 3KiB}
    7:1: resources: memory must be at least 1MiB

restart: {first_delay_s: 10}
    7:1: restart: first_delay_s must not be greater than max_delay_s

readiness: {}
    7:1: readiness: exactly one of log, tcp, http, notify is needed

readiness: {tcp: 1, notify: true}
    7:1: readiness: exactly one of log, tcp, http, notify is needed

holochain: {happ: x}
    7:1: holochain: does not go with kind: process

gateway: {functions: [a/b]}
    7:1: gateway: does not go with kind: process; it calls the functions of hApps

network: {ports: [{name: web, port: 1}, {name: web, port: 2}]}
    7:11: network.ports: each needs a name of its own

placement: {host: Big}
    7:13: placement.host: expected a name of lower-case letters, digits and hyphens, at
    most 40 of them, with no hyphen first or last

placement: {host: "big\n"}
    7:13: placement.host: expected a name of lower-case letters, digits and hyphens, at
    most 40 of them, with no hyphen first or last

readiness: {log: ''}
    7:13: readiness.log: expected text, at least 1 long, at most 512 long

readiness: {http: {port: 1, path: a b}}
    7:29: readiness.http.path: expected the path of an address, from its first `/` on,
    without spaces

name: again
    7:1: name is here twice; the first is on line 1

restart: {when: always, when: never}
    7:25: when is here twice; the first is on line 7

restart: !!map {}
    7:10: tags are not used here: tag:yaml.org,2002:map

restart: !python/object x
    7:10: tags are not used here: !python/object

8080: web
    7:1: a key is a text: put 8080 in quotes

no-such: *thing
    7:10: nothing called &thing ends before this

restart: &r [*r]
    7:14: nothing called &r ends before this

? [a]
: b
    7:3: a key is a text; this is none

restart: {max_retries: .inf}
    7:24: .inf is no number that can be used here

restart: {max_retries: -.INF}
    7:24: -.INF is no number that can be used here

restart: {max_retries: .NaN}
    7:24: .NaN is no number that can be used here

restart: {max_retries: 1e999}
    7:24: 1e999 is too large a number

restart: {max_retries: 18446744073709551616}
    7:24: 18446744073709551616 does not fit 64 bits

"\ud83d": 1
    7:1: half of a surrogate pair is no character

restart: {
    7:11: expected the node content, but found '<stream end>'

a: b: c
    7:5: mapping values are not allowed here

"\e[31m": 1
    7:1: '\x1b[31m': unknown field; known are name, kind, desired, process, holochain,
    gateway, runtime, network, readiness, placement, restart, resources
"""
WRONG_HAPP = r"""
line: 0.6
    holochain.line: expected 0.6, got a number; put it in quotes

line: "0.5"
    holochain.line: 0.5 is not supported yet; supported: 0.6

line: "1.0"
    holochain.line: expected 0.6

conductor: embedded
    holochain.conductor: embedded is not supported yet; supported: any, real

happ: http://x/y
    holochain.happ: only https URLs are fetched

happ: file:///y
    holochain.happ: only https URLs are fetched

happ: https://x/y
    holochain.sha256: is needed with a URL

happ: blob:abc
    holochain.happ: after blob: comes a SHA-256, 64 hexadecimal digits

happ: "blob:{SHA}", sha256: "{OTHER}"
    holochain.sha256: is not the one that holochain.happ names

happ: "a\nb"
    holochain.happ: expected a path (from the manifest's folder on), an https URL with
    sha256, or blob:SHA256

sha256: ABCD
    holochain.sha256: expected a SHA-256: 64 hexadecimal digits in lower case

roles: {r: {membrane_proof: abc}}
    holochain.roles.r.membrane_proof: expected base64 with its padding

roles: {r: {clones: []}}
    holochain.roles.r.clones: not supported yet

roles: {a/b: {}}
    holochain.roles.a/b: expected a name of at most 100 characters, none of them a slash

init_calls: [{role: r, zome: z}]
    holochain.init_calls[0].fn: is missing

network: {relay_url: relay.example}
    holochain.network.relay_url: expected an address that begins with https://, http://,
    wss:// or ws://
"""
DOES_NOT_GO = r"""
process: {command: [x]}
    process: does not go with kind: holochain

readiness: {tcp: 1}
    readiness: does not go with kind: holochain; a hApp is ready when it answers

network: {ports: [{name: a, port: 1}]}
    network.ports: do not go with kind: holochain; its conductor's are chosen for it

gateway: {functions: [notes]}
    gateway.functions[0]: expected zome/function, each a name or a pattern, as in notes/*
"""


def cases(table: str) -> list[tuple[str, str]]:
    """Return what is said, and, indented below it, what is answered."""
    pairs = []
    for block in table.strip().split("\n\n"):
        said = [line for line in block.splitlines() if not line.startswith(" ")]
        answer = [line.strip() for line in block.splitlines() if line.startswith(" ")]
        pairs.append(("\n".join(said), " ".join(answer)))
    return pairs


def decode(document: str) -> Manifest:
    (manifest,) = manifests.decode(document.encode(), source="notes.yaml")
    return manifest


def refusal(document: str | bytes) -> str:
    data = document if isinstance(document, bytes) else document.encode()
    with pytest.raises(UserError) as refused:
        manifests.decode(data, source="notes.yaml")
    return str(refused.value)


def test_a_manifest_that_says_everything_is_understood() -> None:
    manifest = decode(EVERYTHING)
    assert manifest.holochain is not None
    assert manifest.kind is Kind.HOLOCHAIN
    assert manifest.app_id == "Notes App"
    assert manifest.holochain.line is Line.V0_6
    assert manifest.holochain.conductor is Conductor.REAL
    assert manifest.holochain.roles["notes"].properties == {
        "max": 3,
        "deep": [1, None, 2.5, {"no": "no"}],
    }
    assert manifest.holochain.init_calls[0].payload == {"node": "<NODE_NAME>"}
    assert manifest.restart.when is RestartWhen.FAILURE
    assert manifest.resources.resources() == Resources(
        memory_bytes=3 * GIB // 2, cpu=2.0, tasks=100
    )


def test_what_is_not_said_has_its_default() -> None:
    manifest = decode(HELLO)
    assert manifest.process is not None
    assert manifest.process.command == ("serve", "8800")
    assert manifest.process.stop_signal is StopSignal.SIGTERM
    assert manifest.restart.max_retries == 5
    assert manifest.placement.host is None
    assert manifest.resources.resources() == Resources()


def test_an_app_is_called_as_its_workload_unless_it_is_named() -> None:
    assert decode("{name: notes, kind: holochain, holochain: {happ: a.happ}}").app_id == "notes"


def test_json_is_understood_too_with_tabs_and_pairs_of_surrogates() -> None:
    written = json.dumps(
        {"name": "a", "kind": "process", "process": {"command": ["é😀/\t"]}}, indent="\t"
    ).replace("/", "\\/")
    assert "\\ud83d\\ude00" in written
    manifest = decode(written)
    assert manifest.process is not None
    assert manifest.process.command == ("é😀/\t",)


def test_a_file_may_hold_several() -> None:
    several = manifests.decode(
        f"---\n{HELLO}---\n---\n{HELLO.replace('hello', 'other')}...\n".encode(), source="f"
    )
    assert [manifest.name for manifest in several] == ["hello", "other"]


def test_anchors_save_writing() -> None:
    manifest = decode(HELLO + "restart: {first_delay_s: &s 3, max_delay_s: *s}")
    assert (manifest.restart.first_delay_s, manifest.restart.max_delay_s) == (3.0, 3.0)


@pytest.mark.parametrize(("said", "answer"), cases(WRONG))
def test_what_is_wrong_is_said_with_its_place(said: str, answer: str) -> None:
    """Some lines more, from line 7 on, under a manifest that is right."""
    assert refusal(HELLO + said) == f"notes.yaml:{answer}"


@pytest.mark.parametrize(("happ", "answer"), cases(WRONG_HAPP))
def test_what_is_wrong_with_a_happ_is_said(happ: str, answer: str) -> None:
    happ = happ.replace("{SHA}", SHA).replace("{OTHER}", SHA[::-1])
    happ = happ if "happ:" in happ else f"happ: x, {happ}"
    said = refusal(f"name: a\nkind: holochain\nholochain: {{{happ}}}\n")
    assert said.partition(": ")[2] == answer


@pytest.mark.parametrize(
    "happ", ["notes.happ", "../a b/ü.happ", "/abs/x", f"blob:{SHA}", f"blob:{SHA}, sha256: {SHA}"]
)
def test_a_happ_comes_from_a_path_or_a_blob(happ: str) -> None:
    decode(f"{{name: a, kind: holochain, holochain: {{happ: {happ}}}}}")


@pytest.mark.parametrize(("more", "answer"), cases(DOES_NOT_GO))
def test_what_does_not_go_with_a_happ_is_said(more: str, answer: str) -> None:
    said = refusal(f"name: a\nkind: holochain\nholochain: {{happ: x}}\n{more}\n")
    assert said.partition(": ")[2] == answer


@pytest.mark.parametrize("kind", ["process", "holochain"])
def test_a_kind_needs_its_part(kind: str) -> None:
    said = refusal(f"name: a\nkind: {kind}\n")
    assert said == f"notes.yaml:1:1: {kind}: is needed with kind: {kind}"


def test_agents_are_not_supported_yet() -> None:
    said = refusal("name: a\nkind: agent\n")
    assert (
        said == "notes.yaml:2:1: kind: agent is not supported yet; supported: holochain, process"
    )


def test_a_number_where_a_text_belongs_needs_quotes() -> None:
    said = refusal("{name: a, kind: process, process: {command: [x], env: {PORT: 8080}}}")
    assert said == (
        "notes.yaml:1:56: process.env.PORT: expected text (with no NUL in it), "
        "got a whole number; put it in quotes"
    )


def test_a_list_of_the_wrong_length_is_said_so() -> None:
    assert refusal("{name: a, kind: process, process: {command: []}}") == (
        "notes.yaml:1:36: process.command: "
        "expected a list, at least 1 long, at most 256 long, got one 0 long"
    )


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = refusal("name: A\nkind: proces\nprocess: {comand: [x]}\n---\nkind: process\n")
    assert [line.split(": ")[:2] for line in said.splitlines()] == [
        ["notes.yaml:1:1", "name"],
        ["notes.yaml:2:1", "kind"],
        ["notes.yaml:3:11", "process.comand"],
        ["notes.yaml:3:1", "process.command"],
        ["notes.yaml:5:1", "name"],
    ]


def test_what_is_wrong_beyond_a_screen_is_counted() -> None:
    said = refusal("".join(f"k{n}: 1\n" for n in range(98)))
    assert len(said.splitlines()) == manifests.PROBLEMS_TOLD + 1
    assert said.endswith("… and 80 more")
    said = refusal("".join(f"k{n}: 1\n" for n in range(manifests.PROBLEMS_TOLD - 2)))
    assert len(said.splitlines()) == manifests.PROBLEMS_TOLD
    assert "more" not in said


def test_an_error_carries_the_first_field() -> None:
    with pytest.raises(UserError) as refused:
        manifests.decode(b"name: a\nkind: process\nprocess: {command: 3}", source="f")
    assert refused.value.field == "process.command"


def test_no_text_of_a_manifest_shows_in_an_error() -> None:
    """It may be a secret, in the wrong place or of the wrong shape."""
    said = refusal(
        "{name: hunter2, kind: process, process: {command: hunter2, env: {hunter: [hunter2]}}, "
        'desired: hunter2, resources: {memory: hunter2}, gateway: {functions: ["hunter2"]}}'
    )
    assert "hunter2" not in said


def test_two_of_one_name_are_refused() -> None:
    assert refusal(f"{HELLO}---\n{HELLO}") == (
        "notes.yaml:8:1: name: is the name at notes.yaml:1:1 again"
    )


@pytest.mark.parametrize("document", ["", "# nothing\n", "---\n---\n", "null"])
def test_a_file_that_holds_nothing_is_refused(document: str) -> None:
    assert refusal(document).startswith("notes.yaml: it is empty")


@pytest.mark.parametrize("document", ["- a", "text", "3", "[]"])
def test_a_document_that_is_no_mapping_is_refused(document: str) -> None:
    assert refusal(document).startswith("notes.yaml:1:1: expected a mapping, got ")


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"name: a\nkind: \xff\n", "notes.yaml:2: it is not UTF-8 text"),
        ("name: a".encode("utf-16"), "notes.yaml:1: it is not UTF-8 text"),
        (b"name: a\nkind: \x07\n", "notes.yaml:2: the character U+0007 may not be in YAML"),
        (b"\x7fELF\x00\x00", "notes.yaml:1: the character U+007F may not be in YAML"),
        (
            b" " * (MANIFEST_BYTES + 1),
            "notes.yaml: 262145 bytes are too many: at most 262144 are read",
        ),
    ],
)
def test_a_file_that_is_no_text_is_refused(data: bytes, answer: str) -> None:
    assert refusal(data) == answer


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert manifests.decode(b"\xef\xbb\xbf" + HELLO.encode(), source="f")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("[" * 10_000, id="brackets"),
        pytest.param('{"a":' * 10_000, id="json"),
        pytest.param("- " * 10_000, id="dashes"),
        pytest.param(
            "a: &a0 [x]\n" + "".join(f"b{n}: &a{n + 1} [*a{n}]\n" for n in range(99)),
            id="aliases",
        ),
    ],
)
def test_depth_is_bounded(document: str) -> None:
    assert "nested more than 32 deep" in refusal(document)


def test_what_is_just_within_the_bounds_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    depth = limits.MANIFEST_DEPTH
    deep = yaml.load(b"[" * depth + b"]" * depth, source="f")
    assert json.dumps(deep[0].value) == "[" * depth + "]" * depth
    monkeypatch.setattr(limits, "MANIFEST_NODES", 50)
    many = yaml.load(b"[" + b"1," * 49 + b"]", source="f")
    assert len(many[0].value) == 49
    assert "more than 50 values" in refusal("[" + "1," * 50 + "]")
    assert "more than 50 values" in refusal("{" + "".join(f"k{n}: 1," for n in range(25)) + "}")


def test_a_billion_laughs_are_counted_as_they_are_used() -> None:
    laughs = "a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    assert "more than 10000 values, aliases followed" in refusal(laughs)


def test_many_documents_share_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MANIFEST_NODES", 50)
    assert len(yaml.load(b"--- 1\n" * 50, source="f")) == 50
    assert "more than 50 values" in refusal("--- 1\n" * 51)


@pytest.mark.parametrize("escape", ["\\U0011FFFF", "\\UFFFFFFFF"])
def test_an_escape_that_names_no_character_is_refused(escape: str) -> None:
    assert refusal(f'a: "{escape}"').startswith("notes.yaml: it cannot be read as YAML")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda each: each.name)
def test_our_examples_are_manifests(example: Path) -> None:
    assert manifests.decode(example.read_bytes(), source=str(example))


def test_a_tab_is_no_indentation() -> None:
    assert refusal("a:\n\tb: 1").startswith("notes.yaml:2:1: found character '\\t'")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", True), ("false", False),
        ("", None), ("~", None), ("null", None), ("'null'", "null"),
        ("0o17", 15), ("017", 17), ("0x1F", 31), ("-3", -3), ("+3", 3), ("1_000", "1_000"),
        ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-0.0", 0.0), ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"), ("=", "="), ("<<", "<<"), ("0b1", "0b1"), ("0.6", 0.6),
        ("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63)),
        ("|\n  a\n  b\n", "a\nb\n"), (">-\n  a\n  b\n", "a b"), ('"\\x41\\t"', "A\t"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    (document,) = yaml.load(f"%YAML 1.1\n---\na: {written}".encode(), source="f")
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


def test_a_manifest_is_written_as_json_with_all_its_defaults() -> None:
    """So a default that changes one day does not change what was declared before."""
    written = json.loads(manifests.encode(decode(HELLO)))
    assert set(written) == {field.name for field in msgspec.structs.fields(Manifest)}
    assert written["restart"]["max_retries"] == 5


def test_equal_manifests_are_equal_bytes_however_they_were_written() -> None:
    one = decode(HELLO + "    LANG: C\nrestart: {probe_every_s: 0}")
    other = decode(
        "{process: {env: {LANG: C, GREETING: hi}, command: [serve, '8800']}, network: {}, "
        "restart: {max_retries: 5, probe_every_s: -0.0}, readiness: null, kind: process, "
        "name: hello}"
    )
    assert one == other
    assert manifests.encode(one) == manifests.encode(other)


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [("1MiB", MIB), ("512 MiB", 512 * MIB), ("1.5GiB", 3 * GIB // 2), ("2TiB", 2048 * GIB),
     ("1024KiB", 1024 * KIB), ("2GB", 2 * 10**9), ("1.001kB", 1001), ("0.1MB", 100_000)],
)  # fmt: skip
def test_sizes_are_exact(size: str, size_bytes: int) -> None:
    assert text.parse_size(size) == size_bytes


def test_what_is_promised_for_later_is_not_there_yet() -> None:
    """A word that is built must leave the table of those that are not."""
    for form, words in model.LATER.items():
        if issubclass(form, msgspec.Struct):
            known = {field.name for field in msgspec.structs.fields(form)}
        else:
            known = {str(each.value) for each in form}  # type: ignore[attr-defined]
        assert not words & known


SCHEMA = jsonschema.Draft202012Validator(manifests.schema())


def test_the_schema_is_one_and_its_examples_are_manifests() -> None:
    jsonschema.Draft202012Validator.check_schema(manifests.schema())
    for example in manifests.schema()["examples"]:
        SCHEMA.validate(example)
        decode(json.dumps(example))


@pytest.mark.parametrize("document", [EVERYTHING, HELLO])
def test_the_schema_takes_what_the_decoder_takes(document: str) -> None:
    (loaded,) = yaml.load(document.encode(), source="f")
    SCHEMA.validate(loaded.value)
    SCHEMA.validate(json.loads(manifests.encode(decode(document))))


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Notes"},
        {"name": "notes\n"},
        {"kind": "agent"},
        {"kind": "holochain"},
        {"holochain": {"happ": "x"}},
        {"process": None},
        {"process": {}},
        {"process": {"command": []}},
        {"process": {"command": ["x"], "env": {"A B": "x"}}},
        {"process": {"command": ["x"], "env": {"A": 1}}},
        {"process": {"command": ["x"], "stop_signal": "SIGTRM"}},
        {"restart": {"max_retires": 3}},
        {"restart": {"max_retries": -1}},
        {"readiness": {"tcp": 70000}},
        {"resources": {"memory": "512"}},
        {"volumes": []},
    ],
)
def test_the_schema_refuses_what_the_decoder_refuses(changed: dict[str, Any]) -> None:
    (loaded,) = yaml.load(HELLO.encode(), source="f")
    assert not SCHEMA.is_valid(loaded.value | changed)
    refusal(json.dumps(loaded.value | changed))
