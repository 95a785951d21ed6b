"""The `hive` command: which word is which command, and which error is which exit code.

Commands are imported when they are called: starting up is felt on every call. Does nothing itself.
"""

import importlib
import sys
from typing import Final

import click

from hivekeeper.model.errors import HiveError, PermanentError, TransientError, UserError

EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
EXIT_LATER: Final = 3
EXIT_INTERRUPTED: Final = 130

# Word: (module of hivekeeper.cli, function, one line of help), in the order of the help.
_COMMANDS: Final = {
    "up": ("up", "up", "Start the whole stack on this machine, and keep it up."),
    "down": ("up", "down", "Stop the stack and everything it runs."),
    "apply": ("workloads", "apply", "Have workloads kept on as their manifests say."),
    "delete": ("workloads", "delete", "Remove a workload; its data stays unless purged."),
    "status": ("status", "status", "Show what is wanted and what is."),
    "why": ("status", "why", "Explain one workload on one screen."),
    "events": ("status", "events", "Show what happened, and why."),
    "logs": ("logs", "logs", "Show what a workload's program wrote."),
    "start": ("workloads", "start", "Have a stopped workload run again."),
    "stop": ("workloads", "stop", "Have a workload stopped until it is started."),
    "restart": ("workloads", "restart", "Stop a workload and start it again."),
    "assign": ("workloads", "assign", "Put a workload on a host."),
    "call": ("call", "call", "Call a function of a hApp through the gateway."),
    "holochain": ("holochain", "holochain", "Find or get Holochain conductors."),
    "host": ("hosts", "host", "Let hosts in, list them, run one."),
    "hub": ("hub", "hub", "Run the hub: a nats-server."),
    "orchestrator": (
        "orchestrator",
        "orchestrator",
        "Run the orchestrator: API, store, controllers.",
    ),
    "keeper": ("keeper", "keeper", "Run the keeper, which holds a host's programs."),
    "gateway": ("gateway", "gateway", "Run the gateway: HTTP in, zome call out."),
    "schema": ("schema", "schema", "Print a JSON Schema."),
    "audit": ("audit", "audit", "Show or verify the record of all changes."),
    "completion": (
        "completion",
        "completion",
        "Print what makes your shell complete hive's words.",
    ),
}


class _Words(click.Group):
    """Commands that are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"hivekeeper.cli.{module}"), function)
        assert isinstance(command, click.Command), f"{cmd_name} is a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(word, text) for word, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_Words, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hivekeeper", message="hive %(version)s")
def root() -> None:
    """Declare what must always be on; Hivekeeper keeps it on.

    \b
    Examples:
      hive up --demo                   a whole stack with an example in it
      hive apply notes.yaml --wait     have a workload kept on
      hive status --watch              see what is and what is wanted
      hive why notes                   what is wrong with it, and what happens next

    Commands find their stack by --dir, --url, HIVE_DIR or HIVE_URL.
    """  # noqa: D301 -- \b is click's mark for text that is not to be wrapped


def main() -> None:
    """Run `hive`.

    Exit codes: 0 done, 1 failed for good, 2 wrongly asked, 3 try later, 130 interrupted.
    """
    try:
        code = root.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = EXIT_WRONG
    except (KeyboardInterrupt, click.exceptions.Abort):
        code = EXIT_INTERRUPTED
    except HiveError as error:
        _tell(error)
        code = exit_code(error)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: HiveError) -> int:
    """Return the exit code that says who must act (design §12)."""
    match error:
        case UserError():
            return EXIT_WRONG
        case TransientError():
            return EXIT_LATER
        case _:
            return EXIT_FAILED


def _tell(error: HiveError) -> None:
    print(f"hive: {error}", file=sys.stderr)
    if isinstance(error, UserError | PermanentError) and error.hint:
        print(f"      {error.hint}", file=sys.stderr)


if __name__ == "__main__":
    main()
