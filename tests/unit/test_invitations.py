"""The invitation: what goes in comes out, and nothing else is taken for one."""

import msgspec
import pytest

from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId
from hivekeeper.wire import invitations
from hivekeeper.wire.invitations import Invitation

SEED = "SU" + "A" * 56
INVITATION = Invitation(
    url="nats://192.0.2.1:4222",
    host=HostId("alpha"),
    cluster="c1",
    token="token-token-token",
    seed=SEED,
)


def test_what_is_written_is_read_again() -> None:
    line = invitations.encode(INVITATION)
    assert line.startswith("hive-invitation-1:")
    assert len(line.splitlines()) == 1
    assert len(line.split()) == 1
    assert invitations.decode(f"  {line}\r\n") == INVITATION


def test_no_secret_is_in_its_text() -> None:
    shown = f"{INVITATION!r} {INVITATION}"
    assert INVITATION.token not in shown
    assert SEED not in shown
    assert "alpha" in shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with"),
        ("hello", "does not begin with"),
        ("hive-invitation-1:" + "x" * 10_000, "does not begin with"),
        ("hive-invitation-2:abcd", "another version"),
        ("hive-invitation-1:", "damaged"),
        ("hive-invitation-1:!!!!", "damaged"),
        (invitations.encode(INVITATION)[:-5], "damaged"),
    ],
)
def test_what_is_no_invitation_is_refused_with_a_way_out(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        invitations.decode(text)
    assert "hive host invite" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://a"},
        {"url": "nats://u:p@a:1"},
        {"host": "Not A Name"},
        {"seed": "SAAB"},
        {"token": "short"},
        {"cluster": ""},
    ],
)
def test_an_invitation_with_something_wrong_inside_is_refused(change: dict[str, str]) -> None:
    line = invitations.encode(msgspec.structs.replace(INVITATION, **change))
    with pytest.raises(UserError, match="damaged"):
        invitations.decode(line)
