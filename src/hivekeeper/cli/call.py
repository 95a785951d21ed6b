"""`hive call`: a zome call through the gateway, as any client makes it."""

import base64
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from hivekeeper.cli import completion, stack
from hivekeeper.cli.api import Api
from hivekeeper.model.errors import (
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)


@click.command()
@click.argument("name", shell_complete=completion.workloads)
@click.argument("zome")
@click.argument("fn")
@click.argument("payload", required=False)
@stack.options
def call(  # noqa: PLR0917 -- click gives them by name
    name: str, zome: str, fn: str, payload: str | None, folder: Path | None, url: str | None
) -> None:
    """Call function FN in [ROLE/]ZOME of hApp NAME, with JSON as its argument; print its result.

    \b
    Examples:
      hive call notes notes count_notes
      hive call notes notes/notes create_note '{"title": "Milk", "body": "two litres"}'
    """  # noqa: D301
    target = stack.find(folder, url)
    row = _row(Api(target), name)
    gateway = target.gateway or row["payload"].get("gateway")
    if gateway is None:
        raise UserError("cannot tell where the gateway is", hint="give --dir instead of --url")
    print(_ask(gateway, path(row, zome, fn, payload)))


def path(row: dict[str, Any], zome: str, fn: str, payload: str | None) -> str:
    """Return the gateway's path for a call of the hApp in `row`."""
    role, _, zome = zome.rpartition("/")
    hashes = row["payload"].get("dna_hashes") or {}
    if not hashes:
        raise TransientError(f"cannot call {row['workload']}: its hApp is not installed yet")
    if not role and len(hashes) > 1:
        raise UserError(
            f"cannot tell which role is meant: {', '.join(sorted(hashes))}", hint="ROLE/ZOME"
        )
    if role and role not in hashes:
        raise UserError(f"cannot find role {role}: there is {', '.join(sorted(hashes))}")
    dna = hashes[role] if role else next(iter(hashes.values()))
    app = row["payload"]["app_info"]["installed_app_id"]
    words = "/".join(quote(each, safe="") for each in (dna, app, zome, fn))
    return f"/{words}" + ("" if payload is None else f"?payload={_encode(payload)}")


def _row(api: Api, name: str) -> dict[str, Any]:
    rows = api.get("/v1/allocations", workload=name)
    if not rows:
        raise NotFoundError(f"cannot call {name}: there is no such workload", hint="`hive status`")
    row: dict[str, Any] = rows[0]
    if row["kind"] != "holochain":
        raise UserError(f"cannot call {name}: it is no hApp but a {row['kind']}")
    return row


def _encode(payload: str) -> str:
    try:
        json.loads(payload)
    except ValueError as error:
        raise UserError(f"cannot read the argument: it is not JSON: {error}") from error
    return base64.urlsafe_b64encode(payload.encode()).decode()


def _ask(gateway: str, path: str) -> str:
    parts = urlsplit(gateway)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"cannot reach the gateway at {gateway}: {error}") from error
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return body
    message = f"the gateway answered {answer.status}: {_reason(body)}"
    match answer.status:
        case 403:
            raise PermissionRefusedError(
                message, hint="the manifest's gateway.functions says what may be called"
            )
        case 502 | 503:
            raise TransientError(message)
        case status if status < http.client.INTERNAL_SERVER_ERROR:
            raise UserError(message)
        case _:
            raise PermanentError(message, hint="`hive logs` of the workload tells more")


def _reason(body: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body or "nothing more"
