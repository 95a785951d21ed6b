"""The API as the command line talks to it: one request, one answer, errors as ours.

Keeps no connection.
"""

import http.client
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from hivekeeper.cli.stack import Target
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)

_TIMEOUT_S: Final = 60.0
_JSON: Final = "application/json"


class Api:
    """Calls a stack's API.

    Args:
        target: Which.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        parts = urlsplit(target.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UserError(f"cannot use the address {target.url}: it begins with http://")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")

    def get(self, path: str, **query: object) -> Any:
        """Return what is at `path`."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: object) -> Any:
        """Do what is at `path`."""
        data = b"" if body is None else json.dumps(body).encode()
        return self.call("POST", path, query=query, body=data, form=_JSON)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: bytes | None = None,
        form: str = _JSON,
    ) -> Any:
        """Return the decoded answer, or its bytes if it is not JSON.

        Args:
            method: HTTP's.
            path: Below the API's address.
            query: Names and values; None values are left out.
            body: What to send.
            form: Its content type.

        Raises:
            HiveError: What the API answered, as the error it was; or it could not be reached.
        """
        said = {key: _text(value) for key, value in (query or {}).items() if value is not None}
        address = self._base + quote(path) + (f"?{urlencode(said)}" if said else "")
        connect = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = connect(self._host, self._port, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self._target.token}", "Accept": _JSON}
        if body:
            headers["Content-Type"] = form
        try:
            connection.request(method, address, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise TransientError(
                f"cannot reach the API at {self._target.url}: {cause};"
                " is the stack up? `hive up` starts it"
            ) from error
        finally:
            connection.close()
        return _read(answer.status, answer.headers.get_content_type(), data)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(status: int, form: str, data: bytes) -> Any:
    is_json = form == _JSON or form.endswith("+json")
    try:
        said = json.loads(data) if is_json and data else data
    except ValueError as error:
        raise TransientError(f"cannot read the API's answer: {error}") from error
    if status >= 400:  # noqa: PLR2004 -- HTTP's own line between answers and errors
        raise _error(status, said if isinstance(said, dict) else {})
    return said


_ERRORS: Final[dict[int, type[UserError]]] = {
    401: PermissionRefusedError,
    403: PermissionRefusedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
}


def _error(status: int, problem: dict[str, Any]) -> HiveError:
    message = str(problem.get("detail") or problem.get("title") or f"the API answered {status}")
    hint = str(problem.get("hint") or "")
    if status in {429, 502, 503, 504}:
        return TransientError(message)
    if status >= 500:  # noqa: PLR2004
        return PermanentError(message, hint=hint)
    return _ERRORS.get(status, UserError)(
        message, hint=hint, field=str(problem.get("field") or "")
    )
