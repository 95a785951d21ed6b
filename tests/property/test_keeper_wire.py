"""The keeper's decoders, on what nobody meant them to read."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from hivekeeper.model.errors import UserError
from hivekeeper.supervisor import identity
from hivekeeper.wire import keeper as wire

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(data=st.binary(max_size=200))
def test_garbage_is_refused_and_never_more(data: bytes) -> None:
    for read in (wire.read_hello, wire.read_request, wire.read_reply):
        with contextlib.suppress(UserError):
            read(data)


@given(
    kind=st.sampled_from(["hold", "restart", "release", "list", "changes", "shutdown"]), rest=json
)
def test_a_request_with_anything_in_it_is_read_or_refused(kind: str, rest: object) -> None:
    fields = rest if isinstance(rest, dict) else {"program": rest, "spec": rest, "last": rest}
    message = wire._encoder.encode(fields | {"type": kind})
    with contextlib.suppress(UserError):
        wire.read_request(message)


@given(data=st.binary(max_size=200))
def test_a_pid_file_of_anything_names_somebody_or_nobody(data: bytes) -> None:
    identity._parse(data)
