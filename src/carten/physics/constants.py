"""Constants of physics in the units of carten."""

from ase import units

COULOMB = units.Hartree * units.Bohr
"""``e^2 / (4 pi eps0)`` in eV Å: 14.39964, CODATA as shipped with ASE."""

CHARGE = "total_charge"
FIELD = "electric_field"
"""Names of inputs that terms look at."""
