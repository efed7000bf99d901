"""Names of inputs and properties that charges look at."""

CHARGE = "total_charge"
FIELD = "electric_field"
FRAGMENT = "fragment"
FRAGMENT_CHARGE = "fragment_charge"

ELECTRONEGATIVITIES = "electronegativities"
HARDNESSES = "hardnesses"
"""Properties that charges which equilibrate follow from."""

POLARIZABILITIES = "latent_polarizabilities"
"""Property that induced dipoles follow from."""
