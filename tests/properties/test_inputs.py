"""What every input promises: equivariance, derivatives, defaults, and errors that say what is missing.

All of it follows from the row: a new row is tested without a line here.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

import contract
from carten.errors import ModelError
from carten.model.conditions import Category, Coupled, Exchange, Fidelity, Input, Scalar, Tensor
from carten.model.inputs import with_defaults
from carten.properties.io import load, save
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Property
from carten.properties.spec import INPUTS, input_table, property_table
from properties.cases import build, other_solid, solid

EXACT = 1e-9
TABLE = input_table()
ENERGY = property_table()["energy"]


def ready(row: Input) -> Input:
    """The row as training makes it: categories have values."""
    if not isinstance(row.embed, Category):
        return row
    values = ("low", "high") if isinstance(row.embed, Fidelity) else (1, 3)
    return replace(row, embed=replace(row.embed, values=values))


TOLD = [row for row in INPUTS if not isinstance(row.embed, Coupled)]
DECLARED = (
    Input("quadrupole_field", "structure", "ij=ji; ii=0", +1, "V/Angstrom^2", Tensor()),
    Input("general", "atom", "ij", +1, "", Tensor()),
    Input("axial_field", "structure", "ij", -1, "", Tensor()),
    Input("octupole", "structure", "ijk=jik=ikj", -1, "", Tensor()),
    Input("fourth", "structure", "ijkl=jikl=ikjl=ijlk", +1, "", Tensor()),
    Input("handedness", "structure", "", -1, "", Tensor()),
    Input("site", "atom", "", +1, "", Tensor()),
    Input("species", "atom", "", +1, "", Category(("a", "b"))),
    replace(TABLE["magmoms"], name="magmoms", embed=Exchange()),
)
FIDELITIES = {mode: replace(TABLE["fidelity"], embed=Fidelity(("low", "high"), mode)) for mode in ("heads", "both")}
ROWS = [
    *(pytest.param(ready(row), id=row.name) for row in TOLD),
    *(pytest.param(row, id=f"{row.name} as {type(row.embed).__name__}") for row in DECLARED),
    *(pytest.param(row, id=f"fidelity by {mode}") for mode, row in FIDELITIES.items()),
]
NUMBERS = [case for case in ROWS if not isinstance(case.values[0].embed, Category)]
TENSORS = [case for case in ROWS if isinstance(case.values[0].embed, Tensor)]


def bare(row: Input) -> str:
    """The indices without their symmetry."""
    return row.indices.split(";")[0].split("=")[0]


def model(row: Input, *rows: Property) -> Potential:
    return build((ENERGY, *rows), (row,))


def give(atoms: Atoms, row: Input, seed: int = 0) -> Atoms:
    """The structure with a random value of an input."""
    generator = np.random.default_rng(seed)
    shape = (len(atoms), *row.shape) if row.scope == "atom" else row.shape
    value = row.scale * generator.normal(size=shape)
    if isinstance(row.embed, Category):
        value = generator.integers(len(row.embed.values), size=shape)
    (atoms.arrays if row.scope == "atom" else atoms.info)[row.name] = np.asarray(value)
    return atoms


@pytest.mark.parametrize("row", ROWS)
def test_everything_turns_together(row):
    """Structure and input: the energy stays, forces turn; also with a reflection, by the parity of the input."""
    contract.check_rotations(model(row), give(solid(), row), EXACT)


@pytest.mark.parametrize("row", ROWS)
def test_it_matters_and_only_to_its_own_structure(row):
    of, one, other = model(row), give(solid(), row, 1), give(other_solid(), row, 2)
    if isinstance(row.embed, Category):
        put(one, row, 0)
        put(other, row, 1)
    contract.check_batch(of, [one, other], EXACT)
    contract.check_permutation(of, other, EXACT)
    changed = one.copy()
    put(changed, row, 1 if isinstance(row.embed, Category) else 1.5 * contract.conditions(of, one)[row.name])
    before, after = contract.results(of, one)["energies"], contract.results(of, changed)["energies"]
    assert np.abs(before - after).max() > 1e-8, "the input changes nothing"


def put(atoms: Atoms, row: Input, value: object) -> None:
    """Replace an input; a number stands for all of its components."""
    place = atoms.arrays if row.scope == "atom" else atoms.info
    shape = np.shape(place[row.name])
    place[row.name] = np.array(np.broadcast_to(value, shape) if np.ndim(value) == 0 else np.reshape(value, shape))


@pytest.mark.parametrize("row", NUMBERS)
def test_forces_and_the_derivative_with_respect_to_it_are_differences(row):
    unit = f"eV/({row.unit})" if row.unit else "eV"
    routes = (Derivative("energy", (row.name,)),)
    response = Property("response", row.scope, bare(row), row.parity, unit, routes)
    contract.check_derivatives(model(row, response), give(solid(), row))


# --- zero -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TENSORS)
def test_a_zero_tensor_leaves_the_symmetry_of_space(row):
    """The structure turns alone."""
    of, atoms = model(row), give(solid(), row)
    put(atoms, row, 0.0)
    reversing = [name for name, prop in of.properties.items() if row.time_parity < 0 and prop.time_parity < 0]
    contract.check_rotations(of, atoms, EXACT, zero=reversing)
    before = contract.results(of, atoms)["energy"]
    for matrix in contract.orthogonal(5).values():
        assert contract.results(of, contract.deformed(atoms, matrix))["energy"] == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize("row", [case for case in TENSORS if case.values[0].scope == "structure"])
def test_features_in_a_zero_field_are_exactly_those_without(row):
    of, atoms = model(row), give(solid(), row)
    put(atoms, row, 0.0)
    graph = contract.graphs(of, [atoms])
    element = torch.searchsorted(torch.tensor(of.elements), graph.numbers)
    told = of.network.inputs(graph.inputs, graph.structure, element)
    arguments = (graph.edge_vectors(), graph.edge_index, element)
    zero = {
        part: torch.zeros(len(atoms), part.size, of.config.n_channels, dtype=torch.float64) for part in told.places[1]
    }
    without = replace(told, places=[{}, *[zero] * of.config.n_layers])
    for found, expected in zip(of.network(*arguments, told), of.network(*arguments, without), strict=True):
        assert all(torch.equal(found[part], value) for part, value in expected.items())


@pytest.mark.parametrize("row", NUMBERS)
def test_values_of_any_size_are_finite(row):
    of, atoms = model(row), solid()
    for size in (0.0, 1e-200, 1e-8, 1e3, 1e8):
        put(give(atoms, row), row, size)
        assert all(np.isfinite(value).all() for value in contract.results(of, atoms).values()), size


# --- magnetic moments without spin-orbit coupling ---------------------------------------------------------------------


def moments(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms.arrays["magmoms"] = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    return atoms


def test_moments_that_exchange_may_turn_alone():
    exchange, coupled = model(DECLARED[-1]), model(TABLE["magmoms"])
    for matrix in contract.orthogonal(6).values():
        atoms = moments(other_solid())
        before = [contract.results(of, atoms)["energy"][0] for of in (exchange, coupled)]
        atoms.arrays["magmoms"] = atoms.arrays["magmoms"] @ matrix.T
        after = [contract.results(of, atoms)["energy"][0] for of in (exchange, coupled)]
        assert after[0] == pytest.approx(before[0], rel=1e-12)
        if not np.allclose(np.abs(matrix), np.eye(3)):
            assert abs(after[1] - before[1]) > 1e-9, "with spin-orbit coupling the lattice has a say"


def test_an_atom_without_a_moment_mediates_between_its_neighbours():
    """Superexchange: carbon atoms out of each other's sight, through oxygen; not without it."""
    of = build((ENERGY,), (DECLARED[-1],), n_layers=1)
    atoms = Atoms("COC", positions=[[0.0, 0.0, 0.0], [1.6, 0.0, 0.0], [3.2, 0.1, 0.0]])
    assert atoms.get_distance(0, 2) > of.cutoff
    energies = []
    for chosen in (atoms, atoms[[0, 2]]):
        for second in ([0.0, 0.0, 1.5], [0.0, 1.5, 0.0]):
            moments = {"C": [0.0, 0.0, 1.5], "O": [0.0, 0.0, 0.0]}
            chosen.arrays["magmoms"] = np.array([moments[symbol] for symbol in chosen.symbols])
            chosen.arrays["magmoms"][-1] = second
            energies.append(contract.results(of, chosen)["energy"][0])
    assert abs(energies[0] - energies[1]) > 1e-7
    assert energies[2] == pytest.approx(energies[3], rel=1e-12)


@pytest.mark.parametrize("row", [DECLARED[-1], TABLE["collinear_magmoms"]], ids=["noncollinear", "collinear"])
def test_time_reversal_and_the_order_of_moments(row):
    """All reversed: the same. One reversed: another energy, as ferromagnets and antiferromagnets have."""
    of, atoms = model(row), give(other_solid(), row)
    values = atoms.arrays[row.name].copy()
    energies = []
    for signs in (1.0, -1.0, np.array([1.0, 1.0, -1.0, 1.0])):
        atoms.arrays[row.name] = (values.T * signs).T
        energies.append(contract.results(of, atoms)["energy"][0])
    assert energies[1] == energies[0]
    assert abs(energies[2] - energies[0]) > 1e-9


# --- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
def test_an_input_that_is_missing_is_an_error_or_has_a_stated_default(row):
    of, atoms = model(row), give(solid(), row)
    graph = contract.graphs(of, [atoms])
    without = replace(graph, inputs={})
    if row.default is None:
        with pytest.raises(ModelError, match=f"1 structures do not carry the input {row.name!r} .*has no default: set"):
            of(without)
        return
    put(atoms, row, row.default)
    contract.require_equal("default", {n: v.numpy() for n, v in of(without).items()}, contract.results(of, atoms), 0.0)


def test_inputs_that_do_not_fit():
    of = model(ready(TABLE["spin_multiplicity"]))
    graph = contract.graphs(of, [give(solid(), ready(TABLE["spin_multiplicity"]))])
    with pytest.raises(
        ModelError, match=r"'spin_multiplicity': expected the position, 0 to 1, of one of \[1, 3\], found \[3\]"
    ):
        of(replace(graph, inputs={"spin_multiplicity": torch.tensor([3])}))
    with pytest.raises(ModelError, match=r"expected shape \(1,\) \(one value per structure\), found \(2,\)"):
        of(replace(graph, inputs={"spin_multiplicity": torch.tensor([0, 0])}))
    with pytest.raises(ModelError, match="the input 'charge', which the model does not know: it knows spin_mult"):
        of(replace(graph, inputs={"charge": torch.tensor([0])}))
    with pytest.raises(ModelError, match="'charge', which the model does not know: it has no inputs"):
        build((ENERGY,))(replace(graph, inputs={"charge": torch.tensor([0])}))


def test_a_default_of_a_category_is_one_of_its_values():
    row = replace(ready(TABLE["spin_multiplicity"]), default=3)
    graph = replace(contract.graphs(model(row), [give(solid(), row)]), inputs={})
    assert with_defaults(graph, {row.name: row}).inputs[row.name].tolist() == [1]


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (TABLE["magmoms"], {"odd_products": False}, r"'magmoms' needs pseudotensors 1\+.*set model.odd_products: true"),
        (DECLARED[4], {"l_max_edges": 3}, r"'fourth' needs features of rank 4, .* up to 3: set model.l_max_edges: 4"),
        (replace(TABLE["electric_field"], embed=Scalar()), {}, r"has indices 'i' and parity -1: embed it as tensor"),
        (replace(TABLE["electric_field"], embed=Exchange()), {}, "exchange embeds scalars or vectors of atoms"),
        (TABLE["fidelity"], {}, "'fidelity' is a category without values: give inputs.fidelity.values"),
    ],
)
def test_what_the_network_lacks_names_the_option(row, options, message):
    with pytest.raises(ModelError, match=message):
        build((ENERGY,), (row,), **options)


# --- levels of theory -------------------------------------------------------------------------------------------------


def levels(mode: str) -> Potential:
    row = replace(TABLE["fidelity"], embed=Fidelity(("low", "high"), mode))
    return build((ENERGY,), (row,))


def at_level(level: int) -> Atoms:
    atoms = solid()
    atoms.info["fidelity"] = np.asarray(level)
    return atoms


@pytest.mark.parametrize("mode", ["embedding", "heads", "both"])
def test_every_level_has_its_own_reference_energies(mode):
    of = levels(mode)
    before = contract.results(of, at_level(0), at_level(1))
    of.heads["energies"].reference[len(of.elements) :] = 10.0
    after = contract.results(of, at_level(0), at_level(1))
    np.testing.assert_allclose(after["energy"] - before["energy"], [0.0, 10.0 * len(solid())], atol=1e-12)
    np.testing.assert_array_equal(after["forces"], before["forces"])
    assert np.abs(before["forces"][:2] - before["forces"][2:]).max() > 1e-6


def test_what_levels_share():
    """With heads only, all features; with the embedding only, all readouts."""
    heads, embedding, both = levels("heads"), levels("embedding"), levels("both")
    shared = {name for name, _ in embedding.named_parameters() if name.startswith("heads")}
    twice = {name for name, _ in heads.named_parameters() if name.startswith("heads")}
    assert len(twice) == 2 * len(shared)
    assert not any(name.startswith("network.inputs") for name, _ in heads.named_parameters())
    assert {name for name, _ in both.named_parameters() if name.startswith("heads")} == twice
    assert any(name.startswith("network.inputs") for name, _ in both.named_parameters())


def test_two_fidelities_are_one_too_many():
    row = replace(TABLE["fidelity"], embed=Fidelity(("low", "high")))
    with pytest.raises(ModelError, match="at most one input is a fidelity, found fidelity, basis"):
        build((ENERGY,), (row, replace(row, name="basis")))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
def test_a_file_keeps_inputs(row, tmp_path):
    of, atoms = model(row), give(solid(), row)
    save(tmp_path / "model.carten", of, {})
    read = load(tmp_path / "model.carten", backend="reference")
    assert read.inputs == of.inputs
    contract.require_equal("file", contract.results(read, atoms), contract.results(of, atoms), 0.0)
    assert set(read.state_dict()) == set(of.state_dict())


def test_all_inputs_together():
    """Any subset goes together: the energy is invariant, and each one matters."""
    rows = tuple(ready(row) for row in TOLD)
    of, atoms = build((ENERGY,), rows), solid()
    for row in rows:
        give(atoms, row)
    contract.check_rotations(of, atoms, EXACT)
    before = contract.results(of, atoms)["energy"][0]
    for row in rows:
        other = atoms.copy()
        other.info, other.arrays = dict(atoms.info), {name: value.copy() for name, value in atoms.arrays.items()}
        now = contract.conditions(of, atoms)[row.name]
        put(other, row, 1 - now if isinstance(row.embed, Category) else 1.5 * now)
        assert abs(contract.results(of, other)["energy"][0] - before) > 1e-10, row.name
