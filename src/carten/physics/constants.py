"""Constants of physics in the units of carten."""

from ase import units

COULOMB = units.Hartree * units.Bohr
"""``e^2 / (4 pi eps0)`` in eV Å: 14.39964, CODATA as shipped with ASE."""

CHARGE = "total_charge"
FIELD = "electric_field"
FRAGMENT = "fragment"
FRAGMENT_CHARGE = "fragment_charge"
"""Names of inputs that charges look at."""

ELECTRONEGATIVITIES = "electronegativities"
HARDNESSES = "hardnesses"
"""Names of the properties that charges which equilibrate follow from."""
