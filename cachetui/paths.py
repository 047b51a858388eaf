"""The program's own folders (platformdirs), and nothing else's."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_NAME = "cachetui"


def config_file() -> Path:
    """config.toml."""
    return platformdirs.user_config_path(_NAME) / "config.toml"


def pins_file() -> Path:
    """pins.json: what the user protected."""
    return platformdirs.user_data_path(_NAME) / "pins.json"


def usage_file() -> Path:
    """usage.jsonl: when a model was last seen in use; an atime can be reset by any backup, this cannot."""
    return platformdirs.user_state_path(_NAME) / "usage.jsonl"


def history_file() -> Path:
    """history.jsonl: what this program did, one operation a line."""
    return platformdirs.user_state_path(_NAME) / "history.jsonl"


def fallback_journal_dir() -> Path:
    """Where the journal goes when the root's own file system has no room for it."""
    return platformdirs.user_state_path(_NAME) / "journal"


def moved_file() -> Path:
    """moved: trash folders beside which a root as a whole was exchanged with a link, one a line."""
    return platformdirs.user_state_path(_NAME) / "moved"


def archives_file() -> Path:
    """archives.json: which archives this machine knows, where they were last seen and what lies in them."""
    return platformdirs.user_state_path(_NAME) / "archives.json"


def verified_file() -> Path:
    """verified.sqlite: hashes of files as they were, so that verifying again reads only what changed."""
    return platformdirs.user_cache_path(_NAME) / "verified.sqlite"


def jobs_file() -> Path:
    """jobs.json: work that can go on, and which process does it."""
    return platformdirs.user_state_path(_NAME) / "jobs.json"


def subsets_file() -> Path:
    """subsets.json: which files of a repo were asked for, where not all were."""
    return platformdirs.user_state_path(_NAME) / "subsets.json"


def states_dir() -> Path:
    """states: where saved states go unless another folder is named."""
    return platformdirs.user_data_path(_NAME) / "states"


def state_folders_file() -> Path:
    """state_folders.json: folders of the user's own in which states were saved."""
    return platformdirs.user_state_path(_NAME) / "state_folders.json"


def torch_dir() -> Path:
    """torch: what torch would otherwise leave in the folder for temporary files as soon as it is imported."""
    return platformdirs.user_cache_path(_NAME) / "torch"
