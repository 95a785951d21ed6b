"""A disk in memory that passes the contract of `ports.Disk`."""

from pathlib import Path

from hivekeeper.model.errors import TransientError


class FakeDisk:
    """Files by path. `full` makes every write fail, as a full disk does."""

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.full = False

    def read(self, path: Path) -> bytes | None:
        return self.files.get(path)

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise TransientError(f"cannot write {path}: No space left on device")
        self.files[path] = bytes(data)

    def remove(self, path: Path) -> None:
        for name in [each for each in self.files if each == path or path in each.parents]:
            del self.files[name]

    def names(self, folder: Path) -> list[str]:
        below = [each.relative_to(folder) for each in self.files if folder in each.parents]
        return sorted({each.parts[0] for each in below})
