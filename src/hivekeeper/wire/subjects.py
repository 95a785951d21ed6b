"""The subjects of the hub: who says what where.

Who a request is from is read from its subject, which permissions bind to the user
(`wire.authority`), never from its payload. A wake says only "look now"; losing one costs seconds.
Orders travel in replies to the host's own requests alone.
"""

from typing import Final

from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId, is_name

ROUTES_WAKE: Final = "hive.routes.wake"
"""To gateways: the routes have changed."""
ROUTES: Final = "hive.routes.get"
"""From gateways, answered: which host serves which app."""
JOIN: Final = "hive.join"
"""From those who hold an invitation, answered."""

ANY_WAKE: Final = "hive.host.*.wake"
ANY_DOCUMENT: Final = "hive.host.*.document"
ANY_REPORT: Final = "hive.host.*.report"
ANY_BLOB: Final = "hive.host.*.blob"
ANY_LOGS: Final = "hive.host.*.logs"
ANY_CALL: Final = "hive.host.*.call"

# nats-server's own, in its system account.
SERVER_PING: Final = "$SYS.REQ.SERVER.PING"
ANY_SERVER_RELOAD: Final = "$SYS.REQ.SERVER.*.RELOAD"

_INBOX: Final = "_INBOX_"


def wake(host: HostId) -> str:
    """To a host: your document has changed."""
    return f"hive.host.{host}.wake"


def document(host: HostId) -> str:
    """From a host, answered: my document, please."""
    return f"hive.host.{host}.document"


def report(host: HostId) -> str:
    """From a host, answered once stored: what has changed here."""
    return f"hive.host.{host}.report"


def blob(host: HostId) -> str:
    """From a host, answered: a piece of a blob, please."""
    return f"hive.host.{host}.blob"


def logs(host: HostId) -> str:
    """To a host, answered: a piece of a log, please."""
    return f"hive.host.{host}.logs"


def call(host: HostId) -> str:
    """To a host's edge, answered: a zome call."""
    return f"hive.host.{host}.call"


def server_reload(server_id: str) -> str:
    """To nats-server, answered: read your configuration again."""
    return f"$SYS.REQ.SERVER.{server_id}.RELOAD"


def inbox(user: str) -> str:
    """Below which (`<inbox>.<random>`) replies to `user` go; nobody else may listen there."""
    return f"{_INBOX}{user}"


def inbox_owner(subject: str) -> str | None:
    """Return the name of the user whose inbox `subject` is in, or None if it is in nobody's."""
    first, dot, _ = subject.partition(".")
    return first.removeprefix(_INBOX) if dot and first.startswith(_INBOX) else None


def matches(pattern: str, subject: str) -> bool:
    """Return whether `pattern` (`*`: any word; a last `>`: any one or more) has `subject` in it.

    `subject` may be a pattern itself: then, whether everything in it is in `pattern` too.
    """
    wanted, said = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(said) <= len(wanted):
            return False
        said = said[: len(wanted)]
    return len(wanted) == len(said) and all(
        want == word or (want == "*" and word != ">")
        for want, word in zip(wanted, said, strict=True)
    )


def sender(subject: str) -> HostId:
    """Return which host a request on `subject` is from; raises `UserError` if it is from none."""
    match subject.split("."):
        case ["hive", "host", name, _] if is_name(name):
            return HostId(name)
    raise UserError(f"cannot tell who speaks on subject {subject!r}")
