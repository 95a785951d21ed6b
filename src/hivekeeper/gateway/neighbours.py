"""The hApps on the gateway's own host, as the host agent hands them over: a file for each.

Files are replaced in one step, so a look at what has changed is enough; a few times a second, and
at once where a call finds nothing or no connection. Writes nothing.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from hivekeeper.aio.complaints import Complaints
from hivekeeper.gateway.contract import ZomeCall
from hivekeeper.gateway.local import LocalApp
from hivekeeper.holochain import access
from hivekeeper.holochain.access import Access
from hivekeeper.model import ids, limits
from hivekeeper.model.errors import HiveError, PermanentError, TransientError
from hivekeeper.model.ids import WorkloadName
from hivekeeper.ports import Clock, Disk

log = logging.getLogger(__name__)

_SUFFIX: Final = ".json"

_Version = tuple[int, int, int] | None
"""Tells a file from the one that replaced it; None: there is none."""


class Neighbours:
    """All hApps of this host that can be called.

    Args:
        folder: Where their files are.
        disk: Reads them.
        clock: For signed calls.
        group: Where connections live.
    """

    def __init__(self, folder: Path, disk: Disk, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._folder, self._disk, self._clock, self._group = folder, disk, clock, group
        self._apps: dict[WorkloadName, LocalApp] = {}
        self._versions: dict[WorkloadName, _Version] = {}
        self._complaints = Complaints(log, f"hApps in {folder}")

    async def watch(self) -> None:
        """Keep up with what the host agent does, until cancelled."""
        while True:
            self.look_at_all()
            await asyncio.sleep(limits.GATEWAY_LOOK_S)

    def find(self, workload: WorkloadName, call: ZomeCall) -> LocalApp | None:
        """Return the hApp of `workload`, if it is the one that is called."""
        app = self._apps.get(workload)
        if app is None or not app.serves(call):
            self.look(workload)
            app = self._apps.get(workload)
        return app if app is not None and app.serves(call) else None

    def any_serves(self, call: ZomeCall) -> bool:
        """Return whether one of them is called, allowed or not."""
        return any(app.serves(call) for app in self._apps.values())

    def look_at_all(self) -> None:
        """Take over whatever has changed."""
        try:
            names = self._disk.names(self._folder)
        except HiveError as error:
            self._complaints.say(str(error))
            return
        found = {name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)}
        for name in found | set(self._apps):
            if ids.is_name(name):
                self.look(WorkloadName(name))

    def look(self, workload: WorkloadName) -> None:
        """Take over what has changed about one."""
        path = self._folder / f"{workload}{_SUFFIX}"
        try:
            version = _version(path)
            if version != self._versions.get(workload):
                self._read(workload, path)
                self._versions[workload] = version
        except (OSError, TransientError) as error:  # it is looked at again
            self._complaints.say(f"{path.name}: {error}")
        else:
            if version is None:
                self._drop(workload)

    def _read(self, workload: WorkloadName, path: Path) -> None:
        """Take what the file says; if it says nothing, what was known stays, and holds or not."""
        data = self._disk.read(path)
        try:
            self._take(workload, None if data is None else access.decode(data))
        except PermanentError as error:
            self._complaints.say(f"{path.name}: {error}")

    def _take(self, workload: WorkloadName, opened: Access | None) -> None:
        app = self._apps.get(workload)
        if app is None:
            app = LocalApp(workload, self._group, self._clock, lambda: self.look(workload))
            self._apps[workload] = app
        app.update(opened)

    def _drop(self, workload: WorkloadName) -> None:
        """Forget a hApp that is gone, as soon as no call is under way to it."""
        app = self._apps.get(workload)
        if app is not None and app.idle:
            app.close()
            del self._apps[workload], self._versions[workload]


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
