"""Constants of physics in the units of carten."""

from ase import units

COULOMB = units.Hartree * units.Bohr
"""``e^2 / (4 pi eps0)`` in eV Å: 14.39964, CODATA as shipped with ASE."""

HBAR = 1e15 * units._hbar / units._e
"""eV fs."""
BOHR_MAGNETON = units._hbar / (2.0 * units._me)
"""eV/T."""
GYROMAGNETIC = 2.00231930436 / HBAR
"""Of the electron's spin: rad/fs for each eV/mu_B of the field at a moment (CODATA's g)."""
