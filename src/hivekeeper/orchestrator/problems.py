"""Which error is which HTTP status: one table, and the answer that a client gets (RFC 9457)."""

import logging
import math
import re
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException

from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.orchestrator.commands import StaleError
from hivekeeper.wire.api import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class UnauthenticatedError(PermissionRefusedError):
    """Nobody knows who asks."""


class MediaTypeError(UserError):
    """What was sent is of a type that nobody reads here."""


STATUSES: Final[dict[type[HiveError], HTTPStatus]] = {  # special ones first
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    PermissionRefusedError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    StaleError: HTTPStatus.PRECONDITION_FAILED,
    ConflictError: HTTPStatus.CONFLICT,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UserError: HTTPStatus.BAD_REQUEST,
    TransientError: HTTPStatus.SERVICE_UNAVAILABLE,
    PermanentError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Return what the client gets instead of what it asked for."""
    status = _status(error)
    problem = Problem(
        title=status.phrase,
        status=status,
        detail=_detail(error, status),
        hint=getattr(error, "hint", ""),
        field=getattr(error, "field", "") or _parameter(error),
        request_id=request.scope["state"]["request_id"],
    )
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request %s failed", problem.request_id, exc_info=error)
    return Response(
        problem,
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=_headers(request, error, status),
    )


def _status(error: Exception) -> HTTPStatus:
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    if type(error) is UserError and error.field:
        return HTTPStatus.UNPROCESSABLE_ENTITY  # it can be read, and says what cannot be done
    found = (status for form, status in STATUSES.items() if isinstance(error, form))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def _detail(error: Exception, status: HTTPStatus) -> str:
    if isinstance(error, HiveError):
        return str(error)
    if not isinstance(error, HTTPException):
        return "cannot answer: a bug; the orchestrator's log tells more"
    complaints = [each["message"] for each in _extra(error) if "message" in each]
    return "; ".join(complaints) or f"{status.description or error.detail}"


def _parameter(error: Exception) -> str:
    """Return which query parameter, header or field was refused by its type, if one was."""
    return next((str(each["key"]) for each in _extra(error) if each.get("key")), "")


def _extra(error: Exception) -> list[dict[str, Any]]:
    extra = getattr(error, "extra", None)
    return [each for each in extra if isinstance(each, dict)] if isinstance(extra, list) else []


def _headers(
    request: Request[Any, Any, Any], error: Exception, status: HTTPStatus
) -> dict[str, str]:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return {"Allow": ", ".join(sorted(_methods(request)))}
        case HTTPStatus.SERVICE_UNAVAILABLE:
            retry_after_s = getattr(error, "retry_after_s", 1.0)
            return {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
        case _:
            return {}


def _methods(request: Request[Any, Any, Any]) -> set[str]:
    """Return what may be asked of the path."""
    methods: set[str] = set()
    for route in request.app.routes:
        pattern = re.sub(r"\{[^}]*\}", "[^/]+", route.path_format)
        if re.fullmatch(pattern, request.url.path):
            methods |= set(getattr(route, "methods", ()))
    return methods
