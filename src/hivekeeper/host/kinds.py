"""What a host must know of a kind of workload, as a Protocol, and the smallest kind: any program.

A kind prepares files and says what to run; it starts nothing itself, and keeps no state but on
disk.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec.structs import replace

from hivekeeper.host.state import Folders, Prepared
from hivekeeper.model import ids
from hivekeeper.model.allocation import Order
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import WorkloadName
from hivekeeper.model.manifest import Manifest
from hivekeeper.model.program import ProgramSpec, ProgramStatus

Progress = Callable[[str], None]
"""Called with what is being done just now, for people: `installing the hApp`."""


class Kind(Protocol):
    """One kind of workload on this host."""

    async def prepare(self, order: Order, prepared: Prepared, progress: Progress) -> Prepared:
        """Put on disk what the order's manifest needs; may take minutes.

        Safe to repeat, and to cut off.

        Raises:
            TransientError: It may work later, as it is.
            PermanentError: It will not, until the manifest or the host changes.
        """

    def spec(self, manifest: Manifest, prepared: Prepared) -> ProgramSpec:
        """Return what the keeper is to hold; equal input gives an equal spec."""

    async def settle(
        self, order: Order, prepared: Prepared, program: ProgramStatus, progress: Progress
    ) -> dict[str, Any]:
        """Do what a started program needs before it is of use, and return the facts to report.

        Safe to repeat.

        Raises: As `prepare`.
        """

    def unsettle(self, name: WorkloadName) -> None:
        """Take back what `settle` handed out: the program is gone, or about to be."""


@dataclass(frozen=True, slots=True)
class ProcessKind:
    """Any program: nothing is prepared but a folder of its own."""

    folders: Folders

    async def prepare(self, order: Order, prepared: Prepared, progress: Progress) -> Prepared:  # noqa: ARG002 -- nothing takes long here
        process = order.manifest.process
        assert process is not None, "decoded manifests have what their kind needs"
        if process.cwd is None:
            self._own_folder(order.manifest.name, process.user)
        ports = {each.name: each.port for each in order.manifest.network.ports}
        return replace(prepared, ports=ports)

    def spec(self, manifest: Manifest, prepared: Prepared) -> ProgramSpec:  # noqa: ARG002 -- all is in the manifest
        process = manifest.process
        assert process is not None, "decoded manifests have what their kind needs"
        return ProgramSpec(
            id=ids.workload_program(manifest.name),
            command=process.command,
            env=process.env,
            cwd=process.cwd or str(self.folders.data(manifest.name)),
            user=process.user,
            logs=str(self.folders.logs(manifest.name)),
            stop_signal=process.stop_signal,
            stop_timeout_s=process.stop_timeout_s,
            readiness=manifest.readiness,
            restart=manifest.restart,
            resources=manifest.resources.resources(),
        )

    async def settle(
        self,
        order: Order,  # noqa: ARG002 -- ready is of use
        prepared: Prepared,  # noqa: ARG002
        program: ProgramStatus,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def unsettle(self, name: WorkloadName) -> None:
        """Nothing was handed out."""

    def _own_folder(self, name: WorkloadName, user: str | None) -> None:
        folder = self.folders.data(name)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if user is not None:
                shutil.chown(folder, user)
                for above in (folder.parent, folder.parents[1], self.folders.root):
                    above.chmod(0o711)  # to be passed through, not looked around in
        except (OSError, LookupError) as error:
            raise TransientError(f"cannot make {folder} for {user or 'it'}: {error}") from error
