"""Conversion of units, by pint with CODATA constants.

Names follow pint, plus the spellings common in atomistic data: ``Angstrom``, ``Ang`` and ``A`` are all the ångström
(``eV/A`` is a force; the ampere is ``ampere``), ``Hartree``, ``Ha``, ``Bohr``, ``Rydberg``, ``Debye``, ``muB``.
Three conversions change the dimension, because the published numbers do:

- *amount of substance*: ``kcal/mol`` and ``eV`` differ by Avogadro's number;
- *Gaussian units*: a polarizability is published as a volume (``A^3``, ``Bohr^3``), which is ``alpha / (4 pi eps0)``,
  or in SI form (``e^2 A^2/eV``, ``C m^2/V``). With ``4 pi eps0 = 0.0694 e^2/(eV A)`` they convert into each other, and
  so do ``A^3/(V/A)`` and ``e^3 A^3/eV^2`` of a hyperpolarizability;
- *wavenumbers*: ``cm^-1`` (also ``cm-1``, ``1/cm``) is an energy where an energy is wanted: ``h c / cm``.

A minus in front is for numbers with the other sign: ``-kbar`` of stresses that are pressures, ``-V/A`` of fields that
act on electrons.
"""

from __future__ import annotations

import difflib
import math
import re
import tokenize
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from carten.errors import ConfigError

if TYPE_CHECKING:
    import pint

    Quantity = pint.Quantity[Any]

_ALIASES = {
    "angstrom": ("Angstrom", "Ang", "A"),
    "hartree": ("Hartree", "Ha"),
    "bohr": ("Bohr",),
    "rydberg": ("Rydberg",),
    "debye": ("Debye",),
    "bohr_magneton": ("muB",),
}
_LONGEST = 200  # characters of a unit
_CHARACTERS = re.compile(r"[\w ^*/().+%°·⁻⁺-]*")
_LONG = re.compile(r"\w{41}|\({9}")
_POWER = re.compile(r"\^|\*\*")
_EXPONENT = re.compile(r"\s*\(?\s*[-+]?\d{1,2}(?:[./]\d{1,2})?(?!\d)\s*\)?(?!\s*(?:\^|\*\*))")
_WAVENUMBER = re.compile(r"\bcm\s*(?:(?:\^|\*\*)\s*\(?\s*-\s*1\s*\)?|⁻¹)|\b1\s*/\s*cm\b")
_AMBIGUOUS = ("au", "a.u.", "atomic units", "atomic_units")
_EXAMPLES = ("eV", "meV", "Hartree", "Bohr", "Angstrom", "kcal/mol", "kJ/mol", "Debye", "GPa", "kbar", "mu_B", "ppm")


@lru_cache(maxsize=1)
def _registry() -> pint.UnitRegistry[Any]:
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(on_redefinition="ignore")
    for name, aliases in _ALIASES.items():
        registry.define(f"@alias {name} = {' = '.join(aliases)}")
    registry.define("wavenumber_energy = planck_constant * speed_of_light / centimeter")
    return registry


def _unit(name: str) -> pint.Unit:
    import pint

    if name.strip().lower() in _AMBIGUOUS:
        raise ConfigError(
            f'unit "{name}" is ambiguous: atomic units differ by quantity; write "Hartree", "Hartree/Bohr", "Bohr^3"'
        )
    shown = repr(name[:60])[1:-1]
    near = difflib.get_close_matches(shown, _EXAMPLES, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known are e.g. {', '.join(_EXAMPLES)}"
    if not _is_simple(name):
        raise ConfigError(f'unit "{shown}" is not known: expected a product of units and their powers{hint}')
    try:
        return _registry().parse_units(name.strip())
    except (pint.PintError, tokenize.TokenError, ArithmeticError, AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f'unit "{shown}" is not known{hint}') from error


def _is_simple(name: str) -> bool:
    """Whether a unit is short and has small exponents: pint evaluates what it is given, as ``9**9**9**9``."""
    exponents = [_EXPONENT.match(name, power.end()) for power in _POWER.finditer(name)]
    return (
        len(name) <= _LONGEST
        and not name.strip().startswith(("-", "+"))
        and bool(_CHARACTERS.fullmatch(name))
        and not _LONG.search(name)
        and None not in exponents
    )


def _bridges() -> tuple[Quantity, ...]:
    """Constants by which published numbers of one quantity differ in dimension (module docstring), and 1."""
    registry = _registry()
    avogadro = registry.Quantity(1.0, "avogadro_constant")
    gaussian = registry.Quantity(4.0 * math.pi, "vacuum_permittivity")
    return (registry.Quantity(1.0, ""), avogadro, 1 / avogadro, gaussian, 1 / gaussian)


@lru_cache(maxsize=256)
def conversion(from_unit: str, to_unit: str) -> float:
    """Factor f with ``value[to_unit] = f * value[from_unit]``.

    Args:
        from_unit: unit of the number at hand, e.g. ``"kcal/mol/Angstrom"``; ``""`` is dimensionless, ``"-eV"`` turns
            the sign round.
        to_unit: unit wanted. Two equal units need not be known: the factor is 1.

    Raises:
        ConfigError: a unit is unknown or has an offset (degree Celsius), or the two do not measure the same quantity.

    Source: constants CODATA (Mohr, Newell, Taylor, Tiesinga), as shipped with pint.
    """
    if from_unit == to_unit:
        return 1.0
    if from_unit.startswith("-") and not from_unit.startswith("--"):
        return -conversion(from_unit[1:], to_unit)
    return _factor(from_unit, to_unit)


def _factor(from_unit: str, to_unit: str) -> float:
    from_unit, to_unit = (re.sub(r"\bcm-1\b", "cm^-1", name) for name in (from_unit, to_unit))
    source, target = (_registry().Quantity(1.0, _unit(name)) for name in (from_unit, to_unit))
    if not (source._is_multiplicative and target._is_multiplicative):
        raise ConfigError(f'units "{from_unit}" and "{to_unit}" differ by an offset, not a factor; use kelvin')
    for bridge in _bridges():
        if (source * bridge).dimensionality == target.dimensionality:
            return float((source * bridge).to(target.units).magnitude)
    as_energies = [_WAVENUMBER.sub("wavenumber_energy", name) for name in (from_unit, to_unit)]
    if as_energies != [from_unit, to_unit]:
        return _factor(*as_energies)
    raise ConfigError(
        f'unit "{from_unit}" [{source.dimensionality}] cannot be converted to "{to_unit}" [{target.dimensionality}]: '
        "they do not measure the same quantity; correct the unit given for this label"
    )
