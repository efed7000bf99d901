"""What every row of the property table promises, by every route: symmetry, derivatives, sums.

All of it follows from the row: a new row is tested without a line here.
"""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray

import contract
from carten.errors import ModelError
from carten.math.symmetry import decompose
from carten.properties.planning import needed_inputs
from carten.properties.potential import Potential
from carten.properties.recipes import variables
from carten.properties.routes import Balanced, Derivative, Equilibrated, Property, Readout
from carten.properties.spec import input_table, property_table
from carten.units import conversion
from properties.cases import CASES, DERIVATIVES, build, by, ion, model, options, other_solid, solid, structures

Array = NDArray[np.float64]
EXACT = 1e-9
RANKS = {"strain": 2, "collinear_magmoms": 0}


@pytest.mark.parametrize(("row", "k"), CASES)
def test_it_turns_as_its_indices_and_parity_say(row, k):
    """Rotation, reflection, improper rotation, inversion; inputs turn with the structure."""
    contract.check_rotations(model(row, k), structures(row, k)[0], EXACT)


@pytest.mark.parametrize(("row", "k"), CASES)
def test_origin_order_and_batch_do_not_matter(row, k):
    """Multipoles of ions too: they are about the centre of mass."""
    one, other = structures(row, k)
    contract.check_translation(model(row, k), one, EXACT)
    contract.check_permutation(model(row, k), other, EXACT)
    contract.check_batch(model(row, k), [one, other], EXACT)


@pytest.mark.parametrize(("row", "k"), CASES)
def test_it_has_the_symmetry_of_its_indices(row, k):
    value = contract.results(model(row, k), structures(row, k)[0], names=[row.name])[row.name]
    assert decompose(row.indices).is_symmetric(value, 1e-12)


# --- derivatives ------------------------------------------------------------------------------------------------------


def changed(model: Potential, atoms: Atoms, name: str) -> tuple[tuple[int, ...], list[Atoms]]:
    """Shape of a variable, and the structures of fourth-order central differences for each of its components."""
    steps = list(contract._perturbations(model, atoms, name))
    shapes = {"positions": (len(atoms), 3), "strain": (1, 3, 3)}
    shape = shapes[name] if name in shapes else contract.conditions(model, atoms)[name].shape
    return shape, [step(factor * contract.STEP) for step in steps for factor in (-2, -1, 1, 2)]


def difference(model: Potential, atoms: Atoms, of: str, wrt: str) -> Array:
    """d(of)/d(wrt) by central differences, components of ``of`` before those of ``wrt``."""
    shape, moved = changed(model, atoms, wrt)
    values = np.stack([value_in(model, one, of, atoms) for one in moved])
    weights = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * contract.STEP * contract.size(model, wrt))
    slopes = np.einsum("k,pk...->...p", weights, values.reshape(-1, 4, *values.shape[1:]))
    slopes = slopes.reshape(
        *slopes.shape[:-1], *shape
    )  # rows of one, its components, rows of the other, its components
    slopes = np.moveaxis(slopes, 1 + model.properties[of].rank, 1)
    if len(slopes) == 1:
        return slopes[0]
    return slopes[:, 0] if slopes.shape[1] == 1 else slopes.reshape(-1, *slopes.shape[2:])


def value_in(model: Potential, moved: Atoms, of: str, atoms: Atoms) -> Array:
    """A property of a strained structure; derivatives in space are with respect to the structure before the strain.

    With r' = r F, dE/dr = dE/dr' F^T, and dE/de at r (F + e) is the symmetric part of F^-1 dE/de'.
    """
    value = contract.results(model, moved, names=[of])[of]
    deformation = np.linalg.solve(atoms.cell.array, moved.cell.array)
    route = model.properties[of].routes[0]
    first = 1 + model.properties[of].rank - sum(RANKS.get(name, 1) for name in getattr(route, "wrt", ()))
    for name in getattr(route, "wrt", ()):
        if name == "positions":
            value = np.moveaxis(np.tensordot(value, deformation, axes=(first, 1)), -1, first)
        if name == "strain":
            value = np.moveaxis(np.tensordot(value, np.linalg.inv(deformation), axes=(first, 1)), -1, first)
            value = (value + value.swapaxes(first, first + 1)) / 2
        first += RANKS.get(name, 1)
    return value


def lower(row: Property, dropped: int, told: dict[str, object]) -> Property:
    """The derivative of one order less, in the unit that it has by itself."""
    route = row.routes[0]
    of = property_table()[route.of]
    wrt = tuple(name for k, name in enumerate(route.wrt) if k != dropped)
    if not wrt:
        return of
    rank = of.rank + sum(told[name].rank for name in wrt)
    parity = of.parity * int(np.prod([told[name].parity for name in wrt]))
    unit = "/".join([of.unit, *(f"({told[name].unit})" for name in wrt if told[name].unit)])
    scope = "atom" if "atom" in (told[name].scope for name in wrt) else "structure"
    return Property("lower", scope, "abcdef"[:rank], parity, unit, (Derivative(route.of, wrt),))


@pytest.mark.parametrize(("row", "k"), DERIVATIVES)
def test_derivatives_are_differences_of_those_of_one_order_less(row, k):
    """With respect to each of the variables, mixed ones in both orders."""
    require_differences(row, k, solid())


@pytest.mark.parametrize(("row", "k"), [case for case in DERIVATIVES if needed_inputs(by(*case.values))])
def test_derivatives_are_differences_where_there_is_no_field(row, k):
    atoms = solid()
    for name in needed_inputs(by(row, k)):
        (atoms.info if name in atoms.info else atoms.arrays)[name] *= 0.0
    require_differences(row, k, atoms)


def require_differences(row: Property, k: int, atoms: Atoms) -> None:
    chosen = by(row, k)
    route = chosen.routes[0]
    told = variables(model(row, k).inputs.values())
    for dropped, wrt in enumerate(route.wrt):
        if wrt in route.wrt[:dropped]:
            continue
        less = lower(chosen, dropped, told)
        of = build((property_table()[route.of], chosen, less), tuple(model(row, k).inputs.values()), **options(chosen))
        found = contract.results(of, atoms, names=[row.name])[row.name]
        expected = moved_to_place(difference(of, atoms, less.name, wrt), chosen, dropped, told)
        unit = f"{less.unit}/({told[wrt].unit or '1'}){'/Angstrom^3' if route.per_volume else ''}"
        factor = route.sign * conversion(unit, row.unit) / (atoms.get_volume() if route.per_volume else 1.0)
        what = f"difference with respect to {wrt}"
        contract.require_equal(what, {row.name: found}, {row.name: expected * factor}, 1e-6, zero=1e-9)


def moved_to_place(value: Array, row: Property, dropped: int, told: dict[str, object]) -> Array:
    """Component axes of the variable that was differentiated last, to where the row has them.

    Of pairs (a, b) it is the variable of b, whose axes are last already.
    """
    if row.scope == "pair":
        return value
    ranks = [told[name].rank for name in row.routes[0].wrt]
    first = row.rank - sum(ranks) + sum(ranks[:dropped])
    last = row.rank - ranks[dropped]
    axes = [1 + last + k for k in range(ranks[dropped])]
    return np.moveaxis(value, axes, [1 + first + k for k in range(ranks[dropped])])


def test_a_derivative_of_a_derivative_is_planned_as_one():
    """Raman tensors of a polarizability that is itself a derivative of the energy."""
    table = property_table()
    of = build((table["energy"], by(table["polarizability"], 1), table["raman"]))
    assert of.properties["polarizability"].routes[0].name == "derivative"
    found = contract.results(of, solid(), names=["raman"])
    expected = {"raman": difference(of, solid(), "polarizability", "positions")}
    contract.require_equal("difference", found, expected, 1e-6)


def test_units_of_derivatives_by_hand():
    """In V/A and e: alpha in e A / (V/A) is 14.3996 A^3, e^2 / (4 pi eps0) in eV A."""
    table = property_table()
    raw = Property("raw", "structure", "ij=ji", +1, "e*Angstrom/(V/Angstrom)", table["polarizability"].routes[1:])
    tesla = Property("raw_moment", "structure", "i", +1, "eV/T", table["magnetic_dipole"].routes)
    of = build((table["energy"], by(table["polarizability"], 1), raw))
    values = contract.results(of, solid(), names=["raw", "polarizability"])
    np.testing.assert_allclose(values["polarizability"], 14.399645 * values["raw"], rtol=1e-7)
    of = build((table["energy"], table["magnetic_dipole"], tesla))
    values = contract.results(of, solid(), names=["raw_moment", "magnetic_dipole"])
    np.testing.assert_allclose(values["raw_moment"], 5.7883818e-5 * values["magnetic_dipole"], rtol=1e-7)


# --- what follows without parameters ----------------------------------------------------------------------------------


def test_a_model_of_energies_in_a_field_has_all_responses():
    of = build((property_table()["energy"],), (input_table()["electric_field"],))
    responses = {"polarization", "dipole", "polarizability", "hyperpolarizability", "second_hyperpolarizability"}
    responses |= {"born_charges", "piezoelectric", "raman", "dielectric", "hessian", "elastic", "internal_strain"}
    assert responses < of.properties.keys()
    assert {"polarization", "dipole"} < set(of.usual)
    assert not set(of.usual) & (responses - {"polarization", "dipole"})
    assert list(of.heads) == ["energies"]
    assert "dipole" not in build((property_table()["energy"],)).properties


def test_permittivity_by_hand():
    table = property_table()
    of = build((table["energy"], by(table["polarizability"], 1), table["dielectric"]))
    values = contract.results(of, solid(), names=["polarizability", "dielectric"])
    expected = np.eye(3) + 4 * np.pi * values["polarizability"][0] / solid().get_volume()
    np.testing.assert_allclose(values["dielectric"][0], expected, rtol=1e-14)
    assert np.isnan(contract.results(of, ion(), names=["dielectric"])["dielectric"]).all()


def test_multipoles_by_hand():
    """About the centre of mass of an ion; the quadrupole in Buckingham's convention."""
    table = property_table()
    rows = (table["charges"], table["atomic_dipoles"], by(table["dipole"], 2), by(table["quadrupole"], 1))
    of, atoms = build(rows), ion()
    values = {name: value[0] if len(value) == 1 else value for name, value in contract.results(of, atoms).items()}
    q, d, r = values["charges"], values["atomic_dipoles"], atoms.positions - atoms.get_center_of_mass()
    assert abs(q.sum()) > 1e-3
    np.testing.assert_allclose(values["dipole"], q @ r + d.sum(0), rtol=1e-12)
    second = np.einsum("n,na,nb->ab", q, r, r) + np.einsum("na,nb->ab", r, d) + np.einsum("na,nb->ab", d, r)
    of.heads["quadrupole"].scale.fill_(0.0)
    found = contract.results(of, atoms, names=["quadrupole"])["quadrupole"][0]
    np.testing.assert_allclose(found, (3 * second - np.trace(second) * np.eye(3)) / 2, rtol=1e-12, atol=1e-15)


def test_multipoles_are_refused_for_periodic_structures():
    with pytest.raises(ModelError, match="structure 1 of the batch is periodic, multipoles from charges are for mol"):
        contract.results(model(property_table()["dipole"], 2), ion(), solid())


# --- sums -------------------------------------------------------------------------------------------------------------

BALANCED = [case for case in CASES if isinstance(case.values[0].routes[case.values[1]], Balanced | Equilibrated)]


@pytest.mark.parametrize(("row", "k"), BALANCED)
def test_balanced_properties_add_up_to_round_off(row, k):
    one, other = solid(), other_solid()
    one.info["total_charge"], other.info["total_charge"] = 2.0, -1.0
    values = contract.results(model(row, k), one, other, names=[row.name])[row.name]
    charged = row.name == "charges"
    totals = [one.info["total_charge"], other.info["total_charge"]] if charged else [0.0, 0.0]
    for part, total in zip(np.split(values, [len(one)]), totals, strict=True):
        assert np.abs(part).max() > 1e-3
        np.testing.assert_allclose(part.sum(axis=0), np.full(row.shape, total), atol=1e-14)


def test_softnesses_decide_who_takes_the_charge():
    """Where the features say nothing, uniform charges are equal and equalised ones are as the softnesses."""
    for k, alike in ((1, True), (2, False)):
        of = build((by(property_table()["charges"], k),))
        of.heads["charges"].scale.fill_(0.0)
        charges = contract.results(of, solid(), names=["charges"])["charges"]
        assert charges.sum() == pytest.approx(solid().info["total_charge"], abs=1e-15)
        assert np.ptp(charges) < 1e-15 if alike else np.ptp(charges) > 1e-3
        assert (charges * charges.sum() > 0).all()


def test_born_charges_of_energies_obey_the_sum_rule():
    found = contract.results(model(property_table()["born_charges"]), other_solid(), names=["born_charges"])
    assert np.abs(found["born_charges"]).max() > 1e-3
    np.testing.assert_allclose(found["born_charges"].sum(axis=0), np.zeros((3, 3)), atol=1e-13)


def test_atomic_stresses_add_up_to_the_stress():
    values = contract.results(model(property_table()["stresses"]), solid(), names=["stresses", "stress"])
    np.testing.assert_allclose(values["stresses"].sum(axis=0), values["stress"][0], rtol=1e-10, atol=1e-16)


# --- rows that do not fit ---------------------------------------------------------------------------------------------

FITTING = Property("mine", "atom", "ij", +1, "e", (Derivative("energy", ("electric_field", "positions"), sign=-1),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scope": "structure"}, r"scope, rank and parity \('atom', 2, 1\), its row says \('structure', 2, 1\)"),
        ({"parity": -1}, r"its row says \('atom', 2, -1\)"),
        ({"indices": "i"}, r"its row says \('atom', 1, 1\)"),
        ({"indices": "ij=ji"}, "derivatives do not have all of the symmetry 'ij=ji'"),
        ({"indices": "ij; ii=0"}, "derivatives do not have all of the symmetry"),
        ({"unit": "eV"}, "is a derivative in eV/.*, its unit is another"),
        ({"routes": (Derivative("energy", ("electric_field", "wind")),)}, "with respect to 'wind'"),
        ({"routes": (Derivative("energy", ("positions",) * 3),)}, "involving three atoms are not supported"),
        ({"routes": (Derivative("nothing", ("positions",)),)}, "no property 'nothing' here"),
        ({"scope": "pair", "routes": (Readout(),)}, "properties of pairs of atoms are derivatives"),
        ({"scope": "structure", "routes": (Balanced(),)}, "is balanced among atoms: expected scope atom"),
    ],
)
def test_a_row_that_does_not_fit_its_route(change, message):
    build((property_table()["energy"], FITTING))
    with pytest.raises(ModelError, match=message):
        build((property_table()["energy"], replace(FITTING, **change)))


def test_variables_of_a_derivative_are_a_tuple():
    with pytest.raises(ModelError, match="with respect to a tuple of names, found 'positions'"):
        Derivative("energy", "positions")


def test_a_rank_that_is_missing_is_the_highest():
    """One change of the configuration is enough."""
    row = property_table()["second_hyperpolarizability"]
    with pytest.raises(
        ModelError, match=r"needs features of rank 4, the network has up to 1: set model.l_max_edges: 4"
    ):
        build((by(row, 0),), l_max_edges=1)


def test_a_tensor_with_an_antisymmetric_part_names_the_option():
    with pytest.raises(ModelError, match=r"'nmr_shielding' needs pseudotensors 1.*set model.odd_products: true"):
        build((property_table()["nmr_shielding"],), odd_products=False)
    values = contract.results(model(property_table()["nmr_shielding"]), other_solid())["nmr_shielding"]
    assert np.abs(values - values.swapaxes(1, 2)).max() > 1e-6
