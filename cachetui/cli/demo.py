"""cachetui demo: a small world to try everything on."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click

from cachetui.cli import common
from cachetui.cli.common import Failed
from cachetui.config import Where
from cachetui.text import safe

# Variables that lead programs to models elsewhere: in the demo's world they must not be there.
_LEADING = (
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_CACHE", "LLAMA_CACHE", "CUSTOM_MODEL_DIR", "QWEN_CACHE", "TORCH_HOME",
    "MODELSCOPE_CACHE", "OLLAMA_", "LMSTUDIO_",
)  # fmt: skip

_MEMORY = "/dev/shm"
"""A file system of its own on Linux, in memory."""
_ROOM = 300 * 10**6
"""Bytes free there that archiving the whole demo needs."""


def _leading(env: Mapping[str, str]) -> list[str]:
    return sorted(name for name in env if name.startswith(_LEADING))


def _temporary(stack: ExitStack, parent: str | None = None) -> str:
    name = tempfile.TemporaryDirectory(prefix="cachetui-demo-", dir=parent, ignore_cleanup_errors=True)
    return stack.enter_context(name)


def _other_drive(stack: ExitStack, folder: str) -> Path | None:
    """A folder on another file system, so that archiving can be tried too; None where there is none."""
    try:
        other = os.stat(_MEMORY).st_dev != os.stat(folder).st_dev
        if other and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
            return Path(_temporary(stack, _MEMORY), "attic")
    except OSError:
        pass
    return None


@common.verb()
@click.option("--build", metavar="DIR", help="Only build it in this new folder, and print the environment to use.")
@common.json_option
def demo(build: str | None, as_json: bool) -> int:
    """Try every key without risk, on a small made-up world.

    \b
    Examples:
      cachetui demo
      eval "$(cachetui demo --build /tmp/world)" && cachetui ls
    """
    from cachetui import demo as world

    if build is not None:
        try:
            env = world.build(Path(build))
        except OSError as e:
            raise Failed(safe(f"{build}: {e.strerror or e}")) from None
        if as_json:
            from cachetui.cli import data

            unset = [name for name in _leading(os.environ) if name not in env]
            values = {k: data.plain(v) for k, v in env.items()}
            data.emit({**data.path_fields(os.path.abspath(build)), "env": values, "unset": unset})
        else:
            for name in _leading(os.environ):
                if name not in env:
                    click.echo(f"unset {name}")
            for name, value in env.items():
                click.echo(f"export {name}={shlex.quote(value)}")
        return 0
    if as_json:
        raise click.UsageError("--json goes with --build DIR")
    common.must_have_terminal()
    with ExitStack() as stack:
        folder = _temporary(stack)
        env = world.build(Path(folder) / "world", drive=_other_drive(stack, folder))
        before = dict(os.environ)
        for name in _leading(os.environ):
            del os.environ[name]
        os.environ.update(env)
        try:
            return common.open_ui(Where.current())
        finally:
            os.environ.clear()
            os.environ.update(before)
