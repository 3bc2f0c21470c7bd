"""Script: a script with the options of compilation of `wsesim`: --machine, --set, --strategy, --placement, ..."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from wsesim.cli import ended
from wsesim.cli.commands import lowering_of
from wsesim.cli.parser import Parser, add_lowering


class Script:
    """A script with the options of compilation. Add the script's own arguments to `parser`."""

    def __init__(self, description: str | None, *, without: Collection[str] = ()) -> None:
        """`without`: options of compilation that the script decides itself."""
        self.parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        add_lowering(self.parser, without)
        self._without = frozenset(without)

    def run(self, main: Callable[[argparse.Namespace, dict[str, Any]], None]) -> int:
        """Calls `main` with the arguments and the keywords for `wsesim.compile`. Returns the exit status."""
        return ended(lambda: self._run(main, sys.argv[1:]))

    def _run(self, main: Callable[[argparse.Namespace, dict[str, Any]], None], arguments: Sequence[str]) -> int:
        options = self.parser.parse_args(arguments)
        lowering = lowering_of(options)
        fields = (field.name for field in dataclasses.fields(lowering))
        main(options, {name: getattr(lowering, name) for name in fields if name not in self._without})
        return 0
