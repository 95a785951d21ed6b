"""What `hive up` has the keeper hold: our own parts, as programs.

Writes keys and the hub's configuration.
"""

import os
from typing import Final

from hivekeeper.adapters import keys, nats_server
from hivekeeper.adapters.nats_server import Hub
from hivekeeper.cli import parts, stack
from hivekeeper.cli.parts import HOLDS
from hivekeeper.cli.settings import Settings
from hivekeeper.cli.stack import Stack
from hivekeeper.model.policy import HttpProbe, Readiness, RestartPolicy
from hivekeeper.model.program import ProgramSpec
from hivekeeper.ports import Disk

_PERSISTENT: Final = RestartPolicy(max_retries=1_000_000, max_delay_s=5, stable_after_s=10)
"""Our own parts are never given up: what made them fail may pass."""


def programs(where: Stack, disk: Disk, now: Settings) -> list[ProgramSpec]:
    """Return what the keeper is to hold, the one that all others need first.

    Makes the keys and the hub's configuration, as far as they are not there yet.
    """
    agent = _part(where, "agent", ("host", "run"), Readiness(log=parts.READY), _agent_env(now))
    if now.ports is None:
        return [agent]
    hub = make_hub(where, disk, now)
    hub.prepare()
    keys.ensure_seed(disk, where.host_key)
    alive = "/health"
    return [
        ProgramSpec(
            id=HOLDS["hub"],
            command=hub.command(),
            logs=str(where.logs("hub")),
            readiness=Readiness(log=nats_server.READY_LINE),
            restart=_PERSISTENT,
        ),
        _part(where, "api", ("orchestrator",), _answers(now.ports.api, alive)),
        agent,
        _part(where, "gateway", ("gateway",), _answers(now.ports.gateway, alive)),
    ]


def _part(
    where: Stack,
    part: str,
    words: tuple[str, ...],
    readiness: Readiness,
    env: dict[str, str] | None = None,
) -> ProgramSpec:
    name = HOLDS[part]
    return ProgramSpec(
        id=name,
        command=tuple(parts.command(*words, "--dir", str(where.root))),
        env=env or {},
        logs=str(where.logs(name.removeprefix("hive."))),
        readiness=readiness,
        restart=_PERSISTENT,
    )


def _answers(port: int, path: str) -> Readiness:
    return Readiness(http=HttpProbe(port=port, path=path))


def _agent_env(now: Settings) -> dict[str, str]:
    """Where it finds conductors."""
    env = {"PATH": stack.environment("PATH") or os.defpath}
    return env if now.holochain_dir is None else env | {"HIVE_HOLOCHAIN_DIR": now.holochain_dir}


def make_hub(where: Stack, disk: Disk, now: Settings) -> Hub:
    """Return this stack's hub."""
    port = parts.organisation(now).hub
    program = nats_server.find_program(path=stack.environment("PATH") or os.defpath)
    return Hub(disk, where.hub, program=program, port=port, listen=now.listen)
