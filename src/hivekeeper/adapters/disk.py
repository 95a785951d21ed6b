"""The real disk: whole files, replaced in one step, synced before they count. Holds no state."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hivekeeper.model.errors import TransientError


class RealDisk:
    """`ports.Disk` on the machine's file systems."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TransientError(f"cannot read {path}: {error.strerror}") from error

    def write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, data)
        except OSError as error:
            raise TransientError(f"cannot write {path}: {error.strerror}") from error

    def remove(self, path: Path) -> None:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TransientError(f"cannot remove {path}: {error.strerror}") from error

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(each.name for each in folder.iterdir() if each.suffix != _PARTIAL)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise TransientError(f"cannot list {folder}: {error.strerror}") from error


_PARTIAL = ".partial"


def _replace(path: Path, data: bytes) -> None:
    """A crash leaves the old file or the new one, and perhaps a `.partial` that nobody reads."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:  # mkstemp makes it 0600
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """The rename itself is only on disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
