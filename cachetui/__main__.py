"""The program's start: `cachetui` and `python -m cachetui`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The user interface at once when nothing else is asked for: the command line's own imports would delay it."""
    if len(sys.argv) == 1 and sys.stdin.isatty() and sys.stdout.isatty():
        from cachetui.config import ConfigError, Where

        try:
            where = Where.current()
        except (ConfigError, OSError):
            pass  # the command line says what is wrong
        else:
            from cachetui.tui.app import run

            sys.exit(run(where))
    from cachetui.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
