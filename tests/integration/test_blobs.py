"""Blobs on disk: whole, verified and for their owner alone, or not there."""

import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hivekeeper.adapters.blobs import FileBlobs
from hivekeeper.model import limits
from hivekeeper.model.errors import NotFoundError, TransientError, UserError

CONTENT = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CONTENT)
NAME = hashlib.sha256(WHOLE).hexdigest()


async def pieces(*parts: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if then is not None:
        raise then


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_what_was_written_is_read_back_in_pieces_also_by_the_next_one_to_open_it(
    tmp_path: Path,
) -> None:
    assert await FileBlobs(tmp_path / "blobs").write(NAME, pieces(*CONTENT)) == len(WHOLE)
    blobs = FileBlobs(tmp_path / "blobs")
    assert await blobs.size(NAME) == len(WHOLE)
    assert await blobs.read(NAME, offset=0, limit=4) == b"one "
    assert await blobs.read(NAME, offset=4, limit=1000) == b"two three"
    assert await blobs.read(NAME, offset=len(WHOLE), limit=1000) == b""


async def test_writing_again_what_is_there_changes_nothing(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    for _ in range(2):
        assert await blobs.write(NAME, pieces(WHOLE)) == len(WHOLE)
    assert names(tmp_path) == [NAME]


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    await FileBlobs(tmp_path / "blobs").write(NAME, pieces(WHOLE))
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "blobs" / NAME).stat().st_mode) == 0o600


async def test_another_content_than_the_name_says_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="what came has the SHA-256"):
        await FileBlobs(tmp_path).write(NAME, pieces(b"something else"))
    assert names(tmp_path) == []


async def test_a_sender_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="gone"):
        await FileBlobs(tmp_path).write(NAME, pieces(WHOLE, then=TransientError("gone")))
    assert names(tmp_path) == []


async def test_too_large_a_blob_is_refused_before_all_of_it_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOB_BYTES", 7)
    with pytest.raises(UserError, match="more than 7 bytes"):
        await FileBlobs(tmp_path).write(NAME, pieces(*CONTENT, then=AssertionError("read on")))
    assert names(tmp_path) == []


async def test_what_a_crash_left_half_written_is_removed_and_what_was_whole_stays(
    tmp_path: Path,
) -> None:
    await FileBlobs(tmp_path).write(NAME, pieces(WHOLE))
    (tmp_path / f"{NAME}abc.partial").write_bytes(b"one")
    FileBlobs(tmp_path)
    assert names(tmp_path) == [NAME]


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    assert await blobs.size(NAME) is None
    with pytest.raises(NotFoundError, match=f"cannot find blob {NAME}"):
        await blobs.read(NAME, offset=0, limit=1)


@pytest.mark.parametrize("name", ["../token", "", NAME.upper(), NAME + "0", NAME[:-1] + "\n"])
async def test_a_name_that_is_no_hash_names_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="64 hexadecimal digits"):
        await FileBlobs(tmp_path).size(name)


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TransientError, match="cannot open"):
        FileBlobs(tmp_path / "file" / "blobs")
