"""One tree of errors, cut by who must act.

Everything that this project raises on purpose is one of these.

`AssertionError` is the fourth branch: a bug; the process dies of it and is restarted.
"""


class HiveError(Exception):
    """Something that was foreseen.

    Its text reads `cannot <verb> <object>: <cause>` and holds no secret.
    """


class UserError(HiveError):
    """Whoever asked must ask differently. Exit code 2, HTTP 4xx; never retried.

    Args:
        message: What is wrong, naming the thing and the place.
        hint: What to do about it, a sentence, or empty.
        field: The path of the offending field (`restart.max_retries`), or empty.
    """

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.field = field


class NotFoundError(UserError):
    """What was asked for is not there. HTTP 404."""


class ConflictError(UserError):
    """What was asked for contradicts what is there; look again, then decide. HTTP 409 or 412."""


class PermissionRefusedError(UserError):
    """Whoever asked may not have this. HTTP 401 or 403."""


class TransientError(HiveError):
    """Nobody needs to act: trying again later is expected to help. Exit code 3, HTTP 503.

    Args:
        message: What could not be done, and why.
        retry_after_s: When trying again makes sense, in seconds from now.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(HiveError):
    """Trying again does not help, and it was nobody's request: recorded in the status.

    Exit code 1.

    Args:
        message: What could not be done, and why.
        hint: What a person can do about it, a sentence, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
