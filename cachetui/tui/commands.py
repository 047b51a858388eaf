"""Every command is one class; keys, palette, help, footer and the README's table all come from it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen

MOVING, LOOKING, CHOOSING, ACTING, PROGRAM = "Moving", "Looking", "Choosing", "Acting", "Program"

_KEY_NAMES = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "slash": "/", "question_mark": "?", "asterisk": "*",
    "minus": "-", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End", "enter": "Enter",
    "space": "Space", "delete": "Del", "shift+delete": "Shift+Del", "escape": "Esc", "tab": "Tab", "f5": "F5",
}  # fmt: skip


def key_name(key: str) -> str:
    """A key as people write it."""
    return _KEY_NAMES.get(key, "Ctrl+" + key[5:].upper() if key.startswith("ctrl+") else key)


class Command:
    """One thing the main screen can do. `does` names the handler: module and function in tui/handlers."""

    id: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    """As Textual names them; the first is the one that is shown."""
    title: ClassVar[str]
    """In the palette."""
    help: ClassVar[str]
    """One sentence for the help screen and the README."""
    footer: ClassVar[str] = ""
    """Label in the footer; empty where it is not shown there."""
    section: ClassVar[str]
    does: ClassVar[str]
    argument: ClassVar[int | str | None] = None

    @classmethod
    def run(cls, main: MainScreen) -> None:
        """Do it. Handlers are imported when first used: the screen opens sooner."""
        module, _, function = cls.does.partition(":")
        handler = getattr(import_module(f"cachetui.tui.handlers.{module}"), function)
        if cls.argument is None:
            handler(main)
        else:
            handler(main, cls.argument)

    @classmethod
    def key_names(cls) -> str:
        """All its keys, as people write them."""
        return " ".join(key_name(k) for k in cls.keys)


class Delete(Command):
    id, keys, section, does = "delete", ("d", "delete"), ACTING, "delete:ask"
    title, footer = "Delete: move to the trash…", "delete"
    help = "Show what deleting the marked (or selected) would do; then move it to the trash, where undo finds it."


class Archive(Command):
    id, keys, section, does = "archive", ("a",), ACTING, "archive:ask"
    title, footer = "Archive: copy to another drive, leave a link…", "archive"
    help = "Copy the marked (or selected) to another drive, prove the copy, and leave links: programs still load them."


class Download(Command):
    id, keys, section, does = "download", ("D",), ACTING, "pull:ask"
    title, footer = "Download: search, or name a model…", "download"
    help = "Find a model on the Hub (or name one for Ollama), see what would come, get it; go on with a stopped one."


class Prompt(Command):
    id, keys, section, does = "prompt", ("p",), ACTING, "prompt:ask"
    title, footer = "Prompt: ask it something, with a picture…", "prompt"
    help = "Ask the selected model something, about a picture if you like; several marked: test whether each works."


class Mark(Command):
    id, keys, section, does = "mark", ("space",), CHOOSING, "marks:toggle"
    title, footer = "Mark or unmark", "mark"
    help = "Mark the row, or take its mark away, and go on to the next; on a heading everything below it."


class Filter(Command):
    id, keys, section, does = "filter", ("slash",), LOOKING, "filtering:open_filter"
    title, footer = "Filter…", "filter"
    help = "Show only what matches: words, or size>10GB, accessed>6mo, type=model, quant=Q4_K_M, state=partial."


class Sort(Command):
    id, keys, section, does = "sort", ("s",), LOOKING, "view:next_sort"
    title, footer = "Sort by the next column", "sort"
    help = "Sort by size, own size, last used (longest ago first), name, number of files."


class Group(Command):
    id, keys, section, does = "group", ("b",), LOOKING, "view:next_grouping"
    title, footer = "Group by store, kind or family", "group"
    help = "Group by store, by kind, by family."


class Undo(Command):
    id, keys, section, does = "undo", ("u",), ACTING, "undo:undo"
    title, footer = "Undo the newest deletion", "undo"
    help = "Bring the newest deletion back, also after a restart."


class Trash(Command):
    id, keys, section, does = "trash", ("T",), ACTING, "trash:open_trash"
    title, footer = "Trash: restore or empty…", "trash"
    help = "See what lies in the trash; restore it, or empty it and get the space back."


class Details(Command):
    id, keys, section, does = "details", ("i",), LOOKING, "view:toggle_details"
    title, footer = "Show or hide the details", "details"
    help = "Show or hide the details of the selected row; Tab goes there to scroll."


class Memory(Command):
    id, keys, section, does = "memory", ("w",), ACTING, "prompt:open_memory"
    title = "Models in memory…"
    help = "See which models are loaded and what they take; let one go. They go by themselves after a while."


class Quantize(Command):
    id, keys, section, does = "quantize", ("Q",), ACTING, "quantize:ask"
    title = "Quantize once and keep the result…"
    help = "Quantize the selected model to 4 or 8 bits once and keep it: from then on it loads in a second."


class Clean(Command):
    id, keys, section, does = "clean", ("C",), ACTING, "clean:ask"
    title = "Clean up quantized models…"
    help = "Move quantized models that are old, damaged or of an older commit to the trash."


class Verify(Command):
    id, keys, section, does = "verify", ("v",), ACTING, "verify:start"
    title, footer = "Verify: compare with the hashes", "verify"
    help = "Read the marked (or selected; on a heading all below) and compare every file with its hash."


class VerifyAll(Command):
    id, keys, section, does, argument = "verify-full", ("V",), ACTING, "verify:start", "full"
    title = "Verify in full: read again what did not change, too"
    help = "The same, but also read again what is unchanged since it was last read: for a drive that is in doubt."


class Jobs(Command):
    id, keys, section, does = "jobs", ("J",), ACTING, "jobs:open_jobs"
    title, footer = "Jobs: what runs and what became of it…", "jobs"
    help = "See what runs, waits and has ended; stop, pause, start again; why something failed, and what to do."


class WhatRuns(Command):
    id, keys, section, does = "what-runs", ("f",), LOOKING, "fits:what_runs"
    title, footer = "What can I run? Every model against a card…", "what fits"
    help = "Every model on disk and in the catalogue against a card: what fits, what for, and what works instead."


class Card(Command):
    id, keys, section, does = "card", ("m",), LOOKING, "fits:choose"
    title = "Memory: compare with another card or context…"
    help = "Choose what memory is compared with: this machine, a card, so many GB; and the tokens of context."


class Palette(Command):
    id, keys, section, does = "palette", ("ctrl+p",), PROGRAM, "program:open_palette"
    title, footer = "Command palette", "commands"
    help = "Every command by name."


class Help(Command):
    id, keys, section, does = "help", ("question_mark", "f1"), PROGRAM, "program:open_help"
    title, footer = "Help: all keys", "help"
    help = "All keys, and what the words and signs mean."


class Quit(Command):
    id, keys, section, does = "quit", ("q", "ctrl+q"), PROGRAM, "program:leave"
    title, footer = "Quit", "quit"
    help = "Leave; asks first while something is being done."


class DeletePermanently(Command):
    id, keys, section, does = "delete-permanently", ("X", "shift+delete"), ACTING, "delete:ask_permanent"
    title = "Delete permanently, without the trash…"
    help = "Without the trash: the space comes back at once, the files never. Asks for the word delete."


class Restore(Command):
    id, keys, section, does = "restore", ("r",), ACTING, "restore:ask"
    title = "Restore: bring back from the archive…"
    help = "Bring the marked (or selected) back from its archive; the copy there goes once it is proven here."


class Adopt(Command):
    id, keys, section, does = "adopt", ("A",), ACTING, "adopt:ask"
    title = "Adopt an archive, or point links to where it is now…"
    help = "For archives made elsewhere or by hand, and drives that moved: set the links, write down what lies there."


class MoveRoot(Command):
    id, keys, section, does = "move-root", ("M",), ACTING, "move_root:ask"
    title = "Move a whole cache to another drive…"
    help = "Move the folder that the row lies in (a hub cache, an Ollama store) to another drive, leaving one link."


class Pin(Command):
    id, keys, section, does = "pin", ("P",), ACTING, "pins:toggle"
    title = "Pin or unpin"
    help = "Protect the marked (or selected) from every deletion of many things at once, or take that away."


class Updates(Command):
    id, keys, section, does = "updates", ("N",), ACTING, "updates:check"
    title = "Check for newer revisions on the Hub"
    help = "Ask the Hub which repos (the marked, else all) have a newer main; D updates one, the old revision stays."


class CopyPath(Command):
    id, keys, section, does = "copy-path", ("y",), ACTING, "places:copy_path"
    title = "Copy the path"
    help = "Copy the path of the row to the clipboard, quoted for a shell where it needs it."


class OpenFolder(Command):
    id, keys, section, does = "open-folder", ("o",), ACTING, "places:open_folder"
    title = "Open the folder"
    help = "Open the folder of the row in the file manager."


class Rescan(Command):
    id, keys, section, does = "rescan", ("R", "f5"), LOOKING, "scanning:rescan"
    title = "Read everything again"
    help = "Read everything on disk again."


class Back(Command):
    id, keys, section, does = "back", ("escape",), LOOKING, "program:back"
    title = "Stop reading, or clear the filter"
    help = "While reading: stop, and keep what was read. Else clear the filter."


class MarkAll(Command):
    id, keys, section, does = "mark-all", ("asterisk", "ctrl+a"), CHOOSING, "marks:mark_all"
    title = "Mark everything that is shown"
    help = "Mark everything that is shown (with a filter: everything that matches), but for copies in archives."


class ClearMarks(Command):
    id, keys, section, does = "clear-marks", ("c",), CHOOSING, "marks:clear"
    title = "Take all marks away"
    help = "Take all marks away."


class Reverse(Command):
    id, keys, section, does = "reverse", ("S",), LOOKING, "view:reverse"
    title = "Reverse the order"
    help = "Turn the order around."


class Fold(Command):
    id, keys, section, does = "fold", ("z",), LOOKING, "view:fold"
    title = "Close everything that is open"
    help = "Close all items; once more: open them to their revisions."


class Theme(Command):
    id, keys, section, does = "theme", ("t",), PROGRAM, "program:choose_theme"
    title = "Theme…"
    help = "Choose the colours; cachetui-clear is safe for colour-blind eyes."


class Up(Command):
    id, keys, section, does, argument = "up", ("k", "up"), MOVING, "moving:by", -1
    title = "Up"
    help = "One row up."


class Down(Command):
    id, keys, section, does, argument = "down", ("j", "down"), MOVING, "moving:by", 1
    title = "Down"
    help = "One row down."


class Open(Command):
    id, keys, section, does = "open", ("l", "right"), MOVING, "moving:open_row"
    title = "Open the row, or go into it"
    help = "Open the row; on an open row go to its first child."


class Close(Command):
    id, keys, section, does = "close", ("h", "left"), MOVING, "moving:close_row"
    title = "Close the row, or go to its parent"
    help = "Close the row; on a closed row go to its parent."


class Toggle(Command):
    id, keys, section, does = "toggle", ("enter",), MOVING, "moving:toggle_row"
    title = "Open or close the row"
    help = "Open or close the row (a double click does the same): revisions, then files."


class Top(Command):
    id, keys, section, does = "top", ("g", "home"), MOVING, "moving:to_top"
    title = "First row"
    help = "To the first row."


class Bottom(Command):
    id, keys, section, does = "bottom", ("G", "end"), MOVING, "moving:to_bottom"
    title = "Last row"
    help = "To the last row."


class HalfDown(Command):
    id, keys, section, does, argument = "half-down", ("ctrl+d", "pagedown"), MOVING, "moving:by_page", 1
    title = "Half a page down"
    help = "Half a page down."


class HalfUp(Command):
    id, keys, section, does, argument = "half-up", ("ctrl+u", "pageup"), MOVING, "moving:by_page", -1
    title = "Half a page up"
    help = "Half a page up."


def all_commands() -> tuple[type[Command], ...]:
    """Every command, in the order they are written down."""
    return tuple(Command.__subclasses__())


def command_named(id_: str) -> type[Command]:
    """The command of that id. Raises KeyError."""
    return _BY_ID[id_]


_BY_ID = {c.id: c for c in all_commands()}


def bindings() -> list[Binding]:
    """For the main screen; `id` lets a keymap change them."""
    return [
        Binding(",".join(c.keys), f"command('{c.id}')", c.title, show=False, id=c.id, tooltip=c.help)
        for c in all_commands()
    ]


def footer_keys() -> list[tuple[str, str, str]]:
    """(command, key, label) of the footer, most needed first."""
    return [(c.id, key_name(c.keys[0]), c.footer) for c in all_commands() if c.footer]


def sections() -> Iterator[tuple[str, list[type[Command]]]]:
    """The commands by section, for the help screen."""
    for section in (ACTING, CHOOSING, LOOKING, MOVING, PROGRAM):
        yield section, [c for c in all_commands() if c.section == section]


def readme_table() -> str:
    """The README's table of keys, in Markdown."""
    rows = ["| Keys | |", "|---|---|"]
    for _, commands in sections():
        for c in commands:
            keys = " ".join(f"`{key_name(k)}`" for k in c.keys).replace("|", "\\|")
            rows.append(f"| {keys} | {c.help} |")
    return "\n".join(rows) + "\n"
