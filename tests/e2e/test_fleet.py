"""Two hosts, one stack: a host is invited, joins, is given work, falls silent, and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import driving
from e2e.driving import Hive, eventually

WORKLOAD = """
name: {name}
kind: process
process: {{command: [sleep, "1000"]}}
{more}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Hive, Hive]]:
    """The stack, and a second host that has joined it."""
    with driving.stack(tmp_path / "hive", "--host", "cellar") as hive:
        other = Hive(tmp_path / "attic")
        invitation = tmp_path / "attic.invitation"
        invitation.write_text(hive.run("host", "invite", "attic").out)
        other.run("host", "join", "--token-file", invitation)
        try:
            other.up()
            yield hive, other
        finally:
            other.down()


def apply(hive: Hive, folder: Path, name: str, more: str = "") -> None:
    manifest = folder / f"{name}.yaml"
    manifest.write_text(WORKLOAD.format(name=name, more=more))
    hive.run("apply", manifest, "--wait")


def test_an_invited_host_gets_work_and_an_invitation_is_good_once(
    fleet: tuple[Hive, Hive], tmp_path: Path
) -> None:
    hive, _ = fleet
    eventually(
        lambda: (
            {(row["id"], row["state"]) for row in hive.json("host", "list")}
            == {("cellar", "ready"), ("attic", "ready")}
        )
    )
    apply(hive, tmp_path, "there", "placement: {host: attic}")
    assert hive.row("there")["host"] == "attic"
    apply(hive, tmp_path, "one")
    apply(hive, tmp_path, "two")
    hosts = [row["host"] for row in hive.rows()]
    assert sorted(hosts) in (["attic", "attic", "cellar"], ["attic", "cellar", "cellar"])
    assert hive.run("logs", "there").code == 0

    late = Hive(tmp_path / "late")
    done = late.run("host", "join", "--token-file", tmp_path / "attic.invitation", code=2)
    assert "invitation" in done.err


def test_a_silent_host_is_unknown_its_work_goes_on_and_it_comes_back(
    fleet: tuple[Hive, Hive], tmp_path: Path
) -> None:
    hive, other = fleet
    apply(hive, tmp_path, "far", "placement: {host: attic}")
    before = hive.row("far")
    other.kill("up", "agent", "keeper")
    row = hive.until("far", lambda row: row["actual"] == "unknown")
    assert row["host"] == "attic"
    assert not driving.is_dead(before["pid"])
    other.up()
    after = hive.running("far")
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])


def test_what_is_no_invitation_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "no.invitation"
    file.write_text("good day\n")
    done = Hive(tmp_path / "attic").run("host", "join", "--token-file", file, code=2)
    assert "hive-invitation-1:" in done.err
