"""Where a row lies: copy its path, open its folder."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cachetui.text import safe
from cachetui.tui.rows import FILE, GROUP, ITEM, REVISION, ROOT, Row

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def path_of(main: MainScreen, row: Row) -> str | None:
    """Absolute path of what a row stands for; None for a heading of several folders."""
    if row.kind == GROUP:
        return next((p for p in main.shelf.roots if p == row.note), None)
    if row.kind == ROOT:
        return row.key[1]
    root, id_ = row.key[1], row.key[2]
    held = main.shelf.get(root, id_)
    if held is None:
        return None
    item = main.shelf.item((root, id_))
    below = held.path
    if item is not None and row.kind in (REVISION, FILE):
        revision = next((r for r in item.revisions + item.parts if r.commit == row.key[3]), None)
        if revision is not None and row.kind == REVISION and not revision.is_part:
            below = revision.path
        elif revision is not None and row.kind == FILE:
            at = revision.index[revision.names.index(row.key[4])]
            inside = f"{revision.path}/{row.key[4]}".lstrip("/")
            there = os.path.lexists(os.path.join(root, inside))
            below = inside if there or at < 0 else item.content[at].path
    assert row.kind != ITEM or below == held.path
    return os.path.join(root, below) if below else root


def shell_word(path: str) -> str:
    """A path as a shell takes it, with nothing in it that a terminal acts on.

    Where the name is harmless it is quoted as usual; else as $'...' with escapes, which bash, zsh and ksh undo.
    """
    if path.isprintable() and safe(path) == path:
        return shlex.quote(path)
    out = []
    for char in path:
        if char in "\\'":
            out.append("\\" + char)
        elif safe(char) == char and char.isprintable():
            out.append(char)
        else:
            out += [f"\\x{byte:02x}" for byte in os.fsencode(char)]
    return "$'" + "".join(out) + "'"


def copy_path(main: MainScreen) -> None:
    """To the clipboard, through the terminal."""
    row = main.models.row
    path = path_of(main, row) if row is not None else None
    if path is None:
        main.tell("This row has no path of its own. Select one of the rows below it.", severity="warning")
        return
    word = shell_word(path)
    main.app.copy_to_clipboard(word)
    main.tell(f"Copied: {word}")


def open_folder(main: MainScreen) -> None:
    """In the file manager; without a desktop the path is told."""
    row = main.models.row
    path = path_of(main, row) if row is not None else None
    if path is None:
        main.tell("This row has no folder of its own. Select one of the rows below it.", severity="warning")
        return
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    opener = _opener(main)
    if opener is None:
        main.tell(f"No desktop to open it on. It lies in {shell_word(folder)} (y copies the path).")
        return
    try:
        subprocess.Popen(
            [opener, folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError as e:
        main.tell(f"{opener} could not be started: {e.strerror}. It lies in {shell_word(folder)}", severity="error")
        return
    main.tell(f"Opened {shell_word(folder)}")


def _opener(main: MainScreen) -> str | None:
    env = main.cachetui.where.env
    if sys.platform == "darwin":
        return None if env.get("SSH_CONNECTION") else "open"
    if not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
        return None
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        if os.access(candidate := Path(folder) / "xdg-open", os.X_OK):
            return str(candidate)
    return None
