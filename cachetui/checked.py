"""JSON that anybody may have written: loaded with a cap, every value checked before it is used."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_TEXT = 4096
MAX_SIZE = 1 << 62
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class CheckError(Exception):
    """A file that cannot be used; the message says why, without the path."""


def load(path: str, limit: int) -> Any:
    """Parsed JSON of a regular file of bounded size; None where there is no such file. Raises CheckError."""
    try:
        fd = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise CheckError(f"it cannot be read: {(e.strerror or str(e)).lower()}") from e
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise CheckError("it is not a regular file")
        if st.st_size > limit:
            raise CheckError(f"it is larger than {limit // 2**20} MiB")
        with os.fdopen(os.dup(fd), "rb") as f:
            return json.loads(f.read(limit + 1))
    except OSError as e:
        raise CheckError(f"it cannot be read: {(e.strerror or str(e)).lower()}") from e
    except (ValueError, RecursionError) as e:
        raise CheckError("it is damaged: no JSON") from e
    finally:
        os.close(fd)


def mapping(value: Any, name: str = "") -> Mapping[str, Any]:
    """A JSON object; `name` is what it is called in the file, where it is not an archive's manifest."""
    if not isinstance(value, dict):
        what = f"{name} is no object" if name else "not what an archive's manifest looks like"
        raise CheckError(f"it is damaged: {what}")
    return value


def rows(body: Mapping[str, Any], key: str) -> list[Any]:
    """A list."""
    value = body.get(key)
    if not isinstance(value, list):
        raise CheckError(f"it is damaged: {key} is no list")
    return value


def strings(body: Mapping[str, Any], key: str) -> Iterator[str]:
    """The strings of a list."""
    for value in rows(body, key):
        yield text({key: value}, key)


def text(body: Mapping[str, Any], key: str) -> str:
    """A string that a file name could be; control characters are for `text.safe`."""
    value = body.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise CheckError(f"it is damaged: {key} is no name")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise CheckError(f"it is damaged: {key} is no name that a file could have") from None
    return value


def number(body: Mapping[str, Any], key: str) -> float:
    """A time in POSIX seconds."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e11:
        raise CheckError(f"it is damaged: {key} is no time")
    return float(value)


def size(body: Mapping[str, Any], key: str) -> int:
    """A number of bytes."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_SIZE:
        raise CheckError(f"it is damaged: {key} is no size")
    return value


def below(path: str, *, empty: bool = False) -> str:
    """A relative path that does not lead up; `empty`: "" is one too."""
    if empty and not path:
        return path
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise CheckError("a path in it leads out of the archive")
    return path


def absolute(path: str) -> str:
    """An absolute path without `..`."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise CheckError("an origin in it is no absolute path")
    return path
