"""What the audit chain shows, and to whom."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from hivekeeper.core import audit
from hivekeeper.core.audit import Break, Head
from hivekeeper.model.errors import PermanentError
from hivekeeper.model.record import AuditEntry, AuditRecord

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=NOON + timedelta(seconds=number),
        actor="admin",
        action="apply",
        target="notes",
        request_id=f"r{number}",
        body=bytes([number]),
    )


def chain(count: int) -> list[AuditRecord]:
    links: list[AuditRecord] = []
    head = audit.START
    for number in range(count):
        links.append(audit.link(head, entry(number)))
        head = Head(number=links[-1].number, hash=links[-1].hash)
    return links


def head_of(links: list[AuditRecord]) -> Head:
    return Head(number=links[-1].number, hash=links[-1].hash)


def test_a_whole_chain_verifies_to_its_last_link() -> None:
    links = chain(5)
    assert audit.verify(links) == head_of(links)


def test_no_links_are_a_chain() -> None:
    assert audit.verify([]) == audit.START


def test_an_entry_is_the_same_bytes_today_and_in_ten_years() -> None:
    """Stored chains depend on it: this text never changes."""
    assert audit.encode(entry(1)) == (
        b'{"at":"2026-01-01T12:00:01Z","actor":"admin","action":"apply","target":"notes",'
        b'"request_id":"r1","body":"AQ=="}'
    )
    assert chain(2)[1].hash == ("21bc071025cf985cdf03c0f11236083c9d78427c6d4e460fd0fcded0b36748dc")


def test_an_entry_comes_back_from_its_bytes() -> None:
    assert audit.decode(audit.encode(entry(7))) == entry(7)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'{"actor":"\xff"}', b"[" * 100_000, b'{"at":1}']
)
def test_bytes_that_are_no_entry_are_an_error(data: bytes) -> None:
    with pytest.raises(PermanentError, match="cannot read an audit entry"):
        audit.decode(data)


def test_times_of_other_zones_are_a_bug() -> None:
    east = timezone(timedelta(hours=1))
    with pytest.raises(AssertionError, match="UTC"):
        audit.encode(msgspec.structs.replace(entry(1), at=NOON.astimezone(east)))


def test_every_changed_bit_of_an_entry_shows() -> None:
    links = chain(3)
    for at in range(len(links[1].entry)):
        changed = bytearray(links[1].entry)
        changed[at] ^= 1
        forged = msgspec.structs.replace(links[1], entry=bytes(changed))
        assert audit.verify([links[0], forged, links[2]]) == Break(
            number=2, because="its hash is not that of its content"
        )


def test_a_changed_entry_with_a_hash_to_match_shows_at_the_next_link() -> None:
    links = chain(3)
    forged = audit.link(head_of(links[:1]), entry(99))
    found = audit.verify([links[0], forged, links[2]])
    assert found == Break(number=3, because="it does not follow from the link before it")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_dropped_link_shows(number: int) -> None:
    links = chain(4)
    del links[number - 1]
    found = audit.verify(links)
    assert found == Break(number=number, because=f"link {number + 1} follows link {number - 1}")


def test_a_dropped_link_shows_even_if_the_rest_is_numbered_anew() -> None:
    links = chain(4)
    rest = [msgspec.structs.replace(link, number=link.number - 1) for link in links[2:]]
    assert isinstance(audit.verify([links[0], *rest]), Break)


def test_swapped_links_show() -> None:
    one, two, three = chain(3)
    for order in ([two, one, three], [one, three, two]):
        assert isinstance(audit.verify(order), Break)
    renumbered = [
        one,
        msgspec.structs.replace(three, number=2),
        msgspec.structs.replace(two, number=3),
    ]
    assert isinstance(audit.verify(renumbered), Break)


def test_links_cut_off_show_to_whoever_kept_the_head() -> None:
    links = chain(5)
    kept = head_of(links)
    found = audit.verify(links[:4], kept=kept)
    assert isinstance(found, Head)
    assert found.number < kept.number


def test_a_chain_written_anew_shows_to_whoever_kept_a_head() -> None:
    """It verifies by itself: only who kept a head of the first one can tell."""
    kept = head_of(chain(3))
    head, forged = audit.START, []
    for number in range(5):
        forged.append(audit.link(head, entry(number + 50)))
        head = head_of(forged)
    assert audit.verify(forged) == head
    found = audit.verify(forged, kept=kept)
    assert isinstance(found, Break)
    assert found.number == 3
    assert kept.hash in found.because


def test_a_kept_head_that_the_chain_went_through_is_no_break() -> None:
    links = chain(5)
    assert audit.verify(links, kept=head_of(links[:3])) == head_of(links)


def test_a_long_chain_verifies_page_by_page() -> None:
    links = chain(10)
    head: Head | Break = audit.START
    for page in (links[:4], links[4:8], links[8:]):
        assert isinstance(head, Head)
        head = audit.verify(page, after=head)
    assert head == head_of(links)
    assert isinstance(audit.verify(links[5:], after=head_of(links[:4])), Break)
