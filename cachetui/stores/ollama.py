"""Ollama's model store: manifests that name layers, layers shared between tags.

    manifests/<host>/<namespace>/<model>/<tag>    docker v2 manifest, exactly four levels
    blobs/sha256-<64hex>                          a layer or config
    blobs/sha256-<64hex>-partial[-N]              a pull that was stopped (sparse)

A tag is an item whose layers lie outside of it (`links`): they go with the last tag that names them. While any
manifest cannot be read, it may name any layer: then no layer goes (I7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cachetui import ollama_expected
from cachetui.config import Where
from cachetui.expected import Expected
from cachetui.filesystem import shares_extents
from cachetui.ledger import Ledger
from cachetui.model import Item, Problem, Reporter, Root, RootScan, Stub
from cachetui.ollama_disk import manifest_paths, read_disk
from cachetui.ollama_items import Reading, kind_and_name
from cachetui.ollama_layout import BLOBS, MANIFESTS, is_ollama_layout, item_id
from cachetui.store import Removal, Selection, Store, make_root

SYSTEM_MODELS = "/usr/share/ollama/.ollama/models"
"""Where the Linux service install keeps them, as user `ollama`."""


class Ollama(Store):
    """Tags of every host, orphan layers, stopped pulls."""

    name = "ollama"
    title = "Ollama"
    order = 30

    def roots(self, where: Where) -> Iterable[Root]:
        """OLLAMA_MODELS else ~/.ollama/models; the service install; folders given by the user that look like one."""
        # envconfig.Var trims blanks and quotes; the server expands no "~".
        given = where.env.get("OLLAMA_MODELS", "").strip().strip("\"'")
        if given:
            first = make_root(self.name, os.path.join(where.cwd, given), "OLLAMA_MODELS", given=given)
        else:
            first = make_root(self.name, os.path.join(where.home, ".ollama", "models"), "default")
        system = make_root(self.name, SYSTEM_MODELS, "system service")
        if system is not None and not system.writable:
            message = "the service's own store: it can be seen but not changed by this user"
            hint = "delete with `ollama rm NAME`, or run cachetui as its owner"
            system = replace(system, problems=(Problem("not-writable", message, system.path, hint),))
        yield from (r for r in (first, system) if r is not None)
        for path in where.cache_dirs:
            full = where.resolve(path)
            if is_ollama_layout(full):
                root = make_root(self.name, full, "--cache-dir", given=path)
                if root is not None:
                    yield root

    def stubs(self, root: Root) -> Sequence[Stub]:
        """The tags, by their paths alone."""
        return [Stub(item_id(path), *kind_and_name(path), path) for path in manifest_paths(root.path)]

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Manifests first, then what no manifest names."""
        reading = Reading(read_disk(root, nested))
        items: list[Item] = []
        complete = True
        for item in reading.items():
            if report.cancelled():
                complete = False
                break
            items.append(item)
            report.sized(root, item)
        disk = reading.disk
        return RootScan(
            root,
            tuple(items),
            disk.other,
            tuple(disk.nested),
            tuple(disk.problems),
            tuple(disk.blind) if complete else (*disk.blind, f"{root.path}/{MANIFESTS}"),
            shares_extents(root.dev),
            complete,
            sum(b.size for b in reading.away.values()),
        )

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """The manifest, then the layers that no other tag names; or the files of an orphan or stopped pull."""
        item = selection.item
        if selection.file:
            return Removal((), refused="a layer is part of its model: delete the whole tag instead")
        blind = ledger.root_of(item).blind
        if item.kind == "orphan" and blind:
            return Removal(
                (), refused=f"{blind[0]} cannot be read and may name this layer: repair or delete that first"
            )
        if item.blobs:
            return Removal(tuple(b.path for b in item.blobs))
        if f"{item.root}/{BLOBS}" in blind:
            return Removal((), refused="its layers cannot be seen, so that they could not be removed with it")
        going = selected | ledger.positions((item,))
        goes = [ledger.name_goes(item.root, b.path, going, link=True) for b in item.links]
        content = tuple(b.path for b, go in zip(item.links, goes, strict=True) if go)
        stays = tuple(b for b, go in zip(item.links, goes, strict=True) if not go)
        return Removal((item.path,), content, stays)

    def expected(self, item: Item) -> Expected:
        """Every layer is named by its sha256, and the manifest knows the sizes."""
        return ollama_expected.expected(item)
