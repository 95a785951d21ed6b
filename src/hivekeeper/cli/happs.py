"""From what a manifest calls its hApp (a path, a URL, a blob) to a blob that hosts can fetch.

A host is somewhere else: what it is to run must be in the store's reach, and named by its content.
"""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from msgspec.structs import replace

from hivekeeper.cli.api import Api
from hivekeeper.model import limits
from hivekeeper.model.errors import NotFoundError, TransientError, UserError
from hivekeeper.model.manifest import Manifest

_TIMEOUT_S = 60.0


def resolve(api: Api, manifest: Manifest, base: Path, *, send: bool) -> Manifest:
    """Return `manifest` with its hApp as `blob:SHA256`; sends the blob unless it is there.

    Args:
        api: Where blobs go.
        manifest: Of any kind; without a hApp it is returned as it is.
        base: What a relative path begins at.
        send: Whether to send anything; without, only the name is worked out.

    Raises:
        UserError: There is no such file, or it is not what `sha256` says.
        TransientError: It could not be downloaded or sent.
    """
    happ = manifest.holochain
    if happ is None or happ.happ.startswith("blob:"):
        return manifest
    data = _download(happ.happ) if happ.happ.startswith("https:") else _load(base / happ.happ)
    digest = hashlib.sha256(data).hexdigest()
    if happ.sha256 is not None and happ.sha256 != digest:
        raise UserError(
            f"cannot use {happ.happ}: its SHA-256 is {digest}, not {happ.sha256}",
            hint="it is another file than the manifest means; nothing was changed",
            field="holochain.sha256",
        )
    if send and not _is_there(api, digest):
        api.call("PUT", f"/v1/blobs/{digest}", body=data, form="application/octet-stream")
    return replace(manifest, holochain=replace(happ, happ=f"blob:{digest}", sha256=None))


def _is_there(api: Api, digest: str) -> bool:
    try:
        api.call("HEAD", f"/v1/blobs/{digest}")
    except NotFoundError:
        return False
    return True


def _load(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > limits.BLOB_BYTES:
            raise UserError(f"cannot use {path}: {size} bytes are more than {limits.BLOB_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", field="holochain.happ") from error


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 -- https, by the decoder
            data: bytes = answer.read(limits.BLOB_BYTES + 1)
    except (urllib.error.URLError, OSError) as error:
        raise TransientError(f"cannot download {url}: {error}") from error
    if len(data) > limits.BLOB_BYTES:
        raise UserError(f"cannot use {url}: it is larger than {limits.BLOB_BYTES} bytes")
    return data
