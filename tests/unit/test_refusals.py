"""An error on its way over the hub: it arrives as it was sent."""

import pytest

from hivekeeper.model import limits
from hivekeeper.model.errors import (
    ConflictError,
    HiveError,
    NotFoundError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.wire import messages
from hivekeeper.wire.messages import Refusal


def test_every_error_of_the_tree_has_its_own_kind() -> None:
    forms = [UserError, NotFoundError, ConflictError, PermissionRefusedError]
    kinds = [messages.refusal(form("x")).kind for form in [*forms, TransientError, PermanentError]]
    assert len(set(kinds)) == len(kinds)


def test_a_special_error_is_sent_as_the_nearest_that_both_sides_know() -> None:
    class OddConflictError(ConflictError):
        pass

    assert messages.refusal(OddConflictError("x")).kind == "conflict"
    assert messages.refusal(HiveError("x")).kind == "permanent"


def test_an_endless_text_is_cut() -> None:
    error = UserError("x" * limits.MESSAGE_BYTES, hint="y" * limits.MESSAGE_BYTES)
    assert len(messages.encode(messages.refusal(error))) < limits.MESSAGE_BYTES


def test_a_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="cannot read a Refusal"):
        messages.decode(b'{"v":1,"kind":"odd","message":"x"}', Refusal)
