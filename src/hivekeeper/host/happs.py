"""The kind `holochain`: a conductor with one hApp.

Prepares a configuration, a passphrase, ports and the bundle; the keeper runs the conductor;
settled is what has its hApp installed, enabled and open to calls (`holochain.installer`). Data
and keys are in `data/` together, so that they stay together and go together.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from hivekeeper.holochain import access, apps, bundles, config, connection, hashes, lifecycle
from hivekeeper.holochain.access import Access
from hivekeeper.holochain.installer import Happening, Installer
from hivekeeper.holochain.lifecycle import AppWanted, Installed
from hivekeeper.holochain.programs import Programs
from hivekeeper.host import portbook
from hivekeeper.host.blobs import Blobs
from hivekeeper.host.kinds import Progress
from hivekeeper.host.state import Folders, Prepared
from hivekeeper.model import ids
from hivekeeper.model.allocation import Order
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.model.manifest import Holochain, Manifest
from hivekeeper.model.policy import Readiness
from hivekeeper.model.program import ProgramSpec, ProgramStatus
from hivekeeper.ports import Clock, Disk

LOOPBACK: Final = "127.0.0.1"
READY_LINE: Final = "Conductor ready."
READY_WITHIN_S: Final = 120.0
"""2.5 to 3.6 s were measured; a slow disk under load may take much longer."""
STOP_WITHIN_S: Final = 20.0
"""10 ms to 1.5 s were measured after SIGINT, which it understands; SIGTERM just kills it."""
_NO_CONDUCTOR_RETRY_S: Final = 5.0
"""Somebody is perhaps installing one just now."""
_PASSPHRASE_BYTES: Final = 32
"""Of chance; a conductor takes 512 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HolochainKind:
    """Conductors on this host.

    Args:
        host: What `<NODE_NAME>` stands for.
        taken_ports: All ports that workloads of this host were given.
    """

    host: HostId
    folders: Folders
    disk: Disk
    clock: Clock
    blobs: Blobs
    programs: Programs
    taken_ports: Callable[[], Collection[int]]

    async def prepare(self, order: Order, prepared: Prepared, progress: Progress) -> Prepared:
        manifest, happ = order.manifest, _happ(order.manifest)
        progress("fetching the hApp")
        await self.blobs.fetch(happ.happ.removeprefix("blob:"), self._bundle(manifest.name))
        self._wanted(manifest)
        progress(f"looking for a conductor of line {happ.line}")
        try:
            program = await self.programs.find(happ.line)
        except PermanentError as error:
            raise TransientError(
                f"{error}; {error.hint}", retry_after_s=_NO_CONDUCTOR_RETRY_S
            ) from error
        ports = self._ports(prepared)
        self._make_passphrase(manifest.name)
        await self._configure(manifest, ports["admin"], program.path)
        return replace(
            prepared, ports=ports, program=str(program.path), version=str(program.version)
        )

    def spec(self, manifest: Manifest, prepared: Prepared) -> ProgramSpec:
        name = manifest.name
        return ProgramSpec(
            id=ids.workload_program(name),
            command=(prepared.program, "--piped", "--config-path", str(self._config(name))),
            cwd=str(self.folders.data(name)),
            stdin=str(self._passphrase(name)),
            logs=str(self.folders.logs(name)),
            stop_signal="SIGINT",
            stop_timeout_s=STOP_WITHIN_S,
            readiness=Readiness(log=READY_LINE, timeout_s=READY_WITHIN_S),
            restart=manifest.restart,
            resources=manifest.resources.resources(),
        )

    async def settle(
        self,
        order: Order,
        prepared: Prepared,
        program: ProgramStatus,  # noqa: ARG002 -- a ready one is enough
        progress: Progress,
    ) -> dict[str, Any]:
        name, wanted = order.manifest.name, self._wanted(order.manifest)
        async with connection.connect(LOOPBACK, prepared.ports["admin"]) as admin:
            installer = Installer(
                connection=admin, host=LOOPBACK, clock=self.clock, progress=progress
            )
            happening = await installer.bring_up(
                wanted,
                app_port=prepared.ports["app"],
                access=self._known_access(name),
                installed=self._installed(name),
                save=lambda installed: self.disk.write(
                    self._installed_file(name), msgspec.json.encode(installed)
                ),
            )
        encoded = access.encode(happening.access)
        self.disk.write(self._keys(name), encoded)
        self.disk.write(self.folders.access / f"{name}.json", encoded)
        return _facts(happening, prepared)

    def unsettle(self, name: WorkloadName) -> None:
        self.disk.remove(self.folders.access / f"{name}.json")

    def _wanted(self, manifest: Manifest) -> AppWanted:
        """Return what the manifest wants; raises `UserError` for a bundle that is none."""
        path = self._bundle(manifest.name)
        happ = bundles.read_happ(self.disk.read(path) or b"")
        return lifecycle.wanted(
            manifest, _happ(manifest), happ, path=str(path), node_name=self.host
        )

    def _ports(self, prepared: Prepared) -> dict[str, int]:
        """Return the ports it has, chosen the first time and kept from then on."""
        ports = dict(prepared.ports)
        taken = set(self.taken_ports())
        for use in ("admin", "app"):
            if use not in ports:
                ports[use] = portbook.choose(taken, start=self.clock.random())
                taken.add(ports[use])
        return ports

    def _make_passphrase(self, name: WorkloadName) -> None:
        """Once: the keystore made with it opens with no other."""
        if self.disk.read(self._passphrase(name)) is None:
            self.disk.write(
                self._passphrase(name), secrets.token_urlsafe(_PASSPHRASE_BYTES).encode() + b"\n"
            )

    async def _configure(self, manifest: Manifest, admin_port: int, program: Path) -> None:
        happ, root = _happ(manifest), self.folders.data(manifest.name) / "conductor"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = config.render(
            happ.line, data_root=str(root), admin_port=admin_port, network=happ.network
        )
        schema = await self.programs.config_schema(program)
        if schema is not None:
            await asyncio.to_thread(config.validate, made, schema)
        self.disk.write(self._config(manifest.name), config.text(made))

    def _known_access(self, name: WorkloadName) -> Access | None:
        data = self.disk.read(self._keys(name))
        return None if data is None else access.decode(data)

    def _installed(self, name: WorkloadName) -> Installed:
        data = self.disk.read(self._installed_file(name))
        return Installed() if data is None else msgspec.json.decode(data, type=Installed)

    def _bundle(self, name: WorkloadName) -> Path:
        return self.folders.run(name) / "bundle.happ"

    def _config(self, name: WorkloadName) -> Path:
        return self.folders.run(name) / "conductor-config.yaml"

    def _passphrase(self, name: WorkloadName) -> Path:
        return self.folders.data(name) / "passphrase"

    def _keys(self, name: WorkloadName) -> Path:
        """The keys that calls are signed with: a grant on the chain goes with each, for ever."""
        return self.folders.data(name) / "access.json"

    def _installed_file(self, name: WorkloadName) -> Path:
        return self.folders.data(name) / "installed.json"


def _happ(manifest: Manifest) -> Holochain:
    assert manifest.holochain is not None, "decoded manifests have what their kind needs"
    return manifest.holochain


def _facts(happening: Happening, prepared: Prepared) -> dict[str, Any]:
    """Return what `payload` says of a hApp (design §12)."""
    info = happening.info
    facts: dict[str, Any] = {
        "conductor": {
            "version": prepared.version,
            "mode": "real",
            "admin_port": prepared.ports["admin"],
            "app_port": prepared.ports["app"],
        },
        "dna_hashes": {
            role: hashes.text(cell.dna_hash) for role, cell in info.provisioned().items()
        },
        "agent_pub_key": hashes.text(info.agent_pub_key),
        "app_info": apps.describe(info),
    }
    unanswered = lifecycle.init_calls_unanswered(happening.installed)
    return facts | ({"init_calls_unanswered": unanswered} if unanswered else {})
