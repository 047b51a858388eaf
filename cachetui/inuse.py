"""Who has a model's files open or mapped (I8).

Compares device and inode with /proc/*/fd and /proc/*/maps: a mapped file whose descriptor is closed shows only in the
latter. Where processes of other users cannot be read, a file of ours is asked with F_SETLEASE, which fails while
anybody has it open. Opens nothing that is not a regular file and reads no content.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from cachetui.model import Item

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Inode = tuple[int, int]


class User(NamedTuple):
    """A process that uses an item's file."""

    pid: int
    """0 where it is not known."""
    name: str
    how: str
    """open, mapped, or unchecked."""


SOMEBODY: Final = User(0, "a process of another user", "open")
Unchecked: Final = User(0, "", "unchecked")
"""Stands among the users of an item for which it could not be told."""


def users(items: Sequence[Item]) -> dict[tuple[str, str], tuple[User, ...]]:
    """For each item that is in use (by key), by whom. `Unchecked` stands where that could not be told."""
    wanted: dict[Inode, list[tuple[str, str]]] = {}
    for item in items:
        for b in item.content:
            wanted.setdefault((b.dev, b.ino), []).append(item.key)
    if not wanted:
        return {}
    found: dict[tuple[str, str], dict[User, None]] = {}
    blind = False
    for inode, user in _linux(wanted) if sys.platform.startswith("linux") else _elsewhere(items, wanted):
        if inode is None:
            blind = True
            continue
        for key in wanted[inode]:
            found.setdefault(key, {})[user] = None
    if blind:
        for item in items:
            answer = _lease(item)
            if answer is not None and item.key not in found:
                found.setdefault(item.key, {})[answer] = None
    return {key: tuple(dict.fromkeys(who)) for key, who in found.items()}


def _linux(wanted: dict[Inode, list[tuple[str, str]]]) -> Iterator[tuple[Inode | None, User]]:
    """(inode, user) for each use; (None, _) for a process that cannot be read."""
    me = str(os.getpid())
    inos = {str(ino).encode(): ino for _, ino in wanted}
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or pid == me:
            continue
        try:
            seen: dict[Inode, str] = dict.fromkeys(_mapped(pid, wanted, inos), "mapped")
            seen |= dict.fromkeys(_opened(pid, wanted), "open")
        except PermissionError:
            yield None, Unchecked
            continue
        except OSError:
            continue  # it ended
        for inode, how in seen.items():
            yield inode, User(int(pid), _name(pid), how)


def _opened(pid: str, wanted: dict[Inode, list[tuple[str, str]]]) -> Iterator[Inode]:
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with suppress(OSError):
            st = os.stat(f"{folder}/{fd}")
            if (st.st_dev, st.st_ino) in wanted:
                yield st.st_dev, st.st_ino


def _mapped(pid: str, wanted: dict[Inode, list[tuple[str, str]]], inos: dict[bytes, int]) -> Iterator[Inode]:
    with Path("/proc", pid, "maps").open("rb") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if len(fields) < 5 or fields[4] not in inos:
                continue
            major, _, minor = fields[3].partition(b":")
            inode = (os.makedev(int(major, 16), int(minor, 16)), inos[fields[4]])
            if inode in wanted:
                yield inode
            elif len(fields) == 6:  # file systems that give files another device number than maps show (btrfs)
                with suppress(OSError):
                    st = os.stat(f"/proc/{pid}/map_files/{fields[0].decode('ascii')}")
                    if (st.st_dev, st.st_ino) in wanted:
                        yield st.st_dev, st.st_ino


def _elsewhere(
    items: Iterable[Item], wanted: dict[Inode, list[tuple[str, str]]]
) -> Iterator[tuple[Inode | None, User]]:
    """Systems without /proc: open files only; what is mapped with its descriptor closed cannot be seen."""
    yield None, Unchecked
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid():
                continue
            for file in process.open_files():
                st = os.stat(file.path)
                if (st.st_dev, st.st_ino) in wanted:
                    yield (st.st_dev, st.st_ino), User(process.pid, process.name(), "open")


def _name(pid: str) -> str:
    try:
        return os.fsdecode(Path("/proc", pid, "comm").read_bytes().rstrip(b"\n"))
    except OSError:
        return ""


def _lease(item: Item) -> User | None:
    """Ask the kernel whether anybody has a file of ours open; None when nobody has."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return Unchecked
    answer: User | None = None
    for b in item.content:
        try:
            if not _unused(os.path.join(item.root, b.path)):
                return SOMEBODY
        except FileNotFoundError:
            continue
        except OSError as e:
            if e.errno != errno.ELOOP:  # only a link goes: what is at its other end stays
                answer = Unchecked
    return answer


def _unused(path: str) -> bool:
    """True when no other process has the file open. Raises OSError where that cannot be told."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return True
        # Whoever opens it in this instant makes the kernel send a signal; the default one would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True
    finally:
        os.close(fd)
