"""The command line. Thin: parse, call the core, print (for people, or --json).

Exit codes: 0 done, 1 failed or partly failed or a TARGET that does not exist, 2 usage, 130 interrupted.
Each verb's module is imported when the verb is used, so that `ls` pays for nothing but itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from cachetui import __version__
from cachetui.cli.common import open_ui, say, to_where, where_options
from cachetui.cli.help import CONTEXT, VerbGroup

# Verb -> (module below cachetui.cli, name of its command there), in the order of --help.
VERBS = {
    "ls": ("ls", "ls"),
    "show": ("show", "show"),
    "rm": ("rm", "rm"),
    "undo": ("trash", "undo"),
    "trash": ("trash", "trash"),
    "archive": ("archive", "archive"),
    "restore": ("restore", "restore"),
    "adopt": ("adopt", "adopt"),
    "move-root": ("move_root", "move_root"),
    "jobs": ("jobs", "jobs"),
    "pull": ("pull", "pull"),
    "history": ("history", "history"),
    "pin": ("pins", "pin"),
    "unpin": ("pins", "unpin"),
    "state": ("state", "state"),
    "prompt": ("prompt", "prompt"),
    "verify": ("verify", "verify"),
    "quantize": ("quantize", "quantize"),
    "estimate": ("estimate", "estimate"),
    "info": ("info", "info"),
    "demo": ("demo", "demo"),
}
SECOND_NAMES = {"list": "ls"}


class Program(VerbGroup):
    """The verbs, loaded when used, and what every way of ending means."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of VERBS."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb; `list` is `ls`."""
        place = VERBS.get(SECOND_NAMES.get(cmd_name, cmd_name))
        if place is None:
            return None
        command = getattr(import_module(f"cachetui.cli.{place[0]}"), place[1])
        assert isinstance(command, click.Command)
        return command

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run, and exit with the code the contract says."""
        extra["standalone_mode"] = False
        sys.exit(_code_of(lambda: super(Program, self).main(args, *rest, **extra)))


def _code_of(run: Any) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter shows its escape
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("Interrupted.")
        return 130
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.message)
        return 2
    except click.ClickException as e:
        if isinstance(e, click.UsageError) and e.ctx is not None:
            say(e.ctx.get_usage().strip())
        say(f"Error: {e.format_message()}")
        return e.exit_code
    except BrokenPipeError:
        # Whoever read us is gone: nothing can be said any more, not even while the interpreter shuts down.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return 1
    except Exception:
        # Ours, not the user's. An exception's text may hold a name from disk, so the trace is made safe too.
        import traceback

        say(traceback.format_exc() + "This is a mistake in cachetui, please report it with the lines above.")
        return 1


@click.group(cls=Program, invoke_without_command=True, context_settings=dict(CONTEXT))
@where_options
@click.version_option(__version__, "--version", "-V", prog_name="cachetui", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, cache_dir: tuple[str, ...], search: tuple[str, ...]) -> int | None:
    """See every AI model on this machine, what it really costs, and delete without fear.

    Without a verb it opens the user interface.

    \b
    Examples:
      cachetui                                        look around
      cachetui ls --sort size --limit 10              what eats the disk
      cachetui rm --filter 'accessed>6mo' --dry-run   what could go
      cachetui undo                                   bring the last deletion back
    """
    if ctx.invoked_subcommand is not None:
        if cache_dir or search:
            raise click.UsageError(f"write --cache-dir and --search after the verb {ctx.invoked_subcommand!r}")
        return None
    return open_ui(to_where(cache_dir, search))


def main() -> NoReturn:
    """The program."""
    cli.main(prog_name="cachetui")
