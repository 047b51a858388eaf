"""What lies in an Ollama store as items: tags with their layers, and what no tag names."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cachetui import afar, walk
from cachetui.model import (  # fmt: skip
    ARCHIVED,
    DAMAGED,
    FOREIGN_OWNER,
    LIES_IN,
    OFFLINE,
    OK,
    ORPHAN,
    PARTIAL,
    READ_ONLY,
    Blob,
    Item,
    Problem,
    Revision,
    Traits,
)
from cachetui.ollama_disk import OllamaDisk, is_ignored
from cachetui.ollama_layout import (
    BLOB,
    BLOBS,
    LITTER,
    MANIFESTS,
    MAX_CONFIG,
    MAX_MANIFEST,
    PARTIAL_BLOB,
    BadManifest,
    Layer,
    Manifest,
    display_name,
    item_id,
    parse_config,
    parse_manifest,
)  # fmt: skip

_MAX_PROBLEMS = 5


def kind_and_name(path: str) -> tuple[str, str]:
    inside = path.removeprefix(MANIFESTS + "/")
    return ("model" if inside.count("/") == 3 else "unknown"), display_name(inside) or inside


@dataclass
class Reading:
    """Items made of what lies on disk."""

    disk: OllamaDisk
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    """Names of blobs that some manifest holds."""
    counted: set[tuple[int, int]] = field(default_factory=set)
    """Files with several names whose blocks are counted already."""
    away: dict[str, Blob] = field(default_factory=dict)
    """Content that lies elsewhere, by its path here."""

    def items(self) -> Iterator[Item]:
        """Tags, then orphans, stopped pulls and unknown files."""
        self.counted = {(b.dev, b.ino) for b in self.disk.blobs.values() if b.nlink > 1}
        for b in sorted(self.disk.manifests):
            yield self._tag(b)
        for path, target in sorted(self.disk.manifest_links):
            if not is_ignored(path):
                yield self._link(path, target)
        self.held |= {self.disk.aliases[name] for name in self.held & self.disk.aliases.keys()}
        yield from self._leftovers()

    def _states(self, uid: int, *states: str) -> tuple[str, ...]:
        more = list(states)
        if not self.disk.root.writable:
            more.append(READ_ONLY)
        if hasattr(os, "geteuid") and os.geteuid() not in (0, uid):
            more.append(FOREIGN_OWNER)
        return tuple(dict.fromkeys(more)) or (OK,)

    def _link(self, path: str, target: str) -> Item:
        """A manifest that is a link: the server follows it, and fails for every model when it dangles."""
        root = self.disk.root.path
        self.disk.blind.append(f"{root}/{path}")
        full = f"{root}/{path}"
        if os.path.exists(full):
            message, hint = f"this manifest is a link to {target}: it is not followed", "put the manifest itself there"
            problem = Problem("manifest-link", message, full, hint)
        else:
            message = f"this manifest is a link to {target}, which is not there"
            hint = "while it dangles the server cannot list any model: remove the link"
            problem = Problem("dangling-manifest", message, full, hint)
        kind, name = kind_and_name(path)
        states = self._states(_owner(f"{root}/{path}")[0], DAMAGED)
        return Item(item_id(path), "ollama", root, kind, name, path, states=states, problems=(problem,))

    def _tag(self, file: Blob) -> Item:
        root = self.disk.root.path
        full = f"{root}/{file.path}"
        kind, name = kind_and_name(file.path)
        problems: list[Problem] = []
        manifest, commit = Manifest((), ""), ""
        try:
            raw = walk.read_small(full, MAX_MANIFEST)
            commit = hashlib.sha256(raw).hexdigest()
            manifest = parse_manifest(raw)
        except OSError as e:
            self.disk.blind.append(full)
            problems.append(
                Problem("unreadable", f"the manifest cannot be read: {e.strerror}", full, "check its permissions")
            )
        except BadManifest as e:
            if kind == "model":
                self.disk.blind.append(full)
            hint = f"`ollama pull {name}` writes it again; until then the server prunes no layer, and neither do we"
            problems.append(Problem("bad-manifest", str(e), full, hint))
        damaged = bool(problems)
        if kind == "unknown" or display_name(file.path.removeprefix(MANIFESTS + "/")) is None:
            message = "not where a manifest belongs (host/namespace/model/tag): the server does not list it"
            problems.append(Problem("misplaced", message, full, "move it to its place, or delete it"))
        links, index, layers = self._layers(manifest.layers, name, problems)
        uid, gid = _owner(full)
        config = self._config(manifest.config)
        away = self._away(links)
        size = sum({b.path: b.size for b in links}.values())
        names = tuple(layer.role for layer in manifest.layers)
        tag = file.path.rpartition("/")[2]
        item = Item(
            item_id(file.path), "ollama", root, kind, name, file.path,
            links=tuple(links),
            overhead=self._blocks(file),
            revisions=(Revision(commit, (tag,), file.path, names, index, size, file.mtime),) if commit else (),
            file_count=len(names),
            last_used=self._last_used(manifest.layers),
            last_modified=file.mtime,
            states=self._states(uid, *([DAMAGED] if damaged else []), *layers),
            problems=tuple(problems),
            traits=_traits(config, manifest),
            uid=uid, gid=gid,
            extra=(*_extra(commit, config), *self._lies_in(away)),
            away=sum(b.size for b in away),
        )  # fmt: skip
        return item.with_sizes()

    def _away(self, content: Sequence[Blob]) -> list[Blob]:
        """What of this content lies elsewhere, the largest last."""
        far = {*self.disk.archived, *self.disk.offline}
        found = [b for b in content if b.path.rpartition("/")[2] in far] if far else []
        self.away = {b.path: b for b in found} | self.away
        return sorted(found, key=lambda b: b.size)

    def _lies_in(self, away: Sequence[Blob]) -> tuple[tuple[str, str], ...]:
        if not away:
            return ()
        name = away[-1].path.rpartition("/")[2]
        return ((LIES_IN, self.disk.archived.get(name) or self.disk.offline[name].path),)

    def _blocks(self, file: Blob) -> int:
        """Blocks of a manifest, once where it has several names."""
        if file.nlink > 1:
            if (file.dev, file.ino) in self.counted:
                return 0
            self.counted.add((file.dev, file.ino))
        return file.allocated

    def _layers(
        self, layers: Sequence[Layer], name: str, problems: list[Problem]
    ) -> tuple[list[Blob], array[int], list[str]]:
        """The content that layers name, where each of them is in it, and the states that follow."""
        links: list[Blob] = []
        index: array[int] = array("i")
        position: dict[str, int] = {}
        states: list[str] = []
        found: list[Problem] = []
        for layer in layers:
            self.held.add(layer.file)
            b = self.disk.blobs.get(layer.file)
            if b is None:
                index.append(-1)
                if self.disk.blobs_known:
                    full = f"{self.disk.root.path}/{BLOBS}/{layer.file}"
                    message, hint = f"the {layer.role} layer is missing", f"`ollama pull {name}` fetches it again"
                    found.append(Problem("layer-missing", message, full, hint))
                continue
            if layer.file not in position:
                position[layer.file] = len(links)
                links.append(self._reached(b, layer, states, found))
                if (alias := self.disk.aliases.get(layer.file)) in self.disk.blobs and alias not in position:
                    position[alias] = len(links)
                    links.append(self.disk.blobs[alias])
            index.append(position[layer.file])
        if any(p.code in ("layer-missing", "layer-size") for p in found):
            states.append(DAMAGED)
        if OFFLINE in states:
            states = [s for s in states if s != ARCHIVED]
        problems += found[:_MAX_PROBLEMS]
        if len(found) > _MAX_PROBLEMS:
            problems.append(Problem("more", f"and {len(found) - _MAX_PROBLEMS} more layers like these"))
        return links, index, list(dict.fromkeys(states))

    def _reached(self, b: Blob, layer: Layer, states: list[str], found: list[Problem]) -> Blob:
        """A layer's blob with the size of its content, wherever that is."""
        full = f"{self.disk.root.path}/{b.path}"
        role = layer.role
        if (lead := self.disk.offline.get(layer.file)) is not None:
            states.append(OFFLINE)
            message = f"the {role} layer lies at {lead.path}, which {lead.state}"
            hint = "plug the drive in; a pull would replace the link by a new download"
            found.append(Problem("offline", message, full, hint))
            return b._replace(size=max(layer.size, 0))
        if layer.file in self.disk.archived:
            states.append(ARCHIVED)
        if layer.size >= 0 and b.size != layer.size and layer.file not in self.disk.aliases:
            message = f"the {role} layer has {b.size} bytes instead of {layer.size}"
            found.append(Problem("layer-size", message, full, "delete the tag and pull it again"))
        return b

    def _last_used(self, layers: Sequence[Layer]) -> float | None:
        """Newest access of its weights: the server reads the small layers whenever it lists."""
        weights = [layer.file for layer in layers if layer.weights] or [layer.file for layer in layers]
        return max((self.disk.used[f] for f in weights if f in self.disk.used), default=None)

    def _config(self, file: str) -> dict[str, str]:
        if file and file not in self.configs:
            try:
                path = self.disk.archived.get(file, f"{self.disk.root.path}/{BLOBS}/{file}")
                raw = afar.patiently(path, lambda: walk.read_small(path, MAX_CONFIG), b"")
            except OSError:
                raw = b""
            self.configs[file] = parse_config(raw)
        return self.configs.get(file, {})

    def _leftovers(self) -> Iterator[Item]:
        """What no manifest names."""
        pulls: dict[str, list[Blob]] = defaultdict(list)
        for name, b in sorted(self.disk.blobs.items()):
            if name in self.held:
                continue
            if (match := PARTIAL_BLOB.fullmatch(name)) is not None:
                pulls[match[1]].append(b)
            elif BLOB.fullmatch(name):
                yield self._orphan(name, b)
            elif LITTER.fullmatch(name):
                message = "left by an import or create that did not end"
                yield self._file(
                    "partial", [b], PARTIAL, problem=("litter", message, "delete it when no server writes it")
                )
            else:
                message = "a file among the layers: nothing of Ollama's"
                yield self._file("unknown", [b], problem=("unknown-entry", message, "look what it is"))
        for blobs in pulls.values():
            message = "a pull that was stopped"
            yield self._file("partial", blobs, PARTIAL, problem=("partial", message, "pulling again continues it"))

    def _orphan(self, name: str, b: Blob) -> Item:
        """A layer that no tag names; it may lie elsewhere, like any."""
        item = self._file("orphan", [b], ORPHAN)
        away = self._away([b])
        if not away:
            return item
        item = replace(item, extra=self._lies_in(away)).with_away(b.size)
        return item.with_states(ARCHIVED if name in self.disk.archived else OFFLINE)

    def _file(self, kind: str, blobs: list[Blob], *states: str, problem: tuple[str, str, str] | None = None) -> Item:
        """Files of blobs/ that are an item of their own."""
        root = self.disk.root.path
        path = blobs[0].path
        name = path.rpartition("/")[2]
        uid, gid = self.disk.owner.get(name, (-1, -1))
        found = () if problem is None else (Problem(problem[0], problem[1], f"{root}/{path}", problem[2]),)
        item = Item(
            item_id(path), "ollama", root, kind, name, path,
            blobs=tuple(blobs),
            file_count=len(blobs),
            last_used=self.disk.used.get(name),
            last_modified=max(b.mtime for b in blobs),
            states=self._states(uid, *states),
            problems=found,
            uid=uid, gid=gid,
        )  # fmt: skip
        return item.with_sizes()


def _owner(path: str) -> tuple[int, int]:
    try:
        st = os.lstat(path)
    except OSError:
        return -1, -1
    return st.st_uid, st.st_gid


def _extra(commit: str, config: dict[str, str]) -> tuple[tuple[str, str], ...]:
    rows = [("ID", commit[:12])] if commit else []
    if host := config.get("remote_host"):
        rows.append(("runs at", host))
    if model := config.get("remote_model"):
        rows.append(("remote model", model))
    return tuple(rows)


def _traits(config: dict[str, str], manifest: Manifest) -> Traits:
    form = config.get("model_format", "")
    remote = "remote_host" in config or "remote_model" in config
    quantization = config.get("file_type", "")
    return Traits(
        (form,) if form in ("gguf", "safetensors") and not remote else (),
        "" if quantization == "unknown" else quantization,
        config.get("model_family", ""),
        config.get("model_type", ""),
        ("ollama", "llama.cpp") if form == "gguf" and not remote else ("ollama",),
        "inference only" if manifest.layers else "",
    )
