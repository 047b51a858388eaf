"""Where saved states lie: the default folder, and the folders of the user's own that were named for some."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass

from cachetui import paths
from cachetui.config import Where
from cachetui.fs import DISK, Fs
from cachetui.ownfile import OwnFile

VARIABLE = "CACHETUI_STATES"
"""The environment variable that names the default folder."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder that states lie in."""

    path: str
    """Absolute."""
    origin: str
    """Why it is looked at."""
    ours: bool
    """True where everything in it is this program's; False for a folder of the user's own."""
    given: str = ""
    """As it was written, where that is not its path."""


def default(where: Where) -> Folder:
    """Where a state goes when no other place is named: CACHETUI_STATES, else `state_dir`, else a folder of our own."""
    for given, origin in (
        (where.env.get(VARIABLE, ""), VARIABLE),
        (where.config.state_dir, "state_dir of config.toml"),
    ):
        if given:
            return Folder(where.resolve(given), origin, False, given)
    return Folder(str(paths.states_dir()), "default", True)


def folders(where: Where) -> tuple[Folder, ...]:
    """The default folder, then those that were named, each once; some may not be there now."""
    first = default(where)
    own = Folder(str(paths.states_dir()), "default", True)
    named = (Folder(path, "named by --output", False) for path in known())
    found: dict[str, Folder] = {}
    for folder in (first, own, *named):
        found.setdefault(os.path.realpath(folder.path), folder)
    return tuple(found.values())


def known() -> tuple[str, ...]:
    """The folders that were named, the first one first. A list that cannot be read is as good as none."""
    return tuple(_read())


def note(folder: str, where: Where, *, fs: Fs = DISK) -> str:
    """Remember a folder that a state was saved in, unless it is looked at anyway; why that failed, or empty."""
    if os.path.realpath(folder) in {os.path.realpath(f.path) for f in folders(where)}:
        return ""
    try:
        remember(folder, fs=fs)
    except OSError as e:
        return f"{folder} cannot be remembered ({e.strerror or e}): --cache-dir {folder} finds it"
    return ""


def remember(folder: str, *, fs: Fs = DISK) -> bool:
    """Note a folder of the user's own, and forget those that are gone; True where that changed something.

    `folder`: absolute. Raises OSError.
    """
    folder = os.path.realpath(folder)
    with OwnFile(paths.state_folders_file(), fs) as file:
        before = _read()
        after = {path: dev for path, dev in before.items() if not _is_gone(path, dev)}
        after[folder] = os.stat(folder).st_dev
        if after == before:
            return False
        rows = [{"folder": path, "device": dev} for path, dev in after.items()]
        file.write(json.dumps(rows, indent=1) + "\n")
    return True


def _is_gone(path: str, dev: int) -> bool:
    """Whether a folder was removed; one whose drive is not there now is not gone."""
    above = path
    while not os.path.lexists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    try:
        return above != path and os.stat(above).st_dev == dev
    except OSError:
        return False


def _read() -> dict[str, int]:
    """Device numbers by folder, as they were when the folder was named."""
    found: dict[str, int] = {}
    try:
        rows = json.loads(paths.state_folders_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        return found
    for row in rows if isinstance(rows, list) else ():
        with suppress(ValueError, TypeError, KeyError):
            path, dev = row["folder"], int(row["device"])
            os.fsencode(path)
            if os.path.isabs(path) and "\0" not in path:
                found[path] = dev
    return found
