"""`hive up --demo`: an example is applied, and a URL that answers is printed."""

import asyncio
from pathlib import Path
from typing import Final

import hivekeeper
from hivekeeper.cli import agent, call, happs, output, stack, waiting
from hivekeeper.cli.api import Api
from hivekeeper.cli.stack import Stack
from hivekeeper.holochain.programs import Programs
from hivekeeper.model.errors import PermanentError
from hivekeeper.wire import manifests

_EXAMPLES: Final = Path(hivekeeper.__file__).parents[2] / "examples"
_LINE: Final = "0.6"
_WITHIN_S: Final = 180.0


def show(where: Stack) -> None:
    """Apply the example hApp, or a small program without a conductor, and print how to call it."""
    target = stack.find(where.root, None)
    api = Api(target)
    try:
        found = asyncio.run(Programs(agent.places(where)).find(_LINE))
    except PermanentError as error:
        output.say(f"hive: {error}, so no hApp is shown. {error.hint}")
        _apply(api, _EXAMPLES / "hello" / "hello.yaml")
        output.say("hive: this answers now:")
        print("  curl http://127.0.0.1:8800/", flush=True)
        return
    output.say(f"hive: installing the example hApp in Holochain {found.version} ({found.path})")
    row = _apply(api, _EXAMPLES / "notes" / "notes.yaml")
    payload = '{"title": "Milk", "body": "two litres"}'
    output.say("hive: these answer now:")
    for fn, argument in (("create_note", payload), ("list_notes", None)):
        print(f"  curl '{target.gateway}{call.path(row, 'notes', fn, argument)}'", flush=True)


def _apply(api: Api, file: Path) -> waiting.Row:
    (manifest,) = manifests.decode(file.read_bytes(), source=str(file))
    resolved = happs.resolve(api, manifest, file.parent, send=True)
    answer = api.call("POST", "/v1/workloads", body=manifests.encode(resolved))
    workload = answer["workload"]
    asked = {workload["name"]: workload["generation"]}
    rows = waiting.until_settled(api, asked, timeout_s=_WITHIN_S, quiet=False)
    return rows[workload["name"]]
