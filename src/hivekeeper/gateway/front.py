"""The HTTP side: one request in, one answer out, as an ASGI application.

Written without a framework: its speed and its exact answers are the point. Decides nothing
about calls.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

from hivekeeper.gateway import contract
from hivekeeper.gateway.contract import Answer, AnsweredError, ZomeCall
from hivekeeper.gateway.targets import HungUp
from hivekeeper.holochain.errors import ConductorError
from hivekeeper.model.errors import HiveError

log = logging.getLogger(__name__)

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_REQUEST_ID: Final = b"x-request-id"
_GOOD_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_SECRETIVE: Final = frozenset({"zome_call_unauthorized", "zome_call_authentication_failed"})
"""What a conductor says of these may name the secret that the call came with."""


class Front:
    """Answers requests; `carry_out` returns the result of a call, as JSON."""

    def __init__(self, carry_out: Callable[[ZomeCall, HungUp], Awaitable[bytes]]) -> None:
        self._carry_out = carry_out

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request (ASGI 3)."""
        request_id = _request_id(scope["headers"])
        answer = await self._answer(scope, receive, request_id)
        length = str(len(answer.body)).encode()
        headers = [*answer.headers, (b"content-length", length), (_REQUEST_ID, request_id)]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: _Message, receive: _Receive, request_id: bytes) -> Answer:
        path: bytes = scope["raw_path"]
        try:
            call = contract.read(scope["method"], path, scope["query_string"])
            if call is None:
                return contract.HEALTHY
            return contract.result(await self._carry_out(call, partial(_hung_up, receive)))
        except AnsweredError as error:
            return error.answer
        except HiveError as error:
            _report(request_id, path, error)
            return contract.failed(error)


async def _hung_up(receive: _Receive) -> None:
    """Return once the client is gone; a body is skipped, no request of ours has a use for one."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id that came with the request, if it is fit to be repeated, or a new one."""
    given = next((value for name, value in headers if name == _REQUEST_ID), b"")
    return given if _GOOD_ID.fullmatch(given) else secrets.token_hex(8).encode()


def _report(request_id: bytes, path: bytes, error: HiveError) -> None:
    secretive = isinstance(error, ConductorError) and error.kind in _SECRETIVE
    cause = "the conductor refuses our key" if secretive else str(error)
    log.info("request %s: %s failed: %s", request_id.decode(), path.decode("ascii"), cause)
