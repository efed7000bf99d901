"""Every check of the contract rejects a model that violates what it checks."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from torch import Tensor

import contract
from carten.model.graph import Graph
from carten.ops.plan import Plan
from carten.properties.routes import Property
from model import models
from model.models import CUTOFF, crystal, molecule, stretched

ROWS = (models.BUILT_IN[0], models.BUILT_IN[1], models.BUILT_IN[3])
OPTIONS = {"l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}

Values = dict[str, Tensor]


class Spoiled:
    """A model with a flaw: what ``flaw(graph, values)`` makes of its results."""

    def __init__(self, flaw: Callable[[Graph, Values], Values]) -> None:
        self.model = models.build(OPTIONS, ROWS)
        self.flaw = flaw

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, graph, names=None):
        names = list(names or self.model.properties)
        spoiled = {**self.model(graph, names), **self.flaw(graph, self.model(graph))}
        return {name: spoiled[name] for name in names}


def per_atom(graph: Graph, edges: Tensor) -> Tensor:
    return torch.zeros(graph.n_atoms, dtype=edges.dtype).index_add(0, graph.edge_index[0], edges)


def per_structure(graph: Graph, atoms: Tensor) -> Tensor:
    return torch.zeros(graph.n_structures, dtype=atoms.dtype).index_add(0, graph.structure, atoms)


def with_atoms(flaw: Callable[[Graph], Tensor]) -> Spoiled:
    """Something that is added to the energies of atoms, and so to the energy."""

    def spoil(graph: Graph, values: Values) -> Values:
        added = flaw(graph)
        return {"energies": values["energies"] + added, "energy": values["energy"] + per_structure(graph, added)}

    return Spoiled(spoil)


def with_edges(flaw: Callable[[Tensor], Tensor]) -> Spoiled:
    """A function of edge vectors added to the energies of their centres."""
    return with_atoms(lambda graph: per_atom(graph, flaw(graph.edge_vectors())))


def handed(graph: Graph) -> Tensor:
    """A triple product of sums over neighbours: invariant, except that a reflection changes its sign."""
    vectors = graph.edge_vectors()
    length = vectors.norm(dim=1, keepdim=True)
    sums = [
        torch.zeros(graph.n_atoms, 3, dtype=vectors.dtype).index_add(0, graph.edge_index[0], vectors * length**k)
        for k in range(3)
    ]
    return (sums[0] * torch.linalg.cross(sums[1], sums[2])).sum(1)


def rejected(check: Callable[..., None], model: object, *arguments: object) -> str:
    """The message with which a check fails."""
    with pytest.raises(AssertionError) as caught:
        check(model, *arguments)
    return str(caught.value)


def test_a_preferred_direction():
    model = with_edges(lambda vectors: 1e-6 * vectors[:, 0].abs())
    assert rejected(contract.check_rotations, model, molecule()).startswith("rotation: energies")


def test_handedness_is_seen_by_the_reflection_only():
    message = rejected(contract.check_rotations, with_atoms(lambda graph: 1e-3 * handed(graph)), molecule())
    assert message.startswith("reflection: energ")


def test_a_wrong_parity():
    model = models.build(OPTIONS, ROWS)
    model.properties["dipole"] = replace(model.properties["dipole"], parity=1)
    assert rejected(contract.check_rotations, model, molecule()).startswith("reflection: dipole")


def test_a_forgotten_rotation():
    model = Spoiled(lambda graph, values: {"dipole": values["dipole"].abs()})
    assert rejected(contract.check_rotations, model, molecule()).startswith("rotation: dipole")


def test_a_structure_that_proves_nothing():
    row = Property("moment", "structure", "i", +1, "mu_B")
    model = models.build({**OPTIONS, "odd_products": True}, (row,))
    assert "moment vanishes" in rejected(contract.check_rotations, model, molecule()[:2])
    assert "vanish" in rejected(contract.check_features, model, molecule()[:2])


def test_features_with_a_wrong_coupling():
    model = models.build(OPTIONS, ROWS)
    wrong = copy.deepcopy(model.network.layers[1].interaction)
    plan = wrong.plan
    steps = list(plan.steps)
    (o, a, b, coefficient), *others = steps[0].terms
    steps[0] = replace(steps[0], terms=(*others[:-1], (*others[-1][:3], 1.01 * others[-1][3]), (o, a, b, coefficient)))
    wrong.plan = Plan(plan.inputs, plan.locals, plan.outputs, tuple(steps))
    model.network.layers[1].interaction = wrong
    assert "features" in rejected(contract.check_features, model, molecule())


def test_an_origin():
    model = with_atoms(lambda graph: 1e-6 * graph.positions.norm(dim=1))
    assert rejected(contract.check_translation, model, molecule()).startswith("translation")


def test_images():
    model = with_atoms(lambda graph: per_atom(graph, 1e-6 * graph.edge_shift.abs().sum(1)))
    assert rejected(contract.check_translation, model, crystal()).startswith("translation")


def test_an_order():
    model = with_atoms(lambda graph: 1e-6 * torch.arange(graph.n_atoms))
    assert rejected(contract.check_permutation, model, molecule()).startswith("permutation")


def test_structures_that_see_each_other():
    model = with_atoms(lambda graph: 1e-6 * torch.full((graph.n_atoms,), graph.n_structures))
    assert rejected(contract.check_batch, model, [molecule(), crystal()]).startswith("batch")


def test_an_energy_that_does_not_add():
    model = Spoiled(lambda graph, values: {"energy": values["energy"] + 1e-6 * values["energy"] ** 2})
    assert rejected(contract.check_additivity, model, molecule(), stretched()).startswith("separated fragments: energy")


def test_images_that_are_missing():
    def near(graph: Graph) -> Tensor:
        return per_atom(graph, 1e-6 * (graph.edge_shift.abs().sum(1) < 2).to(torch.float64))

    assert rejected(contract.check_supercell, with_atoms(near), crystal(), (2, 1, 1)).startswith("supercell")


def test_forces_on_lone_atoms():
    model = Spoiled(lambda graph, values: {"forces": values["forces"] + 1e-15})
    assert "forces of atoms without neighbours" in rejected(contract.check_lone_atoms, model)


def test_lone_atoms_with_a_direction():
    model = Spoiled(lambda graph, values: {"dipole": values["dipole"] + torch.tensor([1e-6, 0.0, 0.0])})
    assert "dipole" in rejected(contract.check_lone_atoms, model)


@pytest.mark.parametrize(("power", "order"), [(0, 0), (1, 1), (2, 2)])
def test_a_cutoff_that_is_not_smooth(power, order):
    model = with_edges(lambda vectors: (1 - vectors.norm(dim=1) / CUTOFF) ** power)
    assert rejected(contract.check_smoothness, model, stretched()).startswith(f"derivative {order} of energ")


def test_a_cutoff_that_is_smooth_enough():
    contract.check_smoothness(with_edges(lambda vectors: (1 - vectors.norm(dim=1) / CUTOFF) ** 3), stretched())


def test_a_path_that_does_not_cross_the_cutoff_alone():
    assert "other pairs cross" in rejected(
        contract.check_smoothness, models.model("carten"), Atoms("CON", positions=[[0, 0, 0], [0, 0.1, 0], [2, 1, 0]])
    )


@pytest.mark.parametrize("name", ["forces", "stress", "virial", "virials"])
def test_a_derivative_that_is_slightly_wrong(name):
    model = Spoiled(lambda graph, values: {name: values[name] * (1 + 1e-5)})
    assert f"central differences: {name}" in rejected(contract.check_derivatives, model, crystal())


def test_a_total_that_is_not_the_sum():
    model = Spoiled(lambda graph, values: {"energy": values["energy"] + 1.0})
    assert rejected(contract.check_derivatives, model, molecule()).startswith("sum: energy")


def test_models_that_differ():
    first, second = (models.build(OPTIONS, ROWS, seed=seed) for seed in (0, 1))
    assert rejected(contract.check_same, first, second, [molecule()]).startswith("values")


def test_values_that_are_not_finite():
    model = Spoiled(lambda graph, values: {"energy": values["energy"] * torch.nan})
    assert "not finite" in rejected(contract.check_permutation, model, molecule())
