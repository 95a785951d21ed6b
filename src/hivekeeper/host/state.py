"""What a host remembers on disk: its document, and what is prepared of each workload.

Whole files, replaced in one step and synced (`ports.Disk`). Decides nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from hivekeeper.model.allocation import Document
from hivekeeper.model.errors import PermanentError
from hivekeeper.model.ids import Generation, Revision, WorkloadName
from hivekeeper.ports import Disk


class Prepared(Struct, frozen=True, kw_only=True):
    """What is prepared of one workload.

    Enough to run it again after a reboot with nothing else there.
    """

    generation: Generation = Generation(0)
    """Of the order last carried out."""
    revision: Revision | None = None
    restart_nonce: int = 0
    ready_revision: Revision | None = None
    ports: dict[str, int] = {}
    """By name; chosen once, and kept."""
    program: str = ""
    """The program file that was chosen, where the kind chooses one; and its version."""
    version: str = ""
    settled: str | None = None
    """The occasion that was last settled (core.reconcile), and what was found to report."""
    facts: dict[str, Any] = {}


T = TypeVar("T", bound=Struct)


class _Life(Struct, frozen=True):
    """How often the agent began: the high part of its report numbers."""

    starts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a host keeps things: one place that knows the layout.

    Args:
        root: The host's own folder.
    """

    root: Path

    @property
    def document(self) -> Path:
        """The last desired document."""
        return self.root / "document.json"

    @property
    def life(self) -> Path:
        """How often the agent began."""
        return self.root / "life.json"

    @property
    def access(self) -> Path:
        """What a gateway on this host needs to call each hApp; watched by it."""
        return self.root / "access"

    def workload(self, name: WorkloadName) -> Path:
        """All of one workload."""
        return self.root / "workloads" / name

    def prepared(self, name: WorkloadName) -> Path:
        """What is prepared of it."""
        return self.workload(name) / "prepared.json"

    def run(self, name: WorkloadName) -> Path:
        """What is made anew from its manifest at will."""
        return self.workload(name) / "run"

    def data(self, name: WorkloadName) -> Path:
        """What only a purge removes, keys included."""
        return self.workload(name) / "data"

    def logs(self, name: WorkloadName) -> Path:
        """What its program wrote, a file a run."""
        return self.workload(name) / "logs"


@dataclass(frozen=True, slots=True)
class Memory:
    """Reads and writes what a host remembers."""

    disk: Disk
    folders: Folders

    def document(self) -> Document | None:
        """Return the last desired document; None: it never had one.

        A torn one is refused, not guessed.
        """
        return self._read(self.folders.document, Document)

    def keep_document(self, document: Document) -> None:
        """Replace it; on disk for good when this returns."""
        self._write(self.folders.document, document)

    def prepared(self, name: WorkloadName) -> Prepared:
        """Return what is prepared of `name`; nothing, if it was never here."""
        return self._read(self.folders.prepared(name), Prepared) or Prepared()

    def keep_prepared(self, name: WorkloadName, prepared: Prepared) -> None:
        """Replace it."""
        self._write(self.folders.prepared(name), prepared)

    def names(self) -> list[WorkloadName]:
        """Return the workloads that have anything on this host."""
        found = self.disk.names(self.folders.root / "workloads")
        return [WorkloadName(name) for name in found]

    def begin(self) -> int:
        """Count one more life of this agent, and return which it is: 1, 2, 3."""
        life = self._read(self.folders.life, _Life) or _Life()
        self._write(self.folders.life, _Life(life.starts + 1))
        return life.starts + 1

    def _read(self, path: Path, form: type[T]) -> T | None:
        data = self.disk.read(path)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=form)
        except msgspec.MsgspecError as error:
            raise PermanentError(
                f"cannot read {path}: {error}",
                hint="it was cut short or changed by hand; move it away, and it is made anew",
            ) from error

    def _write(self, path: Path, value: Struct) -> None:
        self.disk.write(path, msgspec.json.format(msgspec.json.encode(value), indent=1))
