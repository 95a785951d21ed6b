"""Where a call goes: the seam between the gateway and whoever carries a call out."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from hivekeeper.gateway.contract import ZomeCall
from hivekeeper.holochain.errors import NotSentError

HungUp = Callable[[], Awaitable[None]]
"""Returns once nobody waits for the answer any more."""


class Target(Protocol):
    """One hApp, somewhere."""

    async def call(self, call: ZomeCall, argument: bytes, hung_up: HungUp) -> bytes:
        """Carry `call` out, once, and return the result; argument and result are MessagePack.

        Until it is sent, `hung_up` ends it. A call that was sent is let be: whoever carries it
        out does so anyway.

        Raises:
            NotSentError: Nothing was sent: there is no way to it, or none in time.
            AnswerLostError: Sent; whether it was carried out is not known.
            ConductorError: It failed, or is not allowed.
        """


class Remote:
    """A hApp on another host. Its edge will be asked; until there are edges, nobody is."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def call(
        self,
        call: ZomeCall,
        argument: bytes,  # noqa: ARG002 -- is not sent
        hung_up: HungUp,  # noqa: ARG002 -- does not wait
    ) -> bytes:
        raise NotSentError(
            f"cannot call {call.app_id} on {self._host}: this gateway calls its own host only"
        )
