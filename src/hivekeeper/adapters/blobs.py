"""Blobs as files of one folder, named by the SHA-256 of their content.

A file gets its name only once it is whole, verified and on disk; what was cut off is removed when
the folder is opened again. Removes no blob: knows nobody who refers to one.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from hivekeeper.model import limits
from hivekeeper.model.errors import NotFoundError, TransientError, UserError

_PARTIAL: Final = ".partial"


class FileBlobs:
    """`ports.Blobs` on a folder, made if it is not there; only its owner can read it.

    Raises:
        TransientError: The folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _disk_errors("open", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(f"*{_PARTIAL}"):
                left.unlink()

    async def size(self, sha256: str) -> int | None:
        path = self._path(sha256)
        with _disk_errors("look at", path):
            return await asyncio.to_thread(_size, path)

    async def read(self, sha256: str, *, offset: int, limit: int) -> bytes:
        path = self._path(sha256)
        with _disk_errors("read", path):
            data = await asyncio.to_thread(_read, path, offset, limit)
        if data is None:
            raise NotFoundError(f"cannot find blob {sha256}")
        return data

    async def write(self, sha256: str, pieces: AsyncIterator[bytes]) -> int:
        path = self._path(sha256)
        with _disk_errors("write", path), _partial(path) as partial:
            digest = await _fill(partial, pieces)
            if digest != sha256:
                raise UserError(
                    f"cannot store blob {sha256}: what came has the SHA-256 {digest}",
                    hint="it was changed or cut off on its way; send it again",
                )
            size = partial.tell()
            await asyncio.to_thread(_settle, partial, path)
        return size

    def _path(self, sha256: str) -> Path:
        if re.fullmatch("[0-9a-f]{64}", sha256) is None:
            raise NotFoundError("cannot find a blob: its name is 64 hexadecimal digits")
        return self._folder / sha256


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _read(path: Path, offset: int, limit: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return None


async def _fill(partial: IO[bytes], pieces: AsyncIterator[bytes]) -> str:
    """Write all pieces; return the SHA-256 of them together."""
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        size += len(piece)
        if size > limits.BLOB_BYTES:
            raise UserError(f"cannot store a blob of more than {limits.BLOB_BYTES} bytes")
        digest.update(piece)
        await asyncio.to_thread(partial.write, piece)
    return digest.hexdigest()


def _settle(partial: IO[bytes], path: Path) -> None:
    """Give it its name, for good: the file first, then the folder that names it."""
    partial.flush()
    os.fsync(partial.fileno())
    Path(partial.name).rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _partial(path: Path) -> Iterator[IO[bytes]]:
    """A file without its name yet; gone in the end unless it got one."""
    with tempfile.NamedTemporaryFile(  # made 0600
        prefix=path.name, suffix=_PARTIAL, dir=path.parent, delete=False
    ) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


@contextmanager
def _disk_errors(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransientError(f"cannot {verb} {path}: {error.strerror}") from error
