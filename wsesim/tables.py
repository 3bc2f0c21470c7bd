"""Tables for people: aligned text for a terminal, HTML for a notebook. A leaf: every package may print with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Table:
    """A title, rows of cells, and lines below them. `heading`: the first row holds the names of the columns."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    heading: bool = False
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The title, the aligned rows and the notes, one below the other; what is empty is left out."""
        parts = (self.title, aligned(self.rows) if self.rows else "", *(f"  {note}" for note in self.notes))
        return "\n".join(part for part in parts if part)

    def html(self) -> str:
        """One `<table>` that needs no other resource; every cell is escaped."""
        widest = max(map(len, self.rows), default=1)
        body = [
            _html_row(row, widest, "th" if self.heading and number == 0 else "td")
            for number, row in enumerate(self.rows)
        ]
        body += [_html_row((note,), widest, "td") for note in self.notes]
        title = f'<caption style="text-align: left">{escape(self.title)}</caption>' if self.title else ""
        return f"<table>{title}{''.join(body)}</table>"


def text_of(tables: Iterable[Table]) -> str:
    """The tables' texts, one below the other."""
    return "\n".join(table.text() for table in tables)


def html_of(tables: Iterable[Table]) -> str:
    """The tables' HTML, one below the other."""
    return "".join(table.html() for table in tables)


def _html_row(cells: Sequence[str], widest: int, tag: str) -> str:
    """The last cell of a short row spans the columns that the row lacks. The first is flush left, the others right."""
    parts = []
    for number, cell in enumerate(cells):
        span = f' colspan="{widest - number}"' if number == len(cells) - 1 and len(cells) < widest else ""
        side = "left" if number == 0 else "right"
        parts.append(f'<{tag}{span} style="text-align: {side}">{escape(cell)}</{tag}>')
    return f"<tr>{''.join(parts)}</tr>"


def aligned(rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Columns: the first flush left, the others flush right."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return "\n".join(
        indent
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        )
        for row in rows
    )


def si_seconds(seconds: float) -> str:
    """Seconds with the unit that suits their size."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns"


def si_bytes(count: int) -> str:
    """Bytes with the unit that suits their number."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} B"


def shortened(text: str, most: int) -> str:
    """At most `most` characters of a text, as a literal on one line."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")
