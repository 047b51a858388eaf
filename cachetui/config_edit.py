"""One value of config.toml changed; every other byte, its mode and the link it may be stay as they are (I15)."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from cachetui import paths
from cachetui.config import ConfigError
from cachetui.fs import DISK, Fs, open_dir

_MODE = 0o644


def save_value(key: str, value: str, *, file: Path | None = None, fs: Fs = DISK) -> None:
    """Set a top-level text value in the user's config.toml, which is made where it is missing.

    Raises ConfigError when the file cannot be read or belongs to somebody else, OSError when it cannot be written.
    """
    path = os.path.realpath(paths.config_file() if file is None else file)
    fs.make_path(os.path.dirname(path))
    try:
        before = Path(path).read_bytes()
        st = os.stat(path)
    except FileNotFoundError:
        before, mode = b"", _MODE
    else:
        if st.st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user; write {key} = {value!r} into it by hand")
        mode = stat.S_IMODE(st.st_mode)
    after = _edited(before, key, value, path)
    if after != before:
        _replace(fs, path, after, mode)


def _edited(before: bytes, key: str, value: str, path: str) -> bytes:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = before.decode()
        document = tomlkit.parse(text)
    except (UnicodeDecodeError, TOMLKitError) as e:
        raise ConfigError(f"{path}: {e}; correct it or move it away") from e
    if key not in document and not any(isinstance(v, dict) for v in document.values()):
        end = "\r\n" if "\r\n" in text else "\n"  # tomlkit would end the new line with \n
        gap = "" if not text or text.endswith("\n") else end
        return f"{text}{gap}{key} = {tomlkit.string(value).as_string()}{end}".encode()
    document[key] = value
    return tomlkit.dumps(document).encode()


def _replace(fs: Fs, path: str, content: bytes, mode: int) -> None:
    folder, name = os.path.split(path)
    temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    parent = open_dir(folder)
    try:
        fd = fs.create(parent, temporary)
        try:
            try:
                fs.write_at(fd, content, 0)
                fs.chmod(fd, mode)
                fs.fsync(fd)
            finally:
                os.close(fd)
            fs.replace(parent, temporary, parent, name)
        except OSError:
            with suppress(OSError):
                fs.unlink(parent, temporary)
            raise
        fs.fsync(parent)
    finally:
        os.close(parent)
