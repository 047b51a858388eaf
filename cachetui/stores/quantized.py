"""Quantized models that are kept (see cachetui/quantized_entries), and what older scripts left in the same folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cachetui import quant_items, walk
from cachetui.config import Where
from cachetui.expected import SHA256, Digest, Expected, ExpectedFile, plain_files
from cachetui.filesystem import shares_extents
from cachetui.folder import Folder
from cachetui.ledger import Ledger
from cachetui.model import Item, Problem, Reporter, Root, RootScan, Stub
from cachetui.quantized_entries.checking import STRANGE, strange
from cachetui.quantized_entries.listing import ENTRY, Entry, kind_of
from cachetui.quantized_entries.manifest import ManifestError, read
from cachetui.quantized_entries.places import folders
from cachetui.store import Removal, Selection, Store, make_root

_SOURCE = "its manifest"


class Quantized(Store):
    """Entries by key, md5-named files and folders, what a killed run left."""

    name = quant_items.STORE
    title = "Quantized models"
    order = 42

    def roots(self, where: Where) -> Iterable[Root]:
        """The folder that is used, and those that other settings name."""
        for found in folders(where):
            root = make_root(self.name, found.path, found.origin)
            if root is not None:
                yield replace(root, given=found.given) if found.given not in ("", root.path) else root

    def stubs(self, root: Root) -> Sequence[Stub]:
        """Each by its manifest, which is small."""
        found = _Found(root)
        return [Stub(id_, e.kind, e.name, os.path.basename(e.path)) for e, id_, _ in found.entries()]

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Every one of them, and the blocks of the rest."""
        found = _Found(root, nested)
        items: list[Item] = []
        complete = True
        for entry, id_, st in found.entries():
            if report.cancelled():
                complete = False
                break
            items.append(quant_items.make(root, entry, id_, st, nested))
            report.sized(root, items[-1])
        other = found.other(items) if complete else 0
        return RootScan(
            root, tuple(items), other, tuple(found.nested), tuple(found.problems), tuple(found.blind),
            shares_extents(root.dev), complete, sum(i.away for i in items),
        )  # fmt: skip

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """All of it."""
        if any(n.startswith(f"{selection.item.path}/") for n in ledger.root_of(selection.item).nested):
            return Removal((), refused="another cache lies inside this folder: delete what is in that one first")
        return quant_items.removal(selection)

    def expected(self, item: Item) -> Expected:
        """What its manifest says; of what the older convention left nothing is known."""
        path = f"{item.root}/{item.path}"
        if item.kind != ENTRY:
            return plain_files(item, item.root)
        found = Expected()
        found.sort_in(item.problems)
        if found.unknown:
            return found
        real = os.path.realpath(path)
        try:
            manifest = read(real)
        except ManifestError as e:
            found.damaged = [Problem(quant_items.BAD, str(e), path, quant_items.CLEAN)]
            return found
        found.damaged = [p for p in found.damaged if p.code != quant_items.BAD]  # told more exactly from its files
        if manifest.key != item.path:
            why = "its manifest belongs to another entry"
            found.damaged.append(Problem(quant_items.BAD, why, path, quant_items.CLEAN))
        for f in manifest.files:
            digest = Digest(SHA256, f.sha256, _SOURCE)
            found.files.append(ExpectedFile(f"{real}/{f.path}", f.path, f.size, (digest,)))
        if name := strange(real, manifest):
            why = f"{name} is no part of it, and a library might load it"
            found.damaged.append(Problem(STRANGE, why, f"{real}/{name}", "delete it"))
        return found


@dataclass
class _Found:
    """What lies in a root, read while it is asked for."""

    root: Root
    inside: frozenset[tuple[int, int]] = frozenset()
    nested: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    overhead: int = 0
    rest: list[tuple[str, os.stat_result]] = field(default_factory=list)
    """Names that are none of these."""

    def entries(self) -> Iterator[tuple[Entry, str, os.stat_result]]:
        """Each with its id, by name."""
        try:
            with Folder(self.root.path) as folder:
                self.overhead = walk.allocated(folder.stat)
                with folder.listing() as listing:
                    named = sorted((e.name, folder.lstat(e)) for e in listing)
        except OSError as e:
            message = f"cannot be read: {e.strerror or e}"
            self.problems.append(Problem("unreadable", message, self.root.path, "check its permissions and the disk"))
            self.blind.append("")
            return
        kinds = {name: kind_of(name, st) for name, st in named}
        for name, st in named:
            if (
                kinds[name]
                and stat.S_ISLNK(st.st_mode)
                and not quant_items.is_put_elsewhere(self.root, name, kinds[name])
            ):
                kinds[name] = ""
        ids = quant_items.identifiers([name for name, kind in kinds.items() if kind])
        for name, st in named:
            if stat.S_ISDIR(st.st_mode) and self._is_apart(name, st):
                continue
            if kinds[name]:
                yield quant_items.seen(self.root, name, kinds[name], st), ids[name], st
            else:
                self.rest.append((name, st))

    def _is_apart(self, name: str, st: os.stat_result) -> bool:
        """Whether a folder is left alone: a root of its own, or another file system."""
        if (st.st_dev, st.st_ino) in self.inside:
            self.nested.append(name)
            return True
        if st.st_dev == self.root.dev:
            return False
        message = "another file system is mounted here; it is not counted and nothing in it is touched"
        self.problems.append(Problem("other-filesystem", message, f"{self.root.path}/{name}"))
        return True

    def other(self, items: Iterable[Item]) -> int:
        """Blocks of what is no item, each inode once."""
        seen = {(b.dev, b.ino) for item in items for b in item.blobs if b.nlink > 1}
        total = self.overhead
        for name, st in self.rest:
            tally = walk.Tally()
            if stat.S_ISDIR(st.st_mode):
                tally = walk.tree(self.root.path, name, nested=self.inside)
            elif stat.S_ISREG(st.st_mode):
                tally.files.append(walk.blob(name, st))
            else:
                tally.overhead += walk.allocated(st)
            self.nested += tally.nested
            self.problems += tally.problems
            total += tally.overhead
            for b in tally.files:
                if b.nlink == 1 or (b.dev, b.ino) not in seen:
                    total += b.allocated
                    seen.add((b.dev, b.ino))
        return total
