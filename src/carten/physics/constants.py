"""Constants of physics in the units of carten."""

from ase import units

COULOMB = units.Hartree * units.Bohr
"""``e^2 / (4 pi eps0)`` in eV Å: 14.39964, CODATA as shipped with ASE."""
