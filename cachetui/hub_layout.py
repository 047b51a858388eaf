"""What the folders and files of a hub cache are called, and where the library looks for it.

Names follow huggingface_hub 2.4: constants.py (variables and their precedence), file_download.py (blobs, refs,
snapshots, markers), utils/_cache_manager.py (folder names), utils/_shared_blobs.py (the shared store).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from cachetui import afar, walk

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space", "kernels": "kernel"}
"""Prefix of a repo's folder to its kind (constants.REPO_TYPES_MAPPING)."""
ID_PREFIX = {"model": "hf:", "dataset": "hf:datasets/", "space": "hf:spaces/", "kernel": "hf:kernels/"}

SHARED = "blobs"
SHARED_MARKER = ".huggingface-shared-blobs"
SHARED_VERSION = b"1\n"
"""What the marker says in the only layout there is so far."""
SIDE_FILES = (".refs", ".lock", ".lock.soft")
"""What lies beside a payload of the shared store, by what follows its name."""
BOOKKEEPING = frozenset(("refs", "trees", ".no_exist"))
"""Folders of a repo that hold no content."""
LOCKS = ".locks"
TAG = "CACHEDIR.TAG"
OURS = ".cachetui"
"""Names of this program's own folders start with this (trash, journal, lock)."""
ROOT_FILES = frozenset((TAG, "version.txt", "version_diffusers_cache.txt", ".DS_Store", "Thumbs.db", "desktop.ini"))
"""Plain files of programs at the top of a hub cache: no items."""
IGNORED = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))
"""Files of operating systems that huggingface_hub skips everywhere (FILES_TO_IGNORE)."""

REPO_FOLDER = re.compile(r"(models|datasets|spaces|kernels)--(.+)", re.DOTALL)
COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
XET_HASH = re.compile(r"[0-9a-f]{64}")
SHARED_FOLDER = re.compile(r"[0-9a-f]{2}")
PARTIAL = re.compile(r".+\.incomplete|.+\.cachetui-part", re.DOTALL)
"""Downloads that did not end: huggingface_hub's `<etag>[.<8hex>].incomplete`, and this program's own."""
LITTER = re.compile(
    r"tmp_.*|.*\.(lock|part|tmp)|\..+\.(new|old|shared)",
    re.DOTALL,
)
"""What crashes and other clients leave among the blobs."""
REF_LITTER = re.compile(r".+\.[0-9a-f]{8}\.tmp", re.DOTALL)
"""A ref that was being written."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def decode_folder(name: str) -> tuple[str, str] | None:
    """(kind, repo id) of a repo's folder name, or None where it is no such name: `models--a--b` is (model, a/b)."""
    match = REPO_FOLDER.fullmatch(name)
    return None if match is None else (KINDS[match[1]], match[2].replace("--", "/"))


def is_content(path: str) -> bool:
    """Whether a regular file at this path of a hub cache is content, not bookkeeping."""
    parts = path.split("/")
    if len(parts) == 1:
        return not is_root_file(path)
    if REPO_FOLDER.fullmatch(parts[0]):
        return parts[1] not in BOOKKEEPING and (parts[-1] not in IGNORED or parts[1] not in ("snapshots", "blobs"))
    return parts[0] != LOCKS and not parts[0].startswith(OURS) and not (parts[0] == SHARED and is_side_file(parts[-1]))


def is_root_file(name: str) -> bool:
    """Whether a plain file at the top is no item."""
    return name in ROOT_FILES or name.startswith(OURS) or name.endswith(".lock")


def is_side_file(name: str) -> bool:
    """Whether a file of the shared store is a hint, a lock, a temporary or the marker, not a payload."""
    return name.endswith((*SIDE_FILES, ".tmp")) or name == SHARED_MARKER or name in IGNORED


def is_hub_layout(path: str) -> bool:
    """Whether a folder holds a hub cache: a repo's folder, a shared store or huggingface_hub's tag. Never raises."""
    if afar.is_silent(os.path.abspath(path)):
        return False
    try:
        with os.scandir(path) as entries:
            if any(REPO_FOLDER.fullmatch(e.name) and (e.is_symlink() or e.is_dir()) for e in entries):
                return True
    except OSError:
        return False
    if is_shared_store(os.path.join(path, SHARED)):
        return True
    try:
        return b"huggingface_hub" in walk.read_small(os.path.join(path, TAG), 4096)
    except OSError:
        return False


def is_shared_store(path: str) -> bool:
    """Whether a folder is marked as a shared store (`_shared_blobs.is_shared_blobs_dir`, of any version)."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) and stat.S_ISREG(
            os.lstat(os.path.join(path, SHARED_MARKER)).st_mode
        )
    except OSError:
        return False


def expand(path: str, env: Mapping[str, str], home: str) -> str:
    """`~` and then `$VAR`, `${VAR}`, as constants.py does with os.path; what is not set stays as it is."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    elif path.startswith("~"):
        path = os.path.expanduser(path)
    return _VARIABLE.sub(lambda m: env.get(m[1] if m[1] is not None else m[2], m[0]), path)


def hf_home(env: Mapping[str, str], home: str) -> str:
    """HF_HOME, else `${XDG_CACHE_HOME:-~/.cache}/huggingface`. An empty variable counts as set: "" is the cwd."""
    cache = env.get("XDG_CACHE_HOME", os.path.join(home, ".cache"))
    return expand(env.get("HF_HOME", os.path.join(cache, "huggingface")), env, home)


def hub_cache(env: Mapping[str, str], home: str) -> tuple[str, str]:
    """The hub cache and the variable that names it: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if name in env:
            return expand(env[name], env, home), name
    default = os.path.join(hf_home(env, home), "hub")
    origin = next((name for name in ("HF_HOME", "XDG_CACHE_HOME") if name in env), "default")
    return expand(default, env, home), origin
