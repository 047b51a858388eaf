"""What the README shows is what the program has. `python tests/test_readme.py` writes the table of keys."""

from __future__ import annotations

import re
from pathlib import Path

from cachetui.cli import VERBS
from cachetui.tui.commands import readme_table

README = Path(__file__).parents[1] / "README.md"
KEYS = re.compile(r"(<!-- keys -->\n).*?(<!-- /keys -->)", re.DOTALL)


def with_keys(text: str) -> str:
    """The README with the table of keys that the commands give."""
    return KEYS.sub(lambda m: m[1] + readme_table() + m[2], text)


def test_the_table_of_keys_is_the_commands() -> None:
    text = README.read_text()
    assert with_keys(text) == text
    assert "| `u` |" in text


def test_every_verb_it_names_exists() -> None:
    for verb in re.findall(r"^cachetui ([a-z-]+)", README.read_text(), re.MULTILINE):
        assert verb in VERBS


def test_every_picture_exists() -> None:
    pictures = re.findall(r"\]\((screenshots/[^)]+)\)", README.read_text())
    assert len(pictures) >= 5
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 10_000


if __name__ == "__main__":
    README.write_text(with_keys(README.read_text()))
