"""`hive audit`: the record of all that users changed, and whether anybody tampered with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from hivekeeper.cli import output, stack
from hivekeeper.cli.api import Api
from hivekeeper.core import audit as chain
from hivekeeper.model.errors import PermanentError, UserError
from hivekeeper.model.record import AuditRecord


@click.group()
def audit() -> None:
    """Show or verify the record of all changes.

    \b
    Examples:
      hive audit list
      hive audit verify
    """  # noqa: D301


@audit.command("list")
@output.json_option
@stack.options
def list_(folder: Path | None, url: str | None, *, as_json: bool) -> None:
    """Show who changed what, and when, oldest first.

    \b
    Example:
      hive audit list --json | jq '.[-1]'
    """  # noqa: D301
    entries = [
        {"number": record.number, "hash": record.hash}
        | msgspec.to_builtins(chain.decode(record.entry))
        for record in _records(Api(stack.find(folder, url)))
    ]
    if as_json:
        output.document(entries)
        return
    head = ["NUMBER", "WHEN", "WHO", "WHAT", "OF", "HASH"]
    output.table(head, [_cells(each) for each in entries])


def _cells(entry: dict[str, Any]) -> list[object]:
    when = entry["at"][:19] + "Z"
    return [
        entry["number"],
        when,
        entry["actor"],
        entry["action"],
        entry["target"],
        entry["hash"][:12],
    ]


@audit.command()
@click.option("--kept", help="A head that was kept elsewhere: NUMBER:HASH.")
@output.json_option
@stack.options
def verify(kept: str | None, folder: Path | None, url: str | None, *, as_json: bool) -> None:
    """Check that nothing in the record was changed, dropped, added or moved.

    Keep the head that it prints where the owner of the store cannot reach it: against a chain that
    was made anew as a whole, only a head that was kept helps.

    \b
    Examples:
      hive audit verify
      hive audit verify --kept 17:9f86d081...
    """  # noqa: D301
    head = _head(kept)
    found = chain.verify(_records(Api(stack.find(folder, url))), kept=head)
    if isinstance(found, chain.Break):
        raise PermanentError(
            f"the record is broken at number {found.number}: {found.because}",
            hint="someone changed it, or the disk did; compare with a backup",
        )
    if head is not None and found.number < head.number:
        raise PermanentError(f"the record ends at {found.number}, and {head.number} was kept")
    if as_json:
        output.document({"unbroken": True, "number": found.number, "hash": found.hash})
    else:
        print(f"unbroken: {found.number} changes, head {found.number}:{found.hash}")


def _head(text: str | None) -> chain.Head | None:
    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not number.isdecimal() or not digest:
        raise UserError(f"cannot read the head {text!r}", hint="as printed: NUMBER:HASH")
    return chain.Head(number=int(number), hash=digest)


def _records(api: Api) -> Iterator[AuditRecord]:
    after = 0
    while True:
        page = msgspec.convert(api.get("/v1/audit", after=after), list[AuditRecord])
        yield from page
        if not page:
            return
        after = page[-1].number
