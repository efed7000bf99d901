"""The two tables: what a model predicts and what it takes as input. Everything else is derived from these rows.

Routes are ways to obtain a property, the default first. Users declare more rows in the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

from carten.model.conditions import Category, Coupled, Exchange, Fidelity, Input, Scalar, Tensor
from carten.physics.names import (
    CHARGE,
    ELECTRONEGATIVITIES,
    FIELD,
    FRAGMENT,
    FRAGMENT_CHARGE,
    HARDNESSES,
    POLARIZABILITIES,
)
from carten.properties.routes import (
    NET_CHARGE,
    AtomicVirial,
    Balanced,
    Derivative,
    Equilibrated,
    Induced,
    Latent,
    Multipole,
    Permittivity,
    Positive,
    Property,
    Readout,
    Sum,
)

# fmt: off
PROPERTIES: tuple[Property, ...] = (
    # energy and its derivatives in space
    Property("energies", "atom", "", +1, "eV", report="meV"),
    Property("energy", "structure", "", +1, "eV", (Sum("energies"),), report="meV"),
    Property("forces", "atom", "i", -1, "eV/Angstrom",
             (Derivative("energy", ("positions",), sign=-1), Readout(), Balanced()),
             report="meV/Angstrom", total="zero",
             note="direct forces do not conserve energy; balanced ones add up to zero"),
    Property("stress", "structure", "ij=ji", +1, "eV/Angstrom^3",
             (Derivative("energy", ("strain",), per_volume=True), Readout("mean")), report="meV/Angstrom^3",
             note="positive under tension (ASE's sign)"),
    Property("virial", "structure", "ij=ji", +1, "eV", (Derivative("energy", ("strain",), sign=-1), Readout()),
             report="meV", note="minus volume times stress"),
    Property("virials", "atom", "ij", +1, "eV", (AtomicVirial("energy"), Readout()), report="meV",
             note="add up to the virial; in a field, where there are torques, their symmetric part does; "
                  "halves of edges to both atoms, not what a heat flux follows from (see carten.workflows.heat_flux)"),
    Property("stresses", "atom", "ij", +1, "eV/Angstrom^3",
             (AtomicVirial("energy", sign=-1, per_volume=True), Readout()), report="meV/Angstrom^3",
             note="per volume of the cell: add up to the stress as atomic virials do to the virial"),
    Property("hessian", "pair", "ij", +1, "eV/Angstrom^2", (Derivative("energy", ("positions", "positions")),),
             note="d2E / dr_ai dr_bj of every pair (a, b); files hold the 3N x 3N matrix"),
    Property("elastic", "structure", "ijkl=jikl=ijlk=klij", +1, "eV/Angstrom^3",
             (Derivative("energy", ("strain", "strain"), per_volume=True), Readout("mean")), report="GPa",
             note="clamped ions; second derivative in the symmetric strain e of r (1 + e), per volume at e = 0; "
                  "where there is stress this is not d stress / d strain (see docs/theory.md)"),
    Property("internal_strain", "atom", "ijk=ikj", -1, "eV/Angstrom",
             (Derivative("energy", ("positions", "strain"), sign=-1), Readout()),
             note="-d2E / dr_i de_jk with r before the strain: force first, strain after"),
    # charges and the response to an electric field
    Property("charges", "atom", "", +1, "e",
             (Readout(), Balanced(CHARGE), Balanced(CHARGE, "softness"), Equilibrated()), total=CHARGE,
             note="all but those read directly add up to the total charge, and to the charges of fragments"),
    Property(ELECTRONEGATIVITIES, "atom", "", +1, "eV/e",
             note="of charges that equilibrate: derivative of the energy of an atom in its charge at no charge"),
    Property(HARDNESSES, "atom", "", +1, "eV/e^2", (Positive(start=5.0),),
             note="of charges that equilibrate: second derivative, the interaction of a charge with itself left out"),
    Property("atomic_dipoles", "atom", "i", -1, "e*Angstrom"),
    Property("latent_charges", "atom", "", +1, "e", (Readout(), Balanced()),
             note="interact in the term les, which alone says what they are"),
    Property("latent_dipoles", "atom", "i", -1, "e*Angstrom", (Readout(), Induced()), note="as latent charges"),
    Property("permanent_dipoles", "atom", "i", -1, "e*Angstrom",
             note="what latent dipoles that are induced are without a field"),
    Property(POLARIZABILITIES, "atom", "", +1, "e^2*Angstrom^2/eV", (Positive(start=0.05),),
             note="of dipoles that are induced, a Gaussian's response to its own field left out"),
    Property("latent_quadrupoles", "atom", "ij=ji; ii=0", +1, "e*Angstrom^2",
             note="as latent charges; 1/2 sum q (3 r_i r_j - r^2 d_ij)"),
    Property("dipole", "structure", "i", -1, "e*Angstrom",
             (Readout(), Derivative("energy", (FIELD,), sign=-1), Multipole(), Multipole(dipoles="")),
             note="of molecules; ions about the centre of mass"),
    Property("quadrupole", "structure", "ij=ji; ii=0", +1, "e*Angstrom^2", (Readout(), Multipole()),
             note="traceless, 1/2 sum q (3 r_i r_j - r^2 d_ij), about the centre of mass"),
    Property("polarization", "structure", "i", -1, "e*Angstrom",
             (Derivative("energy", (FIELD,), sign=-1), Readout(), Latent(dipoles="latent_dipoles"), Latent()),
             modulo="lattice",
             note="dipole of a periodic cell, volume times dipole density; defined up to e times lattice vectors"),
    Property("polarizability", "structure", "ij=ji", +1, "Angstrom^3",
             (Readout(), Derivative("energy", (FIELD, FIELD), sign=-1)),
             note="d dipole_i / d field_j over 4 pi eps0"),
    Property("hyperpolarizability", "structure", "ijk=jik=ikj", -1, "Angstrom^3/(V/Angstrom)",
             (Readout(), Derivative("energy", (FIELD, FIELD, FIELD), sign=-1)),
             note="d2 dipole / d field2 over 4 pi eps0, no factor 1/2"),
    Property("second_hyperpolarizability", "structure", "ijkl=jikl=ikjl=ijlk", +1, "Angstrom^3/(V/Angstrom)^2",
             (Readout(), Derivative("energy", (FIELD, FIELD, FIELD, FIELD), sign=-1)),
             note="d3 dipole / d field3 over 4 pi eps0, no factor 1/6"),
    Property("dielectric", "structure", "ij=ji", +1, "", (Permittivity("polarizability"), Readout("mean")),
             ase="dielectric_tensor", note="relative permittivity of clamped ions"),
    Property("born_charges", "atom", "ij", +1, "e",
             (Derivative("energy", (FIELD, "positions"), sign=-1), Readout(), Balanced(),
              Latent(dipoles="latent_dipoles"), Latent()),
             total=NET_CHARGE, ase="born_effective_charges",
             note="d polarization_i / d r_j: field first, displacement after"),
    Property("piezoelectric", "structure", "ijk=ikj", -1, "e/Angstrom^2",
             (Derivative("energy", (FIELD, "strain"), sign=-1, per_volume=True), Readout("mean")),
             note="clamped ions; d polarization_i / de_jk per volume in a fixed field: field first, strain after"),
    Property("raman", "atom", "ijk=jik", -1, "Angstrom^2",
             (Derivative("polarizability", ("positions",)), Readout()), note="d polarizability_ij / d r_k"),
    # magnetism
    Property("moments", "atom", "i", +1, "mu_B", ase="magmoms", time_parity=-1,
             note="noncollinear magnetic moments, axial vectors"),
    Property("collinear_moments", "atom", "", +1, "mu_B", ase="magmoms", time_parity=-1,
             note="along a common axis; positions alone do not tell up from down"),
    Property("magnetic_forces", "atom", "i", +1, "eV/mu_B",
             (Derivative("energy", ("magmoms",), sign=-1), Readout()), report="meV/mu_B", time_parity=-1,
             note="-dE / d magmoms"),
    Property("collinear_magnetic_forces", "atom", "", +1, "eV/mu_B",
             (Derivative("energy", ("collinear_magmoms",), sign=-1), Readout()), report="meV/mu_B",
             time_parity=-1, note="-dE / d collinear_magmoms"),
    Property("magnetic_hessian", "pair", "ij", +1, "eV/mu_B^2", (Derivative("energy", ("magmoms", "magmoms")),),
             note="d2E / dm_ai dm_bj of every pair (a, b): minus the exchange of moments where a and b differ"),
    Property("collinear_magnetic_hessian", "pair", "", +1, "eV/mu_B^2",
             (Derivative("energy", ("collinear_magmoms", "collinear_magmoms")),), note="d2E / dm_a dm_b"),
    Property("magnetic_dipole", "structure", "i", +1, "mu_B",
             (Derivative("energy", ("magnetic_field",), sign=-1), Readout()), time_parity=-1,
             note="-dE / d magnetic_field"),
    Property("nmr_shielding", "atom", "ij", +1, "ppm",
             note="general tensor with its antisymmetric part; -(induced field)_i / (applied field)_j"),
)

INPUTS: tuple[Input, ...] = (
    Input("fidelity", "structure", "", +1, "", Fidelity(),
          note="level of theory or basis set; each has its own reference energies"),
    Input(CHARGE, "structure", "", +1, "e", Scalar()),
    Input(FRAGMENT, "atom", "", +1, "", Coupled(), default=-1.0, along_with=FRAGMENT_CHARGE,
          note="label of the fragment, a whole number from 0; -1 in none"),
    Input(FRAGMENT_CHARGE, "atom", "", +1, "e", Coupled(), default=0.0, along_with=FRAGMENT,
          note="of the whole fragment, the same for all of its atoms; those in none have what is left together"),
    Input("spin_multiplicity", "structure", "", +1, "", Category(), note="2S + 1"),
    Input("partial_charges", "atom", "", +1, "e", Scalar(), ase="initial_charges"),
    Input("temperature", "structure", "", +1, "K", Scalar(), scale=300.0),
    Input("electronic_temperature", "structure", "", +1, "K", Scalar(), scale=1000.0),
    Input("pressure", "structure", "", +1, "eV/Angstrom^3", Scalar(), scale=0.1),
    Input(FIELD, "structure", "i", -1, "V/Angstrom", Tensor(), default=0.0, note="homogeneous, at fixed nuclei"),
    Input("magnetic_field", "structure", "i", +1, "T", Tensor(), default=0.0, scale=10.0, time_parity=-1,
          note="axial vector"),
    Input("magmoms", "atom", "i", +1, "mu_B", Tensor(), scale=2.0, ase="initial_magmoms", time_parity=-1,
          note="noncollinear, axial vectors; embed as exchange for energies without spin-orbit coupling"),
    Input("collinear_magmoms", "atom", "", +1, "mu_B", Exchange(), scale=2.0, ase="initial_magmoms", time_parity=-1,
          note="energies do not change when all are reversed"),
)
# fmt: on

TOTALS: Mapping[str, tuple[str, ...]] = {CHARGE: (FRAGMENT, FRAGMENT_CHARGE)}
"""Inputs that values of atoms add up to, and inputs that say how parts of a structure share them."""


def property_table() -> dict[str, Property]:
    """The built-in properties by name."""
    return {row.name: row for row in PROPERTIES}


def input_table() -> dict[str, Input]:
    """The built-in inputs by name."""
    return {row.name: row for row in INPUTS}
