"""What the user configured: config.toml, and what one run adds on the command line."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from cachetui import paths


class ConfigError(Exception):
    """The configuration file cannot be used; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Config:
    """config.toml. Every key is optional."""

    cache_dirs: tuple[str, ...] = ()
    """Folders to look at besides the defaults (like --cache-dir)."""
    search_roots: tuple[str, ...] = ()
    """Folders below which project-local caches (`model_cache`, `.mlx_cache`, HF_CACHE_DIR in .env) are looked for."""
    archives: tuple[str, ...] = ()
    """Folders that are archives, for drives on which they lie deeper than is looked by itself."""
    archive_dir: str = ""
    """Where `archive` puts things when --to is not given."""
    state_dir: str = ""
    """Where `state save` puts states when --output is not given; CACHETUI_STATES goes before it."""
    quant_dir: str = ""
    """Where quantized models are kept when --quant-dir is not given; it goes before QWEN_CACHE."""
    quant_max_age: int = 0
    """Days after which an entry that was not used goes to the trash by itself; 0: never."""
    binary_units: bool = False
    """Sizes in GiB instead of GB."""
    theme: str = ""
    """Name of the UI theme."""
    card: str = ""
    """What the UI compares models with: a card's name or its memory (`8GB`); empty for this machine."""
    context: str = ""
    """Tokens that the UI's estimates are for; empty for 4,096, or less where a model was made for less."""
    warm_seconds: int = 300
    """A loaded model that is not asked for so long is freed; 0: never."""


def load(path: Path | None = None) -> Config:
    """The configuration of this user; defaults where there is no file. Raises ConfigError on a bad one."""
    file = paths.config_file() if path is None else path
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{file}: {e}; correct it or move it away") from e
    lists = {}
    for key in ("cache_dirs", "search_roots", "archives"):
        value = data.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f'{file}: {key} must be a list of folders, e.g. {key} = ["~/projects"]')
        lists[key] = tuple(value)
    binary, theme, archive_dir = data.pop("binary_units", False), data.pop("theme", ""), data.pop("archive_dir", "")
    if not isinstance(binary, bool) or not isinstance(theme, str):
        raise ConfigError(f"{file}: binary_units must be true or false, theme a name in quotes")
    if not isinstance(archive_dir, str):
        raise ConfigError(f'{file}: archive_dir must be a folder in quotes, e.g. archive_dir = "/mnt/big/models"')
    state_dir = data.pop("state_dir", "")
    if not isinstance(state_dir, str):
        raise ConfigError(f'{file}: state_dir must be a folder in quotes, e.g. state_dir = "~/states"')
    quant_dir, quant_max_age = data.pop("quant_dir", ""), data.pop("quant_max_age", 0)
    if not isinstance(quant_dir, str) or type(quant_max_age) is not int or quant_max_age < 0:
        raise ConfigError(
            f"{file}: quant_dir must be a folder in quotes, quant_max_age a number of days, e.g. quant_max_age = 90"
        )
    card, context = data.pop("card", ""), data.pop("context", "")
    if not isinstance(card, str) or not (isinstance(context, str) and (not context or context.isdecimal())):
        raise ConfigError(f'{file}: card and context must be in quotes, e.g. card = "RTX 2080", context = "8192"')
    warm = data.pop("warm_seconds", 300)
    if type(warm) is not int or warm < 0:
        raise ConfigError(f"{file}: warm_seconds must be a number of seconds, e.g. warm_seconds = 300; 0: for ever")
    if data:
        known = ", ".join(f.name for f in fields(Config))
        raise ConfigError(f"{file}: unknown key {next(iter(data))!r}; known: {known}")
    return Config(
        lists["cache_dirs"],
        lists["search_roots"],
        lists["archives"],
        archive_dir,
        state_dir,
        quant_dir,
        quant_max_age,
        binary,
        theme,
        card,
        context,
        warm,
    )


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look: all that discovering roots depends on, as a value, so that tests and the demo give their own."""

    env: Mapping[str, str]
    home: str
    cwd: str
    cache_dirs: tuple[str, ...] = ()
    """From the command line and config, as given."""
    search_roots: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)

    @classmethod
    def current(
        cls,
        cache_dirs: tuple[str, ...] = (),
        search_roots: tuple[str, ...] = (),
        config: Config | None = None,
    ) -> Where:
        """Of this process. Raises ConfigError."""
        config = load() if config is None else config
        return cls(
            dict(os.environ),
            str(Path.home()),
            os.getcwd(),
            cache_dirs + config.cache_dirs,
            search_roots + config.search_roots,
            config,
        )

    def allows(self, real: str) -> bool:
        """Whether a real path may be looked at: the demo sets CACHETUI_ONLY_BELOW to its own folder.

        CACHETUI_AND_BELOW, a folder on another drive, is then allowed too.
        """
        if not self.env.get("CACHETUI_ONLY_BELOW"):
            return True
        folders = (self.env.get(name, "") for name in ("CACHETUI_ONLY_BELOW", "CACHETUI_AND_BELOW"))
        return any(os.path.join(real, "").startswith(os.path.join(os.path.realpath(f), "")) for f in folders if f)

    def resolve(self, path: str, *, variables: bool = False) -> str:
        """A path as a user writes it: `~` expanded (with this home), `$VAR` where asked, made absolute against cwd."""
        if variables:
            for name, value in self.env.items():
                path = path.replace("${" + name + "}", value)
            path = "/".join(self.env.get(p[1:], p) if p.startswith("$") else p for p in path.split("/"))
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        return os.path.normpath(os.path.join(self.cwd, path))
