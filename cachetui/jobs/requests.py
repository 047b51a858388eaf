"""What each kind of job is asked for: one way to write a request, whoever asks, and to read it in the worker.

A request is kept in a file, so it holds no secrets. The id of a job is made from what it does: asking for the same
again goes on with the same job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from cachetui.config import Config, Where
from cachetui.jobs import environment, ground
from cachetui.jobs.model import Json, Spec

Target = tuple[str, str]
"""(path of the root, TARGET in it)."""

_SHOWN = 3
_PLAIN = ("accept", "bulk", "digest", "where")
"""Keys that do not tell one job from another."""


def archive(
    where: Where,
    targets: Sequence[Target],
    to: str,
    *,
    keep: bool = False,
    keep_original: bool = False,
    bulk: bool = False,
    accept: Iterable[str] = (),
    digest: str = "",
) -> Spec:
    """Copy items to the archive at `to`, and unless `keep` put links in their place; `bulk` as in the plan shown."""
    request = {
        "targets": _targets(targets),
        "to": to,
        "keep": keep,
        "keep_original": keep_original,
        "bulk": bulk,
        **_common(where, accept, digest),
    }
    return _spec("archive", f"archive {_names(targets)} to {to}", request, (to,), resumable=True)


def restore(
    where: Where,
    targets: Sequence[Target],
    *,
    keep: bool = False,
    accept: Iterable[str] = (),
    digest: str = "",
    archives: Sequence[str] = (),
) -> Spec:
    """Bring items back from the archives (folders) they lie in; with `keep` their copies stay there."""
    request = {"targets": _targets(targets), "keep": keep, **_common(where, accept, digest)}
    written = (*(root for root, _ in targets), *(() if keep else archives))
    return _spec("restore", f"restore {_names(targets)}", request, written, resumable=True)


def move_root(
    where: Where,
    root: str,
    to: str,
    *,
    keep_original: bool = False,
    accept: Iterable[str] = (),
    digest: str = "",
) -> Spec:
    """Move a whole root to the folder `to`, leaving a link."""
    request = {"root": root, "to": to, "keep_original": keep_original, **_common(where, accept, digest)}
    return _spec("move-root", f"move {root} to {to}", request, (to,), resumable=True)


def verify(where: Where, targets: Sequence[Target] = (), *, full: bool = False) -> Spec:
    """Compare items (all of them when none is named) with their hashes; `full` also what did not change."""
    request = {"targets": _targets(targets), "full": full, "where": where_data(where)}
    return _spec("verify", f"verify {_names(targets) if targets else 'everything'}", request, (), resumable=False)


def pull(job: Json, into: str) -> Spec:
    """Download what a plan's `job()` says; `into`: the folder that is written (empty for Ollama's server)."""
    return _spec("pull", f"pull {job['target']}", job, (into,) if into else (), resumable=True)


def quantize(job: Json) -> Spec:
    """Quantize what a plan's `job()` says and keep the result."""
    return _spec("quantize", f"quantize {job['target']} to {job['label']}", job, (job["folder"],), resumable=False)


def self_test(folder: str) -> Spec:
    """Try quantizing, keeping and loading in a folder."""
    return _spec("self-test", f"test quantizing in {folder}", {"folder": folder}, (folder,), resumable=False)


def adopt(
    where: Where,
    targets: Sequence[Target] = (),
    directory: str = "",
    *,
    accept: Iterable[str] = (),
    digest: str = "",
) -> Spec:
    """Take up an archive (a folder), or items whose links lead nowhere or to what was moved by hand."""
    request = {"targets": _targets(targets), "directory": directory, **_common(where, accept, digest)}
    written = (directory,) if directory else tuple(root for root, _ in targets)
    return _spec("adopt", f"adopt {directory or _names(targets)}", request, written, resumable=True)


def where_data(where: Where) -> Json:
    """Where to look, as JSON."""
    return {
        "env": environment.places(where.env),
        "home": where.home,
        "cwd": where.cwd,
        "cache_dirs": list(where.cache_dirs),
        "search_roots": list(where.search_roots),
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(where.config).items()},
    }


def where_of(body: Json) -> Where:
    """The inverse of `where_data`. Raises KeyError or TypeError for what is none."""
    config: Json = {k: tuple(v) if isinstance(v, list) else v for k, v in body["config"].items()}
    return Where(
        dict(body["env"]),
        str(body["home"]),
        str(body["cwd"]),
        tuple(body["cache_dirs"]),
        tuple(body["search_roots"]),
        Config(**config),
    )


def targets_of(request: Json) -> tuple[Target, ...]:
    """The targets of a request. Raises KeyError for what is none."""
    return tuple((str(t["root"]), str(t["target"])) for t in request["targets"])


def _targets(targets: Sequence[Target]) -> list[Json]:
    return [{"root": root, "target": target} for root, target in targets]


def _common(where: Where, accept: Iterable[str], digest: str) -> Json:
    return {"accept": sorted(accept), "digest": digest, "where": where_data(where)}


def _names(targets: Sequence[Target]) -> str:
    shown = ", ".join(target for _, target in targets[:_SHOWN])
    return shown + (f" and {len(targets) - _SHOWN} more" if len(targets) > _SHOWN else "")


def _spec(kind: str, title: str, request: Json, written: Sequence[str], *, resumable: bool) -> Spec:
    telling = {key: value for key, value in request.items() if key not in _PLAIN}
    key = hashlib.sha256(json.dumps([kind, telling], sort_keys=True).encode("ascii")).hexdigest()[:16]
    drives = tuple(dict.fromkeys(ground.drive_of(path) for path in written))
    return Spec(f"{kind}-{key}", kind, title, request, drives, resumable, tuple(dict.fromkeys(written)))
