"""One command, one class: nothing about a key is written down twice."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import cachetui.tui
from cachetui.tui.commands import Command, all_commands, bindings, footer_keys, readme_table

_PARSING = ("Static", "HelpText", "OptionList", "Label")
"""Widgets that read markup unless told not to."""


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: c.id)
def test_a_command_is_complete(command: type[Command]) -> None:
    module, _, function = command.does.partition(":")
    assert callable(getattr(import_module(f"cachetui.tui.handlers.{module}"), function))
    assert command.title and command.help.endswith(".") and command.keys


def test_no_key_means_two_things() -> None:
    keys = [k for c in all_commands() for k in c.keys]
    assert len(keys) == len(set(keys))
    assert len({c.id for c in all_commands()}) == len(all_commands())


def test_bindings_footer_and_readme_come_from_the_commands() -> None:
    assert {b.id for b in bindings()} == {c.id for c in all_commands()}
    assert [k[0] for k in footer_keys()] == [c.id for c in all_commands() if c.footer]
    assert all(c.help in readme_table() for c in all_commands())


def test_no_outside_text_is_read_as_markup_and_toasts_have_one_door() -> None:
    folder = Path(cachetui.tui.__file__).parent
    for file in folder.rglob("*.py"):
        text = file.read_text()
        assert "from_markup" not in text and "markup=True" not in text, file
        assert ".notify(" not in text or file.name == "text.py", file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _PARSING:
                assert "markup" in {k.arg for k in node.keywords}, f"{file}:{node.lineno}"
