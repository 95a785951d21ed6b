"""Messages come through whole, and garbage comes through as a refusal and nothing else."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hivekeeper.model.allocation import Phase, Report
from hivekeeper.model.errors import UserError
from hivekeeper.wire import messages
from hivekeeper.wire.messages import (
    BlobReply,
    BlobRequest,
    DocumentReply,
    DocumentRequest,
    JoinReply,
    JoinRequest,
    LogReply,
    LogRequest,
    Refusal,
    ReportMessage,
    ReportReply,
    RoutesReply,
)

FORMS: list[type[msgspec.Struct]] = [
    BlobReply,
    BlobRequest,
    DocumentReply,
    DocumentRequest,
    JoinReply,
    JoinRequest,
    LogReply,
    LogRequest,
    Refusal,
    ReportMessage,
    ReportReply,
    RoutesReply,
]
FIELDS = sorted({field.name for form in FORMS for field in msgspec.structs.fields(form)})

forms = st.sampled_from(FORMS)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**63 - 1)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
times = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 (the strategy adds the zone)
    timezones=st.just(UTC),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
plain = st.recursive(
    st.none() | st.booleans() | counts | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
reports = st.builds(
    Report,
    workload=names,
    generation=counts,
    revision=counts,
    ready_revision=st.none() | counts,
    phase=st.sampled_from(Phase),
    since=times,
    pid=st.none() | counts,
    restarts=counts,
    ports=st.dictionaries(texts, st.integers(1, 65_535), max_size=3),
    error=texts,
    retry_at=st.none() | times,
    facts=st.dictionaries(texts, plain, max_size=3),
)
whole = st.one_of(
    st.builds(ReportMessage, number=counts, reports=st.lists(reports, max_size=3).map(tuple)),
    st.builds(BlobReply, size=counts, data=st.binary(max_size=100)),
    st.builds(DocumentRequest, cluster=texts, epoch=counts, since=counts),
    st.builds(LogRequest, workload=names, run=st.none() | counts, offset=st.none() | counts),
)


def read(data: bytes, form: type[msgspec.Struct]) -> msgspec.Struct | None:
    """Return the message in `data`, or None if it is refused."""
    try:
        return messages.decode(data, form)
    except UserError as refused:
        assert str(refused).startswith(f"cannot read a {form.__name__}")  # noqa: PT017
        return None


@given(whole)
def test_a_message_is_read_as_it_was_written(message: msgspec.Struct) -> None:
    data = messages.encode(message)
    assert messages.decode(data, type(message)) == message


@given(st.binary(max_size=300) | texts.map(str.encode), forms)
def test_garbage_is_refused(data: bytes, form: type[msgspec.Struct]) -> None:
    read(data, form)


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=8), forms)
def test_the_right_words_with_wrong_values_are_refused_or_can_be_written_again(
    said: dict[str, Any], form: type[msgspec.Struct]
) -> None:
    message = read(json.dumps(said).encode(), form)
    if message is not None:
        assert messages.decode(messages.encode(message), form) == message


@given(whole, st.data())
def test_a_changed_byte_makes_another_message_or_none(
    message: msgspec.Struct, data: st.DataObject
) -> None:
    changed = bytearray(messages.encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    found = read(bytes(changed), type(message))
    if found is not None:
        assert messages.decode(messages.encode(found), type(message)) == found
