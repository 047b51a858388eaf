"""What can be done about a damaged file: other content on this machine that ought to be the same, or a download."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Collection, Iterator

from cachetui import archives, hub_layout
from cachetui.expected import Digest
from cachetui.ledger import Scan
from cachetui.model import Item
from cachetui.quant_items import AGAIN as QUANT_AGAIN
from cachetui.quant_items import STORE as QUANT
from cachetui.state_items import AGAIN, STORE
from cachetui.store import store_named

Inode = tuple[int, int]


class Copies:
    """Where content with a hash lies: in every store of a scan, and in the archives that are plugged in."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._places: dict[tuple[str, str], list[str]] | None = None

    def find(self, wanted: Collection[Digest], size: int, is_bad: Callable[[Inode, Digest], bool]) -> str:
        """Absolute real path of a file that ought to hold the same bytes, and is not known bad; empty for none."""
        for digest in wanted:
            for path in self._index().get((digest.algorithm, digest.value), ()):
                try:
                    real = os.path.realpath(path)
                    st = os.lstat(real)
                except OSError:
                    continue
                fits = stat.S_ISREG(st.st_mode) and size in (-1, st.st_size)
                if fits and not is_bad((st.st_dev, st.st_ino), digest):
                    return real
        return ""

    def _index(self) -> dict[tuple[str, str], list[str]]:
        if self._places is None:
            self._places = {}
            for digest, path in self._everything():
                self._places.setdefault((digest.algorithm, digest.value), []).append(path)
        return self._places

    def _everything(self) -> Iterator[tuple[Digest, str]]:
        for item in self._scan.items:
            if item.store == STORE:
                continue  # of one another's headers nothing is known: a state is saved again, not copied
            for file in store_named(item.store).expected(item).files:
                for digest in file.digests:
                    yield digest, file.path
        for known in archives.known().values():
            try:
                manifest = archives.read(known.path)
            except archives.ManifestError:
                continue
            for entry in manifest.entries if manifest is not None else ():
                for f in entry.files:
                    if f.sha256:
                        yield Digest("sha256", f.sha256, "an archive"), os.path.join(known.path, f.path)


def words(item: Item, name: str, path: str, copy: str) -> str:
    """What to do about a damaged file of an item."""
    again = download(item, name)
    if not copy:
        return again
    if path.startswith(os.path.join(item.root, "")):
        take = f"the same content lies at {copy}: cachetui verify --repair takes it"
    else:
        take = f"the same content lies at {copy}"
    return f"{take}; or {again}" if again else take


def ask_online(item: Item) -> str:
    """How the hashes of an item could be had; empty where nobody knows them."""
    return "--online asks the Hub for them" if item.store == "hf" and item.kind in hub_layout.ID_PREFIX else ""


def download(item: Item, name: str) -> str:
    """The command that downloads a file again, in words; empty where nothing is known about its origin."""
    if item.store == STORE:
        return "delete it and save it again: " + dict(item.extra).get(AGAIN, "cachetui state save")
    if item.store == QUANT:
        again = dict(item.extra).get(QUANT_AGAIN, "cachetui quantize")
        return f"verify --quarantine takes it away, then make it again: {again}"
    if item.store == "ollama":
        return f"verify --quarantine takes the damaged layer away, then: ollama pull {shlex.quote(item.name)}"
    origin = next((value for label, value in item.extra if label == "copy of"), "")
    if item.store == "hf":
        return "download again: " + _hf(item, name, item.name, item.kind)
    if origin.startswith("hf:"):
        repo, _, commit = origin.removeprefix("hf:").partition("@")
        where = os.path.join(item.root, item.path)
        words = ["hf", "download", repo, name, "--revision", commit, "--local-dir", where, "--force-download"]
        return "download again: " + shlex.join(words)
    return ""


def _hf(item: Item, name: str, repo: str, kind: str) -> str:
    commit = ""
    for revision in item.revisions:
        if name in revision.names and hub_layout.COMMIT.fullmatch(revision.commit):
            commit = revision.refs[0] if "main" in revision.refs else revision.commit
    words = ["hf", "download", repo, *([name] if name else [])]
    words += ["--repo-type", kind] if kind in ("dataset", "space") else []
    words += ["--revision", commit] if commit and commit != "main" else []
    return shlex.join([*words, "--cache-dir", item.root, "--force-download"])
