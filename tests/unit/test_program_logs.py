"""A program's log, read while it grows, in pieces, and with its head cut off."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hivekeeper.model import limits
from hivekeeper.supervisor import logs

LINE = 64
COUNT = (limits.LOG_BYTES + 3 * logs.SLACK_BYTES) // LINE
WHOLE = b"".join(b"%0*d\n" % (LINE - 1, n) for n in range(COUNT))


def append(folder: Path, run: int, data: bytes) -> None:
    fd = logs.create(str(folder), run)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def test_what_is_not_there_is_an_empty_log_and_no_error(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        for words in ({}, {"run": 3}, {"back": 2}, {"offset": 99}):
            piece = logs.read(str(folder), live=None, **words)
            assert piece == logs.Piece(run=0, offset=0, data=b"", more=False, ended=True)
    assert logs.trim(tmp_path / "none.log") == 0


def test_the_newest_runs_are_kept_and_the_present_one_is_not_cut_short(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    for run in (1, 2, 9, 10, 10):
        append(tmp_path, run, b"%d\n" % run)
    assert logs.runs(str(tmp_path)) == [10, 9, 2]
    assert logs.read(str(tmp_path), live=10).data == b"10\n10\n"
    assert [logs.read(str(tmp_path), live=10, back=n).run for n in range(4)] == [10, 9, 2, 0]
    logs.remove(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["readme.txt"], "what is not ours stays"


def test_a_folder_goes_with_its_last_log(tmp_path: Path) -> None:
    append(tmp_path / "logs", 1, b"x")
    logs.remove(str(tmp_path / "logs"))
    assert not (tmp_path / "logs").exists()
    logs.remove(str(tmp_path / "logs"))


def test_only_its_owner_may_read_a_log(tmp_path: Path) -> None:
    append(tmp_path / "logs", 1, b"x")
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert logs.path(str(tmp_path / "logs"), 1).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("tail", "data"),
    [
        (0, b""),
        (1, b"three"),
        (2, b"two\nthree"),
        (3, b"\xffone\ntwo\nthree"),
        (9, b"\xffone\ntwo\nthree"),
    ],
)
def test_the_last_lines_are_counted_with_one_that_is_not_ended(
    tmp_path: Path, tail: int, data: bytes
) -> None:
    append(tmp_path, 1, b"\xffone\ntwo\nthree")
    assert logs.read(str(tmp_path), live=1, tail=tail).data == data
    append(tmp_path, 1, b"\n")
    expected = data + b"\n" if tail else b""
    assert logs.read(str(tmp_path), live=1, tail=tail).data == expected


def test_a_log_is_followed_by_its_offset(tmp_path: Path) -> None:
    append(tmp_path, 1, b"one\n")
    first = logs.read(str(tmp_path), live=1)
    assert (first.data, first.more, first.ended) == (b"one\n", False, False)
    append(tmp_path, 1, b"two\n")
    second = logs.read(str(tmp_path), live=None, run=1, offset=first.offset)
    assert (second.data, second.offset, second.ended) == (b"two\n", 8, True)


def test_a_long_log_comes_in_pieces_that_make_up_the_whole(tmp_path: Path) -> None:
    append(tmp_path, 1, WHOLE[:1_000_000])
    whole, piece = b"", logs.read(str(tmp_path), live=1, offset=0, size_bytes=4096)
    while piece.data:
        whole += piece.data
        assert piece.more == (len(whole) < 1_000_000)
        piece = logs.read(str(tmp_path), live=1, offset=piece.offset, size_bytes=4096)
    assert whole == WHOLE[:1_000_000]


def test_more_lines_than_fit_begin_with_a_whole_one(tmp_path: Path) -> None:
    append(tmp_path, 1, WHOLE[:1_000_000])
    piece = logs.read(str(tmp_path), live=1, tail=100_000, size_bytes=1000)
    assert piece.data == WHOLE[:1_000_000][-960:]


def test_a_cut_gives_the_head_back_and_keeps_every_offset(tmp_path: Path) -> None:
    append(tmp_path, 1, WHOLE)
    file = logs.path(str(tmp_path), 1)
    assert logs.trim(file) == len(WHOLE)
    assert file.stat().st_size == len(WHOLE)
    assert file.stat().st_blocks * 512 <= limits.LOG_BYTES + 8192
    first = logs.read(str(tmp_path), live=1, offset=0)
    begin = first.offset - len(first.data)
    assert begin == len(WHOLE) - limits.LOG_BYTES, "what fits is all there"
    assert first.data == WHOLE[begin : first.offset]
    assert logs.read(str(tmp_path), live=1, offset=begin + 640).data.startswith(
        WHOLE[begin + 640 : begin + 700]
    )
    assert logs.read(str(tmp_path), live=1, tail=1).data == WHOLE[-LINE:]
    blocks = file.stat().st_blocks
    append(tmp_path, 1, b"after\n")
    logs.trim(file)
    assert file.stat().st_blocks <= blocks + 8, "not cut again for a little"
    assert logs.read(str(tmp_path), live=1, offset=len(WHOLE)).data == b"after\n"


def test_a_cut_in_the_middle_of_a_line_is_made_at_the_next_ones_beginning(tmp_path: Path) -> None:
    append(tmp_path, 1, WHOLE + b"x" * 17 + b"\n")
    logs.trim(logs.path(str(tmp_path), 1))
    data = logs.read(str(tmp_path), live=1, offset=0, size_bytes=LINE).data
    assert data == b"%0*d\n" % (LINE - 1, int(data))


def test_a_line_without_an_end_is_cut_where_it_must(tmp_path: Path) -> None:
    size = limits.LOG_BYTES + 2 * logs.SLACK_BYTES
    append(tmp_path, 1, b"x" * size)
    logs.trim(logs.path(str(tmp_path), 1))
    piece = logs.read(str(tmp_path), live=1, offset=0)
    assert piece.offset - len(piece.data) == size - limits.LOG_BYTES


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    """A file system that cannot punch holes."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a file system")
    folder = tmp_path / "plain"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "plain", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def check_cut_by_copying(folder: Path) -> None:
    file = logs.path(str(folder), 1)
    assert logs.trim(file) == limits.LOG_BYTES
    assert file.read_bytes() == WHOLE[-limits.LOG_BYTES :]
    assert [p.name for p in folder.iterdir()] == ["1.log"]
    piece = logs.read(str(folder), live=1, offset=len(WHOLE), size_bytes=LINE)
    assert piece.data == WHOLE[-limits.LOG_BYTES :][:LINE], "a cursor beyond the end begins anew"
    append(folder, 1, b"after\n")
    assert file.read_bytes().endswith(WHOLE[-LINE:] + b"after\n")


@pytest.mark.root
def test_where_holes_cannot_be_punched_the_newest_part_is_copied(plain: Path) -> None:
    append(plain, 1, WHOLE)
    check_cut_by_copying(plain)


def test_offsets_that_grow_too_large_for_a_file_system_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "OFFSET_MAX", len(WHOLE) - 1)
    append(tmp_path, 1, WHOLE)
    check_cut_by_copying(tmp_path)


@pytest.mark.parametrize(
    ("grown", "elapsed_s", "pause_s"),
    [(0, 1.0, 1.0), (1000, 1.0, 1.0), (limits.MIB * 4, 1.0, 0.25), (limits.GIB * 4, 1.0, 0.02)],
)
def test_a_log_is_looked_at_before_it_has_grown_too_much(
    grown: int, elapsed_s: float, pause_s: float
) -> None:
    assert logs.pause_s(grown, elapsed_s) == pause_s
