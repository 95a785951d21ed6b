"""No change to a chain goes unseen, whatever it says and wherever it is changed."""

from datetime import UTC, datetime
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hivekeeper.core import audit
from hivekeeper.core.audit import Break, Head
from hivekeeper.model.record import AuditEntry, AuditRecord

times = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 (the strategy adds the zone)
    timezones=st.just(UTC),
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
entries = st.builds(
    AuditEntry,
    at=times,
    actor=words,
    action=words,
    target=words,
    request_id=words,
    body=st.binary(max_size=50),
)


@st.composite
def chains(draw: st.DrawFn) -> list[AuditRecord]:
    head, links = audit.START, []
    for entry in draw(st.lists(entries, min_size=1, max_size=6)):
        link = audit.link(head, entry)
        head = Head(number=link.number, hash=link.hash)
        links.append(link)
    return links


@given(entries)
def test_entries_come_back_from_their_bytes(entry: AuditEntry) -> None:
    assert audit.decode(audit.encode(entry)) == entry


@given(entries, entries)
def test_equal_entries_and_only_they_have_equal_bytes(one: AuditEntry, two: AuditEntry) -> None:
    assert (audit.encode(one) == audit.encode(two)) == (one == two)


@given(chains())
def test_what_was_linked_verifies(links: list[AuditRecord]) -> None:
    assert audit.verify(links) == Head(number=len(links), hash=links[-1].hash)


@given(chains(), st.data())
def test_a_changed_bit_in_any_part_of_any_link_shows(
    links: list[AuditRecord], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(links) - 1))
    part = data.draw(st.sampled_from(["number", "previous", "hash", "entry"]))
    links[at] = _with_a_bit_changed(links[at], part, data)
    found = audit.verify(links)
    assert isinstance(found, Break)
    assert found.number == at + 1


@given(chains(), st.randoms())
def test_another_order_of_links_shows(links: list[AuditRecord], chance: Random) -> None:
    other = links.copy()
    chance.shuffle(other)
    assert isinstance(audit.verify(other), Break) == (other != links)


@given(chains(), st.data())
def test_a_link_left_out_shows_but_the_last(links: list[AuditRecord], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(links) - 1))
    kept = Head(number=len(links), hash=links[-1].hash)
    found = audit.verify(links[:at] + links[at + 1 :], kept=kept)
    if at == len(links) - 1:
        assert isinstance(found, Head)
        assert found.number < kept.number
    else:
        assert found == Break(number=at + 1, because=f"link {at + 2} follows link {at}")


def _with_a_bit_changed(link: AuditRecord, part: str, data: st.DataObject) -> AuditRecord:
    value = getattr(link, part)
    if isinstance(value, int):
        return msgspec.structs.replace(link, number=value ^ (1 << data.draw(st.integers(0, 20))))
    text = value if isinstance(value, bytes) else value.encode()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + bytes([text[at] ^ (1 << data.draw(st.integers(0, 6)))]) + text[at + 1 :]
    return msgspec.structs.replace(
        link, **{part: changed if isinstance(value, bytes) else changed.decode()}
    )
