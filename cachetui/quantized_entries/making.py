"""How an entry comes to be: one process makes it in a folder beside, then it gets its name; the others wait for that.

<folder>/.cachetui-locks/<key>.lock    held while it is made
         .cachetui-making-<key>/       grows here; what a killed run left goes when the next one begins
         <key>/                        named only when every file is durable and the manifest names its hash
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from cachetui import walk
from cachetui.download.locks import holder, take_lock
from cachetui.fs import DISK, Fs, open_below, open_dir
from cachetui.plans.moves import Meter, remove_tree
from cachetui.quantized_entries.checking import Cancelled, Checked, check
from cachetui.quantized_entries.identity import Identity, file_digest
from cachetui.quantized_entries.listing import ENTRY, LOCKS, STAGING, Entry, look
from cachetui.quantized_entries.manifest import MANIFEST, File, Manifest, Source

try:
    import fcntl
except ImportError:  # Windows: without locks two makers are not kept apart
    fcntl = None  # type: ignore[assignment]

_NO_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
_EVERY = 0.2
"""Seconds between two looks at a lock that somebody holds."""


class NoPlace(Exception):
    """Nothing can be kept in the folder: why, and what to do."""

    def __init__(
        self, reason: str, advice: str = "choose another with --quant-dir or quant_dir in config.toml"
    ) -> None:
        super().__init__(reason)
        self.advice = advice


class Making:
    """The right to make one entry, or the entry that somebody else made meanwhile. A context manager.

        with Making(folder, identity) as making:
            if making.there is None:
                save_into(making.begin())
                entry = making.publish(source, ...)

    Where it is left without `publish`, nothing of it stays. Entering raises NoPlace, Cancelled, OSError.
    """

    def __init__(
        self,
        folder: str,
        identity: Identity,
        *,
        fs: Fs = DISK,
        waiting: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """`waiting` hears who makes it, as often as it is looked."""
        self.identity, self.key = identity, identity.key
        self.there: Entry | None = None
        """It exists, and a quick look found nothing wrong."""
        self.damaged: Checked | None = None
        """It exists and is not what it ought to be: it has to go (quarantining) before `publish`."""
        self._path, self._fs, self._waiting, self._cancelled = folder, fs, waiting, cancelled
        self._fd = self._lock = -1

    def __enter__(self) -> Making:
        try:
            self._fs.make_path(self._path)
            self._path = os.path.realpath(self._path)
            self._fd = open_dir(self._path)
            self._lock = self._take()
            self.look()
        except BaseException as e:
            self._close()
            if isinstance(e, OSError) and e.errno in _NO_FOLDER:
                raise NoPlace(f"{self._path} cannot be written to: {(e.strerror or str(e)).lower()}") from e
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._discard()
        except OSError:
            pass  # what is left is shown as unfinished, and goes when it is made again
        finally:
            self._close()

    def _close(self) -> None:
        for fd in (self._lock, self._fd):
            if fd >= 0:
                os.close(fd)
        self._lock = self._fd = -1

    def _take(self) -> int:
        try:
            self._fs.mkdir(self._fd, LOCKS)
        except FileExistsError:
            pass
        locks = open_below(self._fd, LOCKS)
        try:
            name = f"{self.key}.lock"
            while (fd := take_lock(self._fs, locks, name)) is None:
                self._waiting(holder(locks, name))
                if self._cancelled():
                    raise Cancelled
                time.sleep(_EVERY)
        finally:
            os.close(locks)
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours already; refused where there are no locks
        except OSError as e:
            os.close(fd)
            words = (e.strerror or str(e)).lower()
            raise NoPlace(f"the file system of {self._path} has no locks ({words}): two programs could spoil it") from e
        return fd

    def look(self) -> None:
        """See again whether it exists."""
        self.there = self.damaged = None
        path = f"{self._path}/{self.key}"
        if os.path.lexists(path):
            found = check(path, cancelled=self._cancelled)
            if found:
                self.there = look(path, ENTRY)
            else:
                self.damaged = found

    def begin(self) -> str:
        """An empty folder to save into: its absolute path. Raises OSError."""
        self._discard()
        self._fs.mkdir(self._fd, STAGING + self.key, 0o755)
        return f"{self._path}/{STAGING}{self.key}"

    def publish(
        self,
        source: Source,
        *,
        seconds: float = 0.0,
        peak_memory: int = 0,
        device: str = "",
        libraries: Mapping[str, str] | None = None,
        when: float | None = None,
        progress: Callable[[int, int, str], None] = lambda *_: None,
    ) -> Entry:
        """Hash what was saved, make it durable, and give it its name. `progress(done, total, name)` counts bytes.

        Raises ValueError where what was saved is no entry, FileExistsError where a damaged one was not taken away,
        Cancelled, OSError.
        """
        fs, folder = self._fs, f"{self._path}/{STAGING}{self.key}"
        names = self._saved(folder)
        files: list[File] = []
        done, total = 0, sum(names.values())

        def told(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total, name)
            if self._cancelled():
                raise Cancelled

        for name in names:
            fd = walk.open_regular(f"{folder}/{name}")
            try:
                fs.fsync(fd)
                st = os.fstat(fd)
            finally:
                os.close(fd)
            files.append(File(name, st.st_size, file_digest(f"{folder}/{name}", told), st.st_mtime_ns))
        made = time.time() if when is None else when
        manifest = Manifest(
            self.identity, source, tuple(files), made, seconds, peak_memory, device, dict(libraries or {})
        )
        self._settle(folder, names, manifest.text())
        fs.rename(self._fd, STAGING + self.key, self._fd, self.key)
        fs.fsync(self._fd)
        self.there = Entry(f"{self._path}/{self.key}", ENTRY, manifest)
        return self.there

    def _saved(self, folder: str) -> dict[str, int]:
        """Names and sizes of what was saved."""
        tally = walk.tree(folder)
        names = {b.path: b.size for b in sorted(tally.files)}
        if tally.links or tally.problems or any(b.nlink > 1 for b in tally.files):
            raise ValueError("what was saved holds links, or cannot be read to the end: an entry is whole by itself")
        if not names or MANIFEST in names:
            raise ValueError("nothing was saved" if not names else f"{MANIFEST} is a name of this program's own")
        return names

    def _settle(self, folder: str, names: Mapping[str, int], text: str) -> None:
        """The manifest, and then every folder, durable."""
        fs = self._fs
        top = open_below(self._fd, STAGING + self.key)
        try:
            fd = fs.create(top, MANIFEST, 0o644)
            try:
                fs.write_at(fd, text.encode("ascii"), 0)
                fs.fsync(fd)
            finally:
                os.close(fd)
            inner = {os.path.dirname(name) for name in names} - {""}
            for path in sorted(inner, reverse=True):
                below = open_below(top, path)
                try:
                    fs.fsync(below)
                finally:
                    os.close(below)
            fs.fsync(top)
        finally:
            os.close(top)

    def _discard(self) -> None:
        if self._fd >= 0 and self._lock >= 0:
            remove_tree(self._fs, self._fd, STAGING + self.key, Meter())
