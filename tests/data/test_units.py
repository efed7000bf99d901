"""Unit conversion against scipy's CODATA constants."""

import numpy as np
import pytest
from scipy import constants as si

from carten.errors import ConfigError
from carten.units import conversion

EV, BOHR, HARTREE = si.e, si.physical_constants["Bohr radius"][0], si.physical_constants["Hartree energy"][0]
DEBYE = 1e-21 / si.c
EPS = 4 * np.pi * si.epsilon_0
CASES = [
    ("meV", "eV", 1e-3),
    ("Hartree", "eV", HARTREE / EV),
    ("Ha/Bohr", "eV/Angstrom", HARTREE / EV / BOHR * 1e-10),
    ("Hartree/Bohr", "eV/A", HARTREE / EV / BOHR * 1e-10),
    ("kcal/mol", "eV", 4184 / si.N_A / EV),
    ("eV", "kJ/mol", EV * si.N_A / 1000),
    ("kcal/mol/Angstrom", "eV/Angstrom", 4184 / si.N_A / EV),
    ("Debye", "e*Angstrom", DEBYE / EV * 1e10),
    ("GPa", "eV/Angstrom^3", 1e9 * 1e-30 / EV),
    ("kbar", "eV/Å³", 1e8 * 1e-30 / EV),
    ("e*Bohr", "e*Angstrom", BOHR * 1e10),
    ("Bohr^3", "A^3", (BOHR * 1e10) ** 3),
    ("A^3", "e^2*A^2/eV", EPS * 1e-30 / (EV * 1e-20)),
    ("e^2*Angstrom^2/eV", "Angstrom^3", EV * 1e-20 / EPS / 1e-30),
    ("A^3/(V/A)", "e^3*A^3/eV^2", EPS * 1e-40 / (EV * 1e-30)),
    ("Hartree/(e*Bohr)", "V/Angstrom", HARTREE / EV / BOHR * 1e-10),
    ("", "1", 1.0),
    ("ppm", "", 1e-6),
    ("muB", "mu_B", 1.0),
    ("my own unit", "my own unit", 1.0),
]


@pytest.mark.parametrize(("source", "target", "factor"), CASES)
def test_factor(source: str, target: str, factor: float) -> None:
    # CODATA releases (2018 in pint, 2022 in scipy) differ by < 1e-9
    assert conversion(source, target) == pytest.approx(factor, rel=1e-8)
    assert conversion(source, target) * conversion(target, source) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("source", "target", "factor"), [("-kbar", "GPa", -0.1), ("-V/Angstrom", "V/Angstrom", -1.0)])
def test_a_minus_turns_the_sign_round(source: str, target: str, factor: float) -> None:
    assert conversion(source, target) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("eV", "Angstrom", ['"eV"', '"Angstrom"', "same quantity"]),
        ("Debye", "eV", ['"Debye"', '"eV"']),
        ("eV^2", "kcal^2/mol^2", ["same quantity"]),
        ("hartre", "eV", ['"hartre"', "did you mean Hartree"]),
        ("au", "eV", ["ambiguous"]),
        ("2*eV", "eV", ['"2*eV"', "not known"]),
        ("(eV", "eV", ["not known"]),
        ("$", "eV", ["not known"]),
        ("degC", "K", ["kelvin"]),
    ],
)
def test_errors_name_both_units_and_help(source: str, target: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        conversion(source, target)
    for word in words:
        assert word in str(error.value)


def test_wavenumbers_are_energies_where_energies_are_wanted():
    """h c = 1.239841984e-4 eV cm (CODATA 2018, exact)."""
    for name in ("cm^-1", "cm-1", "1/cm", "cm**-1", "cm^(-1)"):
        assert conversion(name, "eV") == pytest.approx(1.239841984332e-4, rel=1e-10)
        assert conversion(name, "cm^-1") == pytest.approx(1.0)
    assert conversion("-cm^-1", "meV") == pytest.approx(-0.1239841984332, rel=1e-10)
    assert conversion("cm^-1/Angstrom", "eV/Angstrom") == pytest.approx(1.239841984332e-4, rel=1e-10)
    assert conversion("eV", "cm^-1") == pytest.approx(8065.543937, rel=1e-9)
    assert conversion("cm^-1", "1/Angstrom") == pytest.approx(1e-8), "a wavenumber where one is wanted"
    with pytest.raises(ConfigError, match="same quantity"):
        conversion("1/Angstrom", "eV")


HOSTILE = (
    "9**9**9**9", "eV*9**9**9", "eV**9999999999", "(" * 5000 + "eV" + ")" * 5000, "eV" * 100_000, "-" * 5000 + "eV",
    "--eV", "eV\0", "eV{}", "eV;import os", "eV\nmeV", "\u202eeV", "eV(", ")(", "22**1e9 cm", "lambda: 1",
    "__import__('os')",
    "eV" + "*eV" * 80, "eV^(9^9^9)", "eV**(9**9)", "1e9**99",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_units_are_refused_at_once(name):
    """pint would calculate for ever, or leave out what it does not understand."""
    with pytest.raises(ConfigError) as error:
        conversion(name, "eV")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)
