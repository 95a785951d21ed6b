"""Hashes are those that Holochain computes, and text that is none is refused."""

import pytest

from hivekeeper.holochain import hashes
from hivekeeper.model.errors import UserError

PUBLISHED = "uhC0kAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF-z86-"
FIXTURE = [
    ("zome1", hashes.wasm_hash(b"This is a totally fake wasm\n")),
    ("zome2", hashes.wasm_hash(b"So is this\n")),
]


def test_the_published_hash_is_ours_both_ways() -> None:
    dna = hashes.DNA.of(b"\x01" * 32)
    assert hashes.text(dna) == PUBLISHED
    assert hashes.DNA.parse(PUBLISHED) == dna


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0.5", "uhC0kJA4rjFsKZ2vYFafDNV1otPe16wsjlePUwudzUd4DJdpl1lBj"),
        ("0.6", "uhC0klF08DnZkYBN3YiE7knVHdl5eK-9f7m9Co1ICK7Xwgaxct8h5"),
        ("0.7", "uhC0kMpN6EzEhjaPP-MWeJi1cH2Zyw7OYEDEekSnjWE85WgCnIvEG"),
    ],
)
def test_a_fixture_of_holochain_has_its_hash_on_each_line(line: str, expected: str) -> None:
    seed = "00000000-0000-0000-0000-000000000000"
    dna = hashes.dna_hash(line, FIXTURE, network_seed=seed, properties=None)
    assert hashes.text(dna) == expected


@pytest.mark.parametrize(
    ("line", "wasm", "expected"),
    [
        (
            "0.4",
            "3d06a5fda31955b25cc0a64f210c2742b7dd62e97c9594548696992d9886d784",
            "uhC0ktLtty3bcJFX52pSEC4BQ-2ziMqHjx4wHR_a-J74ib5RmsbYl",
        ),
        (
            "0.5",
            "0be1cdd99f777d62311bf43c53f5f34e15bf870e0e8ac82228ff2e3426155654",
            "uhC0kl6Hon0H71h7EC7fb0h7XFBHKCx-3eoQIG5yvYU0CM9aBmRgQ",
        ),
        (
            "0.6",
            "821dc601a6aa2ff65eb66a22fd0d28b61fb70aca0c949d31f9fcc0e52ab22dd9",
            "uhC0kpfKOuakwShYDw2tag3_zMgx6UbNaJUuabWX7hr757EO26R0h",
        ),
        (
            "0.7",
            "e4fd83bb9ce876d995aff6ba3479299456ba7cce934bf60a9a057f6b77ab63e7",
            "uhC0kzEBnuzQdn0uZbr5ajK6ykiUvoaJozMVvPjwrlUjmlI5LNtfU",
        ),
    ],
)
def test_a_conductor_of_each_line_reported_the_hash_that_we_compute(
    line: str, wasm: str, expected: str
) -> None:
    zomes = [("ledger_integrity", hashes.WASM.of(bytes.fromhex(wasm)))]
    origin = 1700000000000000
    dna = hashes.dna_hash(
        line, zomes, network_seed="s-1", properties={"fee": 3}, origin_time=origin
    )
    assert hashes.text(dna) == expected


def test_a_line_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match=r"line 0\.9"):
        hashes.dna_hash("0.9", [], network_seed="", properties=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLISHED[:-1],
        PUBLISHED + "A",
        PUBLISHED[:-1] + "A",
        PUBLISHED.replace("u", "v", 1),
        PUBLISHED.replace("-z", "+z"),
        PUBLISHED + "\n",
        hashes.text(hashes.AGENT.of(b"\x01" * 32)),
        "uhC0k" + "ä" * 48,
    ],
)
def test_text_that_is_no_dna_hash_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="DNA hash"):
        hashes.DNA.parse(text)


def test_bytes_of_another_type_or_place_are_refused() -> None:
    agent = hashes.AGENT.of(b"\x02" * 32)
    assert hashes.AGENT.check(agent) == agent
    for raw in [agent[:-1], agent[:-1] + b"\x00", hashes.DNA.of(b"\x02" * 32), b""]:
        with pytest.raises(UserError):
            hashes.AGENT.check(raw)
