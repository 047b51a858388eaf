"""Pictures for the UI: decoded by a worker process, handed over as plain pixels. No Textual in here."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cachetui.jobs.model import JobState, Spec, new_id
from cachetui.tui.talk import NOISE

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif"))
_MOST = 5000
"""Entries of a folder that are looked at: beyond, a picker is no help."""
_BYTES_A_PIXEL = 3


class PictureError(Exception):
    """A picture that cannot be shown: why, and what to do about it."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as it fits on the screen. Sizes in pixels, (width, height)."""

    spec: str
    """Path, or `noise`. An outside string."""
    original: tuple[int, int]
    size: tuple[int, int]
    """What the model gets, after lowering."""
    file_size: int
    """Bytes; 0 for noise."""
    width: int
    height: int
    rgb: bytes
    """`width` times `height` pixels of three bytes, row by row."""

    @property
    def lowered(self) -> bool:
        """Whether the model gets fewer pixels than there are."""
        return self.size != self.original


def look(
    spec: str,
    room: tuple[int, int],
    *,
    max_pixels: int = 0,
    resize: tuple[int, int] | None = None,
    seed: int = 0,
    cancel: threading.Event | None = None,
) -> Shown:
    """Decode a picture and fit it into the room (pixels). Takes some tenths of a second: for a thread.

    Raises PictureError.
    """
    from cachetui.jobs.runner import run

    request = {
        "picture": spec, "room": list(room), "max_pixels": max_pixels, "resize": list(resize) if resize else None,
        "seed": seed, "stretch": True,
    }  # fmt: skip
    ended = run(Spec(new_id(), "picture", "picture", request), lambda p: None, cancel or threading.Event())
    if ended.state is not JobState.DONE or ended.result is None:
        raise PictureError(ended.reason or "the picture was not read", ended.advice)
    r = ended.result
    rgb = base64.b64decode(r["rgb"])
    width, height = int(r["width"]), int(r["height"])
    if len(rgb) != _BYTES_A_PIXEL * width * height:
        raise PictureError("the picture was not read whole")
    size, original = tuple(r["size"]), tuple(r["original"])
    return Shown(spec, (original[0], original[1]), (size[0], size[1]), int(r["bytes"]), width, height, rgb)


def is_picture(name: str) -> bool:
    """By its suffix."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def first_folder(home: str, here: str) -> str:
    """Where to look first: where the program was started if there are pictures, else ~/Pictures, else there or home."""
    for folder in (here, os.path.join(home, "Pictures")):
        if any(is_picture(name) for name, is_folder in entries(folder)[0] if not is_folder):
            return folder
    return here if os.path.isdir(here) else home


def entries(folder: str) -> tuple[list[tuple[str, bool]], str]:
    """[(name, is a folder)] of the folders and pictures in a folder, and what is wrong with it. For a thread."""
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as scan:
            for entry in islice(scan, _MOST):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    found.append((entry.name, True))
                elif is_picture(entry.name):
                    found.append((entry.name, False))
    except OSError as e:
        return [], f"{e.strerror or e}"
    return sorted(found, key=lambda e: (not e[1], e[0].lower(), e[0])), ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def completions(typed: str, home: str, base: str) -> Iterator[str]:
    """Whole paths that begin with what was typed, as it was typed: `~/Pic` gives `~/Pictures/`. For a thread."""
    head, _, start = typed.rpartition("/")
    folder = resolve(head + "/" if "/" in typed else ".", home, base)
    before = head + "/" if "/" in typed else ""
    for name, is_folder in entries(folder)[0]:
        if name.startswith(start) and name != start:
            yield before + name + ("/" if is_folder else "")
    if "/" not in typed and NOISE.startswith(typed) and typed != NOISE:
        yield NOISE


def resolve(typed: str, home: str, base: str) -> str:
    """The absolute path of what stands in the field; `noise` and nothing stay what they are."""
    typed = typed.strip() if typed.strip() in ("", NOISE) else typed
    if typed in ("", NOISE):
        return typed
    if typed == "~" or typed.startswith("~/"):
        typed = home + typed[1:]
    return os.path.normpath(os.path.join(base, typed))
