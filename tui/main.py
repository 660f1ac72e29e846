"""The console command `torch-tui`: what must be set before anything is imported, and the shortest way to the studio."""

from __future__ import annotations

import os
import sys

from engine.devices.allocator import one_arena
from engine.errors import StudioError
from engine.start import before_screen, importing, own_environment
from tui.commands.complaints import complain, complain_of_fault
from tui.commands.unknown import check_command


def main() -> None:
    """Obey the command line."""
    os.environ.update(own_environment(os.environ))
    _tame_output()
    one_arena()  # before there are other threads
    try:
        if len(sys.argv) == 1 and on_terminal():
            before_screen()
            from tui.app import run_studio  # typer takes 35 ms to import, and there is nothing to parse

            sys.exit(run_studio())
        with importing():
            from tui.cli import app
        arguments = spelled_out(sys.argv[1:])
        check_command(arguments, app)
        app(arguments, prog_name="torch-tui")
    except StudioError as error:
        complain(error)
        sys.exit(2)
    except Exception as error:  # a traceback never reaches the screen
        complain_of_fault(error)
        sys.exit(1)


def on_terminal() -> bool:
    """Whether there is a terminal to open the studio on."""
    ends = (sys.stdin, sys.stdout)  # None where the caller has closed it
    if not all(end is not None and end.isatty() for end in ends):
        return False
    return os.environ.get("TERM") not in (None, "dumb", "unknown")


def spelled_out(arguments: list[str]) -> list[str]:
    """`torch-tui my.toml` is short for `torch-tui open my.toml`: no command ends in .toml.

    `--runs` may stand before it, as before any command.
    """
    options = 0
    if arguments and arguments[0].partition("=")[0] == "--runs":
        options = 1 if "=" in arguments[0] else 2
    short = len(arguments) > options and arguments[options].endswith(".toml")
    return [*arguments[:options], "open", *arguments[options:]] if short else arguments


def _tame_output() -> None:
    """Each line leaves at once, and a character that the terminal can't show becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `torch-tui runs >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="replace")


if __name__ == "__main__":
    main()
