"""What the documentation says is so: generated pages are fresh, commands and links in it exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hivekeeper.cli.main import root

TOP = Path(__file__).parents[1]
PAGES = sorted(
    [
        *TOP.glob("*.md"),
        *TOP.glob("docs/**/*.md"),
        *TOP.glob("examples/**/*.md"),
        *TOP.glob("bench/*.md"),
    ]
)


def test_generated_pages_are_as_they_would_be_made_now() -> None:
    done = subprocess.run(
        [sys.executable, TOP / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_and_commands_of_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"`[^`\n]*`", "", text)):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    words = re.findall(r"^(?:\./dev )?hive ([a-z]+)", text, flags=re.MULTILINE)
    unknown = set(words) - set(root.list_commands(None))  # type: ignore[arg-type]
    assert not unknown, unknown
