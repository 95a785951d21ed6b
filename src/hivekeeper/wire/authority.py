"""Who may say and hear what on the hub: each user its own subjects and its own inbox, no more.

The server (or a fake) enforces `permissions`; whoever answers a request asks `may_answer` first.
Knows no keys and no tokens: how a user proves who it is, is the hub's business.

Those who answer need no right to publish to inboxes: the server lets each request be answered
once (`answers`). That alone would let an asker name *any* subject as the place for its answer,
and so borrow the voice of whoever answers; `may_answer` closes that door.

All holders of invitations are one user and could read each other's replies. So the reply to a
join holds nothing secret: the joining host makes its own key, and only its public half travels.
"""

from enum import StrEnum, auto

from msgspec import Struct

from hivekeeper.model.ids import HostId, is_name
from hivekeeper.wire import subjects


class Role(StrEnum):
    """What a user of the hub is."""

    ORCHESTRATOR = auto()
    GATEWAY = auto()
    EDGE = auto()
    HOST = auto()
    JOINER = auto()
    """Whoever holds an invitation."""
    SYSTEM = auto()
    """Makes the server read its configuration again; lives in an account of its own."""


_OF_A_HOST = frozenset({Role.HOST, Role.EDGE})


class User(Struct, frozen=True):
    """Who connects to the hub."""

    role: Role
    host: HostId | None = None
    """Whose agent or edge it is; none for the others."""

    def __post_init__(self) -> None:
        assert (self.host is not None) == (self.role in _OF_A_HOST), "agents and edges have a host"

    @property
    def name(self) -> str:
        """A word for files, subjects and people; no two users share one."""
        return self.role if self.host is None else f"{self.role}_{self.host}"

    @property
    def inbox(self) -> str:
        """Below which its replies go."""
        return subjects.inbox(self.name)


ORCHESTRATOR = User(Role.ORCHESTRATOR)
GATEWAY = User(Role.GATEWAY)
JOINER = User(Role.JOINER)
SYSTEM = User(Role.SYSTEM)


def host(name: HostId) -> User:
    """Return the agent of a host."""
    return User(Role.HOST, name)


def edge(name: HostId) -> User:
    """Return the edge of a host."""
    return User(Role.EDGE, name)


class Permissions(Struct, frozen=True, kw_only=True):
    """What a user may do; what is not here is refused. Subjects may hold wildcards."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool
    """Whether it may answer the requests that reach it."""


def permissions(user: User) -> Permissions:
    """Return all that `user` may do."""
    publish, hear, answers = _allowed(user)
    inbox = (f"{user.inbox}.>",) if publish else ()
    return Permissions(publish=publish, subscribe=(*hear, *inbox), answers=answers)


def _allowed(user: User) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """What it may say, what it may hear besides its own inbox, and whether it may answer that."""
    match user:
        case User(Role.ORCHESTRATOR):
            say = (subjects.ANY_WAKE, subjects.ROUTES_WAKE, subjects.ANY_LOGS)
            asked = (subjects.ANY_DOCUMENT, subjects.ANY_REPORT, subjects.ANY_BLOB)
            return say, (*asked, subjects.ROUTES, subjects.JOIN), True
        case User(Role.GATEWAY):
            return (subjects.ROUTES, subjects.ANY_CALL), (subjects.ROUTES_WAKE,), False
        case User(Role.HOST, str(name)):
            say = (subjects.document(name), subjects.report(name), subjects.blob(name))
            return say, (subjects.wake(name), subjects.logs(name)), True
        case User(Role.EDGE, str(name)):
            return (), (subjects.call(name),), True
        case User(Role.JOINER):
            return (subjects.JOIN,), (), False
        case User(Role.SYSTEM):
            return (subjects.SERVER_PING, subjects.ANY_SERVER_RELOAD), (), False
    raise AssertionError(f"no rule for {user}")


def may_publish(user: User, subject: str) -> bool:
    """Return whether `user` may say something on `subject`, answers aside."""
    return any(subjects.matches(one, subject) for one in permissions(user).publish)


def may_subscribe(user: User, pattern: str) -> bool:
    """Return whether `user` may hear everything on `pattern`."""
    return any(subjects.matches(one, pattern) for one in permissions(user).subscribe)


def may_answer(subject: str, reply: str) -> bool:
    """Return whether a request on `subject` may be answered on `reply`.

    It may if `reply` is in the inbox of a user who may ask on `subject`: no answer goes to where
    its asker could not have heard it anyway.
    """
    owner = _owner(reply)
    return owner is not None and may_publish(owner, subject)


def _owner(reply: str) -> User | None:
    role, _, name = (subjects.inbox_owner(reply) or "").partition("_")
    for candidate in Role:
        if candidate == role and (candidate in _OF_A_HOST) == is_name(name):
            return User(candidate, HostId(name) if name else None)
    return None
