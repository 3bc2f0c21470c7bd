"""The command line: `wsesim COMMAND`; `wsesim/cli/parser.py` lists the commands.

A user's mistake prints one line on standard error; the exit status is 2. It is 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import io
import os
import sys

from wsesim import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def script() -> NoReturn:
    """The program `wsesim`. From here on, signals end the process with their status."""
    signals.exit_at_once()
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status."""
    return ended(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def ended(run: Callable[[], int]) -> int:
    """Runs `run` and returns its exit status. A user's mistake prints one line on standard error."""
    from wsesim.errors import WsesimError

    try:
        status = signals.guarded(run)
        _forget_output()  # of an interrupted command; others have flushed it
        return status
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _forget_output()
        return 0  # the reader has closed the pipe: it has enough
    except (WsesimError, OSError, MemoryError) as error:
        from wsesim.cli.messages import as_typed

        print(f"error: {as_typed(str(error) or 'out of memory')}", file=sys.stderr)
        _forget_output()
        return 2


def _run(arguments: Sequence[str]) -> int:
    from wsesim.cli.parser import make_parser

    options = make_parser().parse(arguments)
    _replace_unprintable()
    status = int(options.run(options))
    sys.stdout.flush()
    return status


def _replace_unprintable() -> None:
    """Makes streams print `?` for bytes of a prompt that are no text, and for characters that the terminal lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _forget_output() -> None:
    """Drops the output that cannot be written. Otherwise Python would try again at its exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
