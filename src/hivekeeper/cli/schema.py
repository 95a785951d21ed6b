"""`hive schema`: the JSON Schema of what users write, from the same definition that decodes it."""

import click

from hivekeeper.cli import output
from hivekeeper.wire import manifests


@click.command()
@click.argument("what", type=click.Choice(["manifest"]))
def schema(what: str) -> None:  # noqa: ARG001 -- one choice so far
    """Print the JSON Schema of a manifest, for editors and other tools.

    \b
    Example:
      hive schema manifest > manifest.schema.json
    """  # noqa: D301
    output.document(manifests.schema())
