"""Globs of functions allow what they say, and nothing else."""

import time

import pytest

from hivekeeper.gateway.functions import Functions


@pytest.mark.parametrize(
    ("globs", "zome", "fn"),
    [
        (["notes/echo"], "notes", "echo"),
        (["notes/*"], "notes", "echo"),
        (["notes/*"], "notes", ""),
        (["*/*"], "any", "thing"),
        (["a/b", "*/get_*"], "x", "get_y"),
        (["notes/get_?"], "notes", "get_1"),
        (["*s/l*_n*s"], "notes", "list_notes"),
        (["notes/[a]"], "notes", "[a]"),
        (["notes/{a,b}"], "notes", "{a,b}"),
        (["notes/*"], "notes", "two\nlines"),
        (["notes/*"], "notes", "a/b"),
    ],
)
def test_what_is_allowed(globs: list[str], zome: str, fn: str) -> None:
    assert Functions(globs).allow(zome, fn)


@pytest.mark.parametrize(
    ("globs", "zome", "fn"),
    [
        ([], "notes", "echo"),
        (["notes/echo"], "notes", "echo2"),
        (["notes/echo"], "notes", "an echo"),
        (["notes/echo"], "Notes", "echo"),
        (["notes/echo"], "notes", "Echo"),
        (["notes/echo"], "notes\n", "echo"),
        (["notes/echo"], "notes", "echo\n"),
        (["notes/*"], "notes/x", "echo"),
        (["notes/*"], "other", "echo"),
        (["notes/get_?"], "notes", "get_"),
        (["notes/get_?"], "notes", "get_12"),
        (["notes/[ab]"], "notes", "a"),
        (["notes/[!a]"], "notes", "b"),
        (["notes/.*"], "notes", "echo"),
        (["notes"], "notes", "echo"),
        (["notes"], "notes", "notes"),
    ],
)
def test_what_is_not(globs: list[str], zome: str, fn: str) -> None:
    assert not Functions(globs).allow(zome, fn)


def test_no_globs_are_false() -> None:
    assert not Functions([])
    assert Functions(["a/b"])


def test_the_worst_glob_does_not_keep_everybody_waiting() -> None:
    before_s = time.process_time()
    assert not Functions(["a/" + "*a" * 40 + "*b"]).allow("a", "a" * 100)
    assert time.process_time() - before_s < 0.5
