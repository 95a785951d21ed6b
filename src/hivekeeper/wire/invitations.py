"""The invitation file: all that a host needs to ask to be let in, as one line of text.

Whoever has it can join once under its name, until it is used or runs out: it is a secret. It
holds no right but to ask; the host's own key is made by the host and never travels.
"""

import base64
import binascii
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hivekeeper.model import ids, limits
from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId

PREFIX: Final = "hive-invitation-1:"
"""Tells people what the line is, and programs which form it has."""
_FAMILY: Final = "hive-invitation-"
_LONGEST: Final = 4096
"""Characters; a real one has about 400."""
_HINT: Final = "ask for a new one: `hive host invite NAME` on the machine with the orchestrator"


class Invitation(Struct, frozen=True, kw_only=True):
    """What `hive host invite` writes and `hive host join` reads."""

    url: Annotated[str, Meta(pattern=r"^nats://[^/@\s]+$", max_length=512)]
    """Where the hub is, as the joining host reaches it."""
    host: Annotated[HostId, Meta(pattern=ids.NAME_PATTERN, max_length=limits.NAME_LENGTH)]
    """Under which name it will be let in."""
    cluster: Annotated[str, Meta(min_length=1, max_length=128)]
    """Which store answers; a host that belongs to another one notices."""
    token: Annotated[str, Meta(min_length=16, max_length=256)]
    """Good for one join."""
    seed: Annotated[str, Meta(pattern="^SU[A-Z2-7]{56}$")]
    """Of the key that every holder of an invitation connects with."""

    def __repr__(self) -> str:
        return f"Invitation(url={self.url!r}, host={self.host!r}, cluster={self.cluster!r})"


def encode(invitation: Invitation) -> str:
    """Return the line for `invitation`, without a line end."""
    return PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(invitation)).decode().rstrip("=")


def decode(text: str) -> Invitation:
    """Return the invitation in `text`; white space around it does not matter.

    Raises:
        UserError: It is no invitation, a damaged one, or one of another version. The message
            holds nothing of the text.
    """
    line = text.strip()
    if len(line) > _LONGEST or not line.startswith(_FAMILY):
        raise UserError(f"cannot read the invitation: it does not begin with {PREFIX}", hint=_HINT)
    if not line.startswith(PREFIX):
        raise UserError("cannot read the invitation: it is of another version", hint=_HINT)
    body = line.removeprefix(PREFIX)
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(data, type=Invitation)
    except (binascii.Error, ValueError) as error:
        cause = "it is damaged or cut off"
        raise UserError(f"cannot read the invitation: {cause}", hint=_HINT) from error
