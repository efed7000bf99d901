"""Numbers, units and names as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_SYMBOLS = (("Angstrom", "Å"), ("*", "·"), ("mu_B", "μB"), ("1/cm", "cm⁻¹"), ("cm-1", "cm⁻¹"))
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """Three significant digits, without an exponent where that stays readable."""
    if value == 0.0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    magnitude = int(f"{abs(value):.2e}".split("e")[1])
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def unit(name: str, width: int = 30) -> str:
    """A unit of the tables, or a text with some, in symbols: ``meV/Angstrom^3`` is meV/Å³."""
    for plain, symbol in _SYMBOLS:
        name = name.replace(plain, symbol)
    name = re.sub(r"\^(\d)", lambda power: power[1].translate(_RAISED), name)
    name = re.sub(r"\b1e-(\d+)\b", lambda power: f"10⁻{power[1].translate(_RAISED)}", name)
    return clean(name, width)


def amount(value: float) -> str:
    """A number with three digits and k, M or G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def clean(text: str, width: int = 100) -> str:
    """A name from a file as one printable line of at most ``width`` characters.

    Control characters, and those that reverse the direction of writing, become �. Escaping markup is left to whoever
    writes markup.
    """
    printable = "".join(character if character.isprintable() else "�" for character in " ".join(text.split()))
    return printable if len(printable) <= width else f"{printable[: width - 1]}…"


def printable(text: str) -> str:
    """Lines from a file for a terminal: control characters, which could move the cursor or worse, become �."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def html_table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of text as a table in HTML; markup in cells is shown, not followed."""
    cells = ("".join(f"<td style='text-align: left'>{escape(printable(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
