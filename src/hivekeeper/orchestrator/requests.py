"""What every request goes through: who asks, under which id, and what its body may be."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Struct

from hivekeeper.model import limits
from hivekeeper.model.errors import UserError
from hivekeeper.orchestrator.commands import Command
from hivekeeper.orchestrator.problems import MediaTypeError, UnauthenticatedError

AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]
T = TypeVar("T", bound=Struct)

OPEN: Final = {"open": True}
"""Marks a handler that needs no token."""
_ACTOR: Final = "admin"
"""Who has the token of the stack's folder. One token so far."""
_REQUEST_ID: Final = re.compile("[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(f"[!-~]{{1,{limits.IDEMPOTENCY_KEY_LENGTH}}}")


def guard(token: str) -> Callable[[AnyConnection, BaseRouteHandler], None]:
    """Return what lets only those through who have `token`."""

    def check(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), token.encode())
        if not handler.opt.get("open") and not (is_right and scheme.lower() == "bearer"):
            raise UnauthenticatedError(
                "cannot answer: the token is missing or wrong",
                hint="send the content of DIR/token as `Authorization: Bearer`",
                field="Authorization",
            )

    return check


def named(app: ASGIApp) -> ASGIApp:
    """Give every request an id, the asker's own if it has one, and say it in the answer."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id_ = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = id_

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", id_.encode())]
            await send(message)

        await app(scope, receive, send_named)

    return answer


def command(request: AnyRequest, body: bytes = b"") -> Command:
    """Return the write that is asked for; raises `UserError` for headers that make no sense."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise UserError(
            f"cannot use that idempotency key: it has up to {limits.IDEMPOTENCY_KEY_LENGTH} "
            "visible ASCII characters",
            field="Idempotency-Key",
        )
    tags = request.headers.get("if-match", "").split(",")
    asked = (request.method.encode(), str(request.url).encode(), body)
    return Command(
        actor=_ACTOR,
        request_id=request.scope["state"]["request_id"],
        body=body,
        digest=hashlib.sha256(b"\0".join(asked)).hexdigest(),
        idempotency_key=key,
        match=frozenset(tag.strip() for tag in tags if tag.strip()),
    )


async def body(request: AnyRequest, types: tuple[str, ...]) -> bytes:
    """Return the body; raises `MediaTypeError` unless it is of one of `types`."""
    form = request.content_type[0].lower()
    if form not in types:
        raise MediaTypeError(
            f"cannot read a body of type {form or 'nothing'}",
            hint=f"send one of {', '.join(types)}",
            field="Content-Type",
        )
    return await request.body()


def read(data: bytes, form: type[T]) -> T:
    """Return what JSON says; raises `UserError`, with the field that is wrong."""
    try:
        return msgspec.json.decode(data, type=form)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise UserError(
            f"cannot read the body: {text}", field=path.strip(".`") or "body"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"cannot read the body: it is not JSON: {error}") from error
