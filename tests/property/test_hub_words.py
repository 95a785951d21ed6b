"""What the words of the hub promise, for all names, patterns, errors and garbage."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivekeeper.model import ids
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import HostId
from hivekeeper.wire import authority, invitations, messages, subjects
from hivekeeper.wire.authority import GATEWAY, JOINER, ORCHESTRATOR, SYSTEM, User
from hivekeeper.wire.messages import Refusal

EVERY_SUBJECT = [
    subjects.wake,
    subjects.document,
    subjects.report,
    subjects.blob,
    subjects.logs,
    subjects.call,
]

names = st.from_regex(ids.NAME_PATTERN, fullmatch=True).map(HostId)
users = st.one_of(
    st.sampled_from([ORCHESTRATOR, GATEWAY, JOINER, SYSTEM]),
    st.builds(authority.host, names),
    st.builds(authority.edge, names),
)


@given(st.lists(users, unique=True, min_size=2, max_size=5))
def test_no_two_users_share_a_name_or_an_inbox(some: list[User]) -> None:
    for one, other in itertools.permutations(some, 2):
        assert one.name != other.name
        assert not authority.may_subscribe(one, f"{other.inbox}.x")


@given(names, names)
def test_no_host_speaks_for_another(one: HostId, other: HostId) -> None:
    for make in EVERY_SUBJECT:
        for user in (authority.host(one), authority.edge(one)):
            allowed = authority.may_publish(user, make(other))
            heard = authority.may_subscribe(user, make(other))
            assert one == other or not (allowed or heard)


words = st.sampled_from(["a", "b", "host"])
concrete = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.builds(
    lambda body, tail: ".".join([*body, *tail]),
    st.lists(words | st.just("*"), min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
)


def as_expression(pattern: str) -> str:
    return "[.]".join({"*": "[^.]+", ">": ".+"}.get(word, word) for word in pattern.split("."))


@given(patterns, concrete)
def test_a_pattern_matches_as_its_regular_expression_does(pattern: str, subject: str) -> None:
    expected = re.fullmatch(as_expression(pattern), subject) is not None
    assert subjects.matches(pattern, subject) == expected


@given(patterns, patterns, concrete)
def test_a_pattern_within_another_matches_nothing_that_the_other_does_not(
    wide: str, narrow: str, subject: str
) -> None:
    if subjects.matches(wide, narrow) and subjects.matches(narrow, subject):
        assert subjects.matches(wide, subject)


errors = st.one_of(
    *(
        st.builds(form, st.text(), hint=st.text(), field=st.text())
        for form in (UserError, NotFoundError, ConflictError, PermissionRefusedError)
    ),
    st.builds(TransientError, st.text(), retry_after_s=st.floats(0, 1e6)),
    st.builds(PermanentError, st.text(), hint=st.text()),
)


@given(errors)
def test_an_error_arrives_as_it_was_sent(error: HiveError) -> None:
    sent = messages.encode(messages.refusal(error))
    again = messages.refused(messages.decode(sent, Refusal))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@given(st.text() | st.binary().map(lambda raw: invitations.PREFIX + raw.decode("latin-1")))
def test_garbage_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError) as caught:
        invitations.decode(text)
    assert str(caught.value).startswith("cannot read the invitation: ")
