"""Patterns of subjects, and who a subject says it is from."""

import pytest

from hivekeeper.model.errors import UserError
from hivekeeper.model.ids import HostId
from hivekeeper.wire import subjects


@pytest.mark.parametrize(
    ("pattern", "subject", "is_in"),
    [
        ("a.*", "a.>", False),
        ("a.>", "a.*", True),
        ("a.>", ">", False),
        (">", ">", True),
        ("*", ">", False),
        ("a.>", "a", False),
        ("a.*", "*.a", False),
        ("a", "*", False),
    ],
)
def test_patterns_within_patterns(pattern: str, subject: str, *, is_in: bool) -> None:
    assert subjects.matches(pattern, subject) is is_in


def test_who_speaks_is_read_from_the_subject() -> None:
    assert subjects.sender(subjects.report(HostId("alpha"))) == "alpha"


@pytest.mark.parametrize(
    "subject", ["", "hive.join", "hive.host.alpha", "hive.host.A.report", "hive.host.a.b.c", "x"]
)
def test_a_subject_that_is_nobodys_is_refused(subject: str) -> None:
    with pytest.raises(UserError, match="cannot tell who speaks"):
        subjects.sender(subject)


@pytest.mark.parametrize(
    ("subject", "owner"),
    [
        ("_INBOX_host_alpha.x", "host_alpha"),
        ("_INBOX_gateway.x.y", "gateway"),
        ("_INBOX_gateway", None),
        ("_INBOX.gateway.x", None),
        ("hive.x", None),
        ("", None),
    ],
)
def test_whose_inbox_a_subject_is_in(subject: str, owner: str | None) -> None:
    assert subjects.inbox_owner(subject) == owner
