"""Setting one value of config.toml changes nothing else."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from cachetui import config
from cachetui.config import ConfigError
from cachetui.config_edit import save_value


def test_a_missing_file_is_made(home: Path) -> None:
    save_value("theme", "nord")
    assert config.load().theme == "nord"
    save_value("theme", "dracula")
    assert (home / ".config/cachetui/config.toml").read_bytes() == b'theme = "dracula"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'# mine\r\ntheme  =  "a" # now\r\nx=1\r\n', b'# mine\r\ntheme  =  "b" # now\r\nx=1\r\n'),
        (b"cache_dirs = [\n  '/x', # one\n]", b"cache_dirs = [\n  '/x', # one\n]\ntheme = \"b\"\n"),
        (b"binary_units = true\r\n", b'binary_units = true\r\ntheme = "b"\r\n'),
        (b"\n\n  # nothing else  \n", b'\n\n  # nothing else  \ntheme = "b"\n'),
    ],
)  # fmt: skip
def test_every_other_byte_stays(tmp_path: Path, before: bytes, after: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(before)
    save_value("theme", "b", file=file)
    assert file.read_bytes() == after
    assert tomllib.loads(file.read_text())["theme"] == "b"


def test_mode_and_link_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text('theme = "a"\n')
    real.chmod(0o640)
    link = tmp_path / "config.toml"
    link.symlink_to(real.name)
    save_value("theme", "b", file=link)
    assert link.is_symlink() and real.read_text() == 'theme = "b"\n'
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["config.toml", "dotfiles.toml", "home"]


def test_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("theme = [")
    with pytest.raises(ConfigError, match="correct it"):
        save_value("theme", "b", file=file)
    assert file.read_text() == "theme = ["
