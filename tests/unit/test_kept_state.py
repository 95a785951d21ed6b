"""What the keeper keeps of a program on disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hivekeeper.core.restart import Program
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.program import ProgramSpec, State
from hivekeeper.supervisor import state
from hivekeeper.supervisor.state import Folder, Known, Run, Told
from hivekeeper.wire.keeper import Hold

SPEC = ProgramSpec(id=ProgramId("workload.x"), command=("x",), logs="/logs")
TOLD = Told(hold=Hold(spec=SPEC, wanted=True, generation=Generation(1)), edition=1)
RUN = Run(number=3, edition=1, stop_signal="SIGINT", groups=("/sys/x",), notify="name")


def known(reason: str = "") -> Known:
    program = Program(state=State.READY, failures=2, restarts=7, timer_at_s=1.5, reason=reason)
    return Known(program=program, since=datetime.now(UTC), boot="b", run=RUN)  # noqa: TID251


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "workload.x")
    made.keep_told(TOLD)
    return made


def test_what_was_never_kept_is_not_there(tmp_path: Path) -> None:
    assert Folder(tmp_path).told() is None
    assert Folder(tmp_path).known() is None


def test_what_is_kept_is_read_again(folder: Folder) -> None:
    assert folder.told() == TOLD
    kept = known()
    folder.keep_known(kept)
    assert folder.known() == kept


def test_a_shorter_account_leaves_nothing_of_a_longer_one(folder: Folder) -> None:
    folder.keep_known(known("a long reason " * 50))
    kept = known()
    folder.keep_known(kept)
    assert folder.known() == kept
    assert (folder.path / "known.json").stat().st_size == state.PAGE


def test_only_its_owner_may_read_it(folder: Folder) -> None:
    folder.keep_known(known())
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {f.stat().st_mode & 0o777 for f in folder.path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"program":{"state":"ready"}}', '{"program":{"state":"stopping"}}', "\xff"],
)
def test_what_is_torn_is_nothing(
    folder: Folder, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.path / "known.json").write_text(text, encoding="latin-1")
    assert folder.known() is None
    assert "cannot read" in caplog.text


def test_an_account_that_contradicts_itself_is_torn(folder: Folder) -> None:
    folder.keep_known(known())
    file = folder.path / "known.json"
    text = file.read_text()
    begin, end = text.index('"run":'), text.index(',"last_end"')
    file.write_text(text[:begin] + '"run":null' + text[end:])
    assert folder.known() is None


def test_an_account_that_does_not_fit_is_said_and_does_no_harm(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    kept = known()
    folder.keep_known(kept)
    folder.keep_known(known("x" * state.PAGE))
    assert "cannot write" in caplog.text
    assert folder.known() == kept


def test_a_removed_folder_is_gone_with_what_a_crash_left_in_it(folder: Folder) -> None:
    folder.keep_known(known())
    (folder.path / "hold.new").touch()
    folder.pid.touch()
    folder.remove()
    assert not folder.path.exists()
