"""Bytes that are on this machine already, under the same hash: linked or copied instead of fetched.

Between two hub caches on one file system the blob gets a second name; from anywhere else (Ollama, archives, another
file system) it is copied, so that nobody's later change reaches both. Either way its hash is computed before it is
placed. A payload of the shared store is linked by the library's own function.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetui.download import hashing
from cachetui.download.layout import HubCache, Layout
from cachetui.download.partial import SUFFIX
from cachetui.fs import open_dir
from cachetui.ledger import Scan
from cachetui.plans.moves import Meter, remove_tree

LINK, COPY, SHARED = "link", "copy", "shared"
_READ = 1 << 20
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the same bytes lie."""

    how: str
    """link, copy or shared."""
    path: str
    """Absolute path of the file; for shared, the Xet hash of the payload."""
    holder: str = ""
    """Id of the item it belongs to."""

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return {"how": self.how, "path": self.path, "holder": self.holder}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Origin:
        """The inverse. Raises KeyError or TypeError."""
        how, path = body["how"], body["path"]
        if how not in (LINK, COPY, SHARED) or not isinstance(path, str):
            raise TypeError("no origin")
        return cls(how, path, str(body.get("holder", "")))


def find(scan: Scan, wanted: Mapping[str, int], target: str, *, links: bool) -> dict[str, Origin]:
    """Where contents (hash to size) lie in any root that was scanned. `target`: folder they will be written to."""
    try:
        device = os.stat(target).st_dev
    except OSError:
        device = -1
    found: dict[str, Origin] = {}
    for root in scan.roots:
        if root.root.offline:
            continue
        for item in root.items:
            for b in item.content:
                name = b.path.rpartition("/")[2].removeprefix("sha256-")
                if wanted.get(name) != b.size or (name in found and found[name].how == LINK):
                    continue
                path = os.path.join(item.root, b.path)
                hub = item.store == "hf" and "/blobs/" in b.path and not root.root.archive
                how = LINK if links and hub and b.dev == device else COPY
                if name not in found or how == LINK:
                    found[name] = Origin(how, path, item.id)
    return found


def fill(
    layout: Layout,
    paths: tuple[str, ...],
    etag: str,
    size: int,
    origin: Origin,
    arrived: Callable[[int], None],
    check: Callable[[], None],
) -> bool:
    """Place content from where it lies; False where that is not (any more) what its name says: it is fetched then.

    Raises OSError where the target fails, and what `check` raises.
    """
    if origin.how == SHARED:
        return isinstance(layout, HubCache) and layout.from_shared_store(paths, etag, size, origin.path)
    try:
        source = os.open(origin.path, _OPEN)
    except OSError:
        return False
    folder, name = layout.partial(paths, etag)
    part = name + SUFFIX
    came = 0
    try:
        st = os.fstat(source)
        if not stat.S_ISREG(st.st_mode) or st.st_size != size:
            return False
        linked = origin.how == LINK and _link(layout, origin.path, st, folder, part)
        target = -1 if linked else _fresh(layout, folder, part)
        try:
            digest = hashing.begin(etag, size)
            while True:
                check()
                try:
                    data = os.pread(source, _READ, came)
                except OSError:
                    break
                if not data:
                    break
                digest.update(data)
                if not linked:
                    layout.fs.write_at(target, data, came)
                came += len(data)
                arrived(len(data))
            good = came == size and digest.hexdigest() == etag
            if good and not linked:
                layout.fs.fsync(target)
        finally:
            if target >= 0:
                os.close(target)
    finally:
        os.close(source)
    if good:
        layout.place(part, paths, etag, durable=True)
        return True
    arrived(-came)
    remove_tree(layout.fs, folder, part, Meter())
    return False


def _fresh(layout: Layout, folder: int, part: str) -> int:
    remove_tree(layout.fs, folder, part, Meter())
    return layout.fs.create(folder, part, 0o666)


def _link(layout: Layout, path: str, st: os.stat_result, folder: int, part: str) -> bool:
    """Give the blob a second name, where that can be done."""
    remove_tree(layout.fs, folder, part, Meter())
    above = open_dir(os.path.dirname(os.path.realpath(path)))
    try:
        layout.fs.link(above, os.path.basename(path), folder, part)
    except OSError as e:
        if e.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOENT):
            return False
        raise
    finally:
        os.close(above)
    made = os.stat(part, dir_fd=folder, follow_symlinks=False)
    if (made.st_dev, made.st_ino) == (st.st_dev, st.st_ino):
        return True
    remove_tree(layout.fs, folder, part, Meter())
    return False
