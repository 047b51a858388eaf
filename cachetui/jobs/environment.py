"""What a child process may know: everything but secrets, and of those what it needs (I14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

DOWNLOADS = frozenset({"pull"})
"""Kinds of jobs that ask the network with the user's token."""

_SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(ORIZATION)?$|COOKIE", re.I
)
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*@", re.I)
# What discovering roots looks at (config.Where, stores): variables of these programs, and any folder.
_PLACES = re.compile(
    r"(HF|HUGGINGFACE|TRANSFORMERS|OLLAMA|LLAMA|TORCH|XDG|MODELSCOPE|CUSTOM_MODEL|QWEN|CACHETUI)_|HOME$|.*_(DIR|HOME|CACHE|PATH)$"
)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable may hold a secret, by its name or because its value is a URL with a user in it."""
    return bool(_SECRET.search(name) or _USERINFO.search(value))


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for those who need no secret."""
    return {name: value for name, value in env.items() if not is_secret(name, value)}


def places(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that say where models lie: what a request carries, for it is written to disk."""
    return {name: value for name, value in without_secrets(env).items() if _PLACES.match(name)}


def of_child(kind: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker."""
    if kind in DOWNLOADS:
        return dict(env)
    return {**without_secrets(env), "HF_HUB_OFFLINE": "1"}
