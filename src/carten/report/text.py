"""Numbers and units as people read them."""

from __future__ import annotations

_NICE = (("Angstrom", "Å"), ("^3", "³"), ("^2", "²"), ("*", "·"), ("mu_B", "μB"))


def number(value: float) -> str:
    """Three significant digits, without an exponent where that stays readable."""
    if value == 0.0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    magnitude = int(f"{abs(value):.2e}".split("e")[1])
    return f"{value:,.{max(0, 2 - magnitude)}f}"


def unit(name: str) -> str:
    """A unit of the tables, nicely: ``meV/Angstrom^3`` is meV/Å³."""
    for plain, nice in _NICE:
        name = name.replace(plain, nice)
    return name


def amount(value: float) -> str:
    """A number with three digits and k, M or G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
