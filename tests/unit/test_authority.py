"""Who may say and hear what: the whole table, and that nobody reaches into what is another's."""

import itertools

import pytest

from hivekeeper.model.ids import HostId
from hivekeeper.wire import authority
from hivekeeper.wire.authority import GATEWAY, JOINER, ORCHESTRATOR, SYSTEM, Role, User

ALPHA, BETA = HostId("alpha"), HostId("beta")
HOST, EDGE = authority.host(ALPHA), authority.edge(ALPHA)
USERS = [ORCHESTRATOR, GATEWAY, JOINER, SYSTEM, HOST, EDGE]
PAIRS = list(itertools.permutations([*USERS, authority.host(BETA)], 2))

TABLE = """
                        orchestrator  gateway  joiner  host_alpha  edge_alpha
    hive.join           hears         .        says    .           .
    hive.routes.get     hears         says     .       .           .
    hive.routes.wake    says          hears    .       .           .
    hive.host.alpha.wake      says    .        .       hears       .
    hive.host.alpha.document  hears   .        .       says        .
    hive.host.alpha.report    hears   .        .       says        .
    hive.host.alpha.blob      hears   .        .       says        .
    hive.host.alpha.logs      says    .        .       hears       .
    hive.host.alpha.call      .       says     .       .           hears
    hive.host.beta.wake       says    .        .       .           .
    hive.host.beta.document   hears   .        .       .           .
    hive.host.beta.call       .       says     .       .           .
    hive.else           .             .        .       .           .
    $SYS.REQ.SERVER.PING      .       .        .       .           .
"""


def read(table: str) -> dict[tuple[str, str], str]:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return {
        (subject, user): word
        for subject, *words in rows
        for user, word in zip(head, words, strict=True)
    }


@pytest.mark.parametrize(("where", "word"), read(TABLE).items())
def test_who_says_and_who_hears_each_subject(where: tuple[str, str], word: str) -> None:
    subject, name = where
    user = next(each for each in USERS if each.name == name)
    assert authority.may_publish(user, subject) == (word == "says")
    assert authority.may_subscribe(user, subject) == (word == "hears")


def test_whatever_is_said_to_be_answered_has_somebody_who_may_answer_it() -> None:
    answering = {each for each in USERS if authority.permissions(each).answers}
    assert answering == {ORCHESTRATOR, HOST, EDGE}


def test_the_system_user_may_make_the_server_reload_and_nothing_else() -> None:
    said = ("$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.*.RELOAD")
    assert authority.permissions(SYSTEM).publish == said
    assert authority.permissions(SYSTEM).subscribe == ("_INBOX_system.>",)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_inbox_is_open_to_anybody_else(one: User, other: User) -> None:
    for pattern in (f"{other.inbox}.>", f"{other.inbox}.x.y", f"{other.inbox}.*"):
        assert not authority.may_subscribe(one, pattern)
        assert not authority.may_publish(one, pattern)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_a_word_to_an_inbox_needs_a_request_first(user: User) -> None:
    assert not authority.may_publish(user, f"{user.inbox}.x")


@pytest.mark.parametrize(
    ("subject", "reply", "may"),
    [
        ("hive.host.alpha.document", "_INBOX_host_alpha.x", True),
        ("hive.host.alpha.document", "_INBOX_host_beta.x", False),
        ("hive.host.alpha.document", "_INBOX_edge_alpha.x", False),
        ("hive.host.alpha.document", "_INBOX_host_alpha", False),
        ("hive.host.alpha.document", "_INBOX_host_.x", False),
        ("hive.host.alpha.document", "_INBOX_host.x", False),
        ("hive.host.alpha.document", "_INBOX_.x", False),
        ("hive.host.alpha.document", "hive.host.beta.wake", False),
        ("hive.host.alpha.document", "hive.host.alpha.report", False),
        ("hive.host.alpha.document", "", False),
        ("hive.host.alpha.logs", "_INBOX_orchestrator.x", True),
        ("hive.host.alpha.logs", "_INBOX_orchestrator_alpha.x", False),
        ("hive.host.alpha.logs", "_INBOX_gateway.x", False),
        ("hive.host.alpha.call", "_INBOX_gateway.x", True),
        ("hive.join", "_INBOX_joiner.x", True),
        ("hive.join", "_INBOX_host_alpha.x", False),
        ("hive.routes.get", "_INBOX_gateway.x", True),
        ("hive.else", "_INBOX_orchestrator.x", False),
    ],
)
def test_an_answer_goes_to_the_inbox_of_somebody_who_may_ask(
    subject: str, reply: str, *, may: bool
) -> None:
    assert authority.may_answer(subject, reply) is may


@pytest.mark.parametrize("role", Role)
def test_hosts_and_edges_have_a_host_and_others_have_none(role: Role) -> None:
    host = None if role in {Role.HOST, Role.EDGE} else ALPHA
    with pytest.raises(AssertionError, match="have a host"):
        User(role, host)
