"""Help with colours and panels (rich-click), imported when help is asked for: a listing does not pay for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

CONTEXT: Mapping[str, Any] = {
    "help_option_names": ["-h", "--help"],
    # --model_cache_dir is --model-cache-dir: for options and choices, never for arguments.
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


class Verb(click.Command):
    """A command whose help is drawn by rich-click."""

    def get_help(self, ctx: click.Context) -> str:
        """The help page."""
        import rich_click

        return _drawn(self, rich_click.RichCommand(**_settings(self)), ctx)


class VerbGroup(click.Group):
    """A group whose help is drawn by rich-click."""

    command_class = Verb

    def get_help(self, ctx: click.Context) -> str:
        """The help page, with the commands in this group's own order."""
        import rich_click

        names = self.list_commands(ctx)

        class Ordered(rich_click.RichGroup):
            def list_commands(self, ctx: click.Context) -> list[str]:
                return names

        commands = {name: command for name in names if (command := self.get_command(ctx, name)) is not None}
        return _drawn(
            self, Ordered(**_settings(self), commands=commands, invoke_without_command=self.invoke_without_command), ctx
        )


def _settings(command: click.Command) -> dict[str, Any]:
    return {
        "name": command.name,
        "params": command.params,
        "help": command.help,
        "epilog": command.epilog,
        "options_metavar": command.options_metavar,
        "context_settings": dict(CONTEXT),
    }


def _drawn(command: click.Command, twin: click.Command, ctx: click.Context) -> str:
    with twin.context_class(twin, info_name=ctx.info_name, parent=ctx.parent, **CONTEXT) as rich_ctx:
        return str(twin.get_help(rich_ctx))
