"""What the user writes to name a download: hf:ORG/NAME[@REV][:PATH], ollama:NAME[:TAG]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cachetui.download import errors
from cachetui.download.errors import PullError

_KINDS = {"models/": "model", "datasets/": "dataset", "spaces/": "space", "kernels/": "kernel"}
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_MAX_NAME = 96


@dataclass(frozen=True, slots=True)
class HubName:
    """A repo, or one file of it, on a Hub."""

    kind: str
    """model, dataset, space or kernel."""
    repo: str
    revision: str = "main"
    path: str = ""
    """One file or folder of it; empty for all."""

    @property
    def folder(self) -> str:
        """Of the repo in a hub cache (file_download.repo_folder_name)."""
        return "--".join((f"{self.kind}s", *self.repo.split("/")))

    @property
    def target(self) -> str:
        """As a TARGET."""
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"hf:{prefix}{self.repo}"


def parse_hub(text: str) -> HubName:
    """`hf:ORG/NAME@REV:PATH`, with or without `hf:`. Raises PullError."""
    rest = text.removeprefix("hf://").removeprefix("hf:")
    kind = "model"
    for prefix, named in _KINDS.items():
        if rest.startswith(prefix):
            kind, rest = named, rest[len(prefix) :]
    base, _, path = rest.partition(":")
    repo, at, revision = base.partition("@")
    if not _REPO.fullmatch(repo) or len(repo) > _MAX_NAME or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise PullError(
            errors.USAGE, f"{text} names no repo", "write it like hf:ORG/NAME, hf:ORG/NAME@REV or hf:ORG/NAME:FILE"
        )
    if at and not is_revision(revision):
        raise PullError(errors.USAGE, f"{revision!r} is no revision", "a branch, a tag, refs/pr/N or a commit hash")
    if path and not is_path(path):
        raise PullError(errors.USAGE, f"{path!r} is no path inside a repo", "")
    return HubName(kind, repo, revision or "main", path)


def is_revision(text: str) -> bool:
    """Whether it can be the name of a branch or tag, and so of a file below refs/ (git-check-ref-format)."""
    parts = text.split("/")
    bad = any(p in ("", ".", "..") or p.startswith(".") or p.endswith((".lock", ".tmp")) for p in parts)
    return not bad and len(text) < 200 and not re.search(r"[\x00-\x20~^:?*\[\\\x7f]|@\{", text)


def is_path(text: str) -> bool:
    """Whether a file of a repo may have this path: it stays inside the folder (_validate_relative_filename)."""
    if not text or "\\" in text or "\0" in text or re.match(r"[A-Za-z]:", text):
        return False
    return all(p not in ("", ".", "..") and len(p.encode("utf-8", "replace")) < 256 for p in text.split("/"))
