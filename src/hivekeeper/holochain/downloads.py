"""Fetch a file that must be just what it should be: whole, bounded, with the right SHA-256.

What is not all of that never gets the file's name. Blocks while it works, for the command line.
"""

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from hivekeeper.model import limits
from hivekeeper.model.errors import PermanentError, TransientError, UserError

Progress = Callable[[str, float | None], None]
"""Told a sentence for people, and how much is done, in [0, 1], where that is known."""

TIMEOUT_S: Final = 30.0
"""Without a byte; the whole may take as long as it takes."""
CHUNK_BYTES: Final = 1 * limits.MIB
_LATER: Final = {403, 429}
"""Asked too often, says the server that keeps the releases."""
_SERVER_ERROR: Final = 500


def fetch(url: str, limit: int, headers: dict[str, str] | None = None) -> bytes:
    """Return a small answer; raises as `download` does."""
    with _opened(url, headers or {}) as answer:
        data: bytes = answer.read(limit + 1)
    if len(data) > limit:
        raise PermanentError(f"cannot fetch {url}: larger than {limit} bytes")
    return data


def download(
    url: str,
    target: Path,
    *,
    limit: int,
    progress: Progress,
    accept: Callable[[str], bool],
    mode: int = 0o644,
) -> str:
    """Fetch `url` to `target`, and return its SHA-256, hex.

    Args:
        url: Over https; over http only on this machine.
        target: Replaced in one step, once all of it is there and accepted.
        limit: In bytes.
        progress: See `Progress`.
        accept: Whether the SHA-256 is the right one.
        mode: The file's.

    Raises:
        UserError: The address is no such one.
        TransientError: The server is out of reach, or the answer was cut off.
        PermanentError: There is no such file, it is too large, or its SHA-256 is not accepted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(url, {}) as answer, _unnamed(target.parent) as (file, path):
        digest = _copy(answer, file, url=url, limit=limit, progress=progress)
        if not accept(digest):
            raise PermanentError(f"cannot use {url}: its SHA-256 is {digest}")
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        path.replace(target)
    return digest


def _copy(
    answer: http.client.HTTPResponse, file: IO[bytes], *, url: str, limit: int, progress: Progress
) -> str:
    total = answer.length
    name = url.rsplit("/", 1)[-1]
    digest = hashlib.sha256()
    done = 0
    while chunk := answer.read(CHUNK_BYTES):
        done += len(chunk)
        if done > limit:
            raise PermanentError(f"cannot fetch {url}: larger than {limit} bytes")
        digest.update(chunk)
        file.write(chunk)
        progress(f"downloading {name}", done / total if total else None)
    if total is not None and done < total:
        raise TransientError(f"cannot fetch {url}: cut off after {done} of {total} bytes")
    return digest.hexdigest()


@contextlib.contextmanager
def _unnamed(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Open a file that is gone at the end, unless it was given another name."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[Any]:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not local:
        raise UserError(f"cannot fetch {url}: only https addresses are fetched")
    request = urllib.request.Request(url, headers={"User-Agent": "hivekeeper", **headers})  # noqa: S310 -- checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            yield answer
    except urllib.error.HTTPError as error:
        problem = f"cannot fetch {url}: {error.code} {error.reason}"
        if error.code >= _SERVER_ERROR or error.code in _LATER:
            raise TransientError(problem, retry_after_s=60.0) from error
        raise PermanentError(problem) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"cannot fetch {url}: {error}") from error
