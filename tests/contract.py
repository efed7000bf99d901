"""What every model must satisfy, derived from the rows of its properties.

Each check takes a model in float64 and structures, looks at all properties of the model, and raises an AssertionError
that names the property. Structures should have no symmetry and atoms within the cutoff of each other, so that nothing
vanishes: a check of something that is zero or constant fails instead of passing. Inputs of the model are taken from
``atoms.info`` (of the structure) and ``atoms.arrays`` (of atoms) by name.

    check_rotations        rotation, reflection, inversion, with the rank and parity of the row
    check_features         the same for the features of every layer
    check_translation      the origin, and the periodic image an atom is given in
    check_permutation      the order of the atoms
    check_batch            structures of a batch do not see each other
    check_additivity       separated fragments
    check_supercell        a repeated cell; correct images in cells smaller than the cutoff
    check_lone_atoms       no neighbours: no forces, and the symmetry of a sphere
    check_smoothness       readouts are C^2, their derivatives C^1, where an atom crosses the cutoff
    check_derivatives      forces, stress, virial, .. are central differences; atomic virials add up
    check_same             two models (back ends, a file) give the same
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from ase import Atoms
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from carten.data.neighbours import graph
from carten.math import stf
from carten.model.conditions import Input
from carten.model.graph import Graph, batch
from carten.ops.space import Part
from carten.properties.potential import Potential
from carten.properties.routes import AtomicVirial, Derivative, Property, Sum
from carten.units import conversion

Array = NDArray[np.float64]
Values = dict[str, Array]

EXACT = 1e-10
"""Relative error allowed to an exact symmetry in float64: some thousand operations of 1e-16, amplified by
derivatives."""

DIFFERENCE = 1e-6
"""Relative error allowed to fourth-order central differences with steps of 1e-3 A: truncation h^4 f^(5) / 30 is below
1e-8 for functions that oscillate with 2 pi / A, round-off 1e-16 E / (h F) below 1e-10."""

STEP = 1e-3
NODES = 18
SMOOTH = 0.1
"""A jump of the k-th derivative, times the width of the window to the k, relative to the change that the interaction
makes in a quarter of the window: 4^k k! >= 1 where a function is C^(k-1) only, round-off of 0.01 where it is C^k."""


def graphs(model: Potential, structures: Sequence[Atoms]) -> Graph:
    """The structures as the model sees them."""
    merged = batch([graph(atoms, model.cutoff, conditions(model, atoms)) for atoms in structures])
    return merged.to(device=model.network.embedding.device)


def conditions(model: Potential, atoms: Atoms) -> Values:
    """The inputs of the model that the structure carries, with their leading axis."""
    carried = {**{name: np.asarray(value)[None] for name, value in atoms.info.items()}, **atoms.arrays}
    return {name: carried[name] for name in model.inputs if name in carried}


def results(model: Potential, *structures: Atoms, names: Sequence[str] | None = None) -> Values:
    """Properties of the structures in one batch; those per volume only where all have a volume."""
    found = model(graphs(model, structures), names or defined(model, *structures))
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def defined(model: Potential, *structures: Atoms) -> list[str]:
    """Names of the usual properties that are defined for all these structures."""
    solid = all(atoms.cell.rank == 3 for atoms in structures)
    return [name for name in model.usual if solid or not model.properties[name].per_volume]


def transformed(row: Property | Input, values: Array, matrix: Array) -> Array:
    """Values (rows, 3, ..) after a rotation or reflection: all indices turn, and the row's parity decides the sign."""
    for axis in range(1, values.ndim):
        values = np.moveaxis(np.tensordot(values, matrix, axes=(axis, 1)), -1, axis)
    true_tensor = row.parity == (-1) ** row.rank
    return values if true_tensor else values * np.linalg.det(matrix)


def deformed(atoms: Atoms, matrix: Array) -> Atoms:
    """The structure after a linear map of space; inputs stay."""
    moved: Atoms = atoms.copy()
    moved.positions = atoms.positions @ matrix.T
    moved.cell = atoms.cell.array @ matrix.T
    return moved


def turned(model: Potential, atoms: Atoms, matrix: Array) -> Atoms:
    """The structure and its inputs after a rotation or reflection about the origin."""
    moved = deformed(atoms, matrix)
    for name, values in conditions(model, atoms).items():
        row = model.inputs[name]
        if row.rank or row.parity < 0:
            put(moved, row, transformed(row, values, matrix))
    return moved


def put(atoms: Atoms, row: Input, values: Array) -> None:
    """Replace an input of a structure."""
    if row.scope == "atom":
        atoms.arrays[row.name] = values
    else:
        atoms.info[row.name] = values[0]


def orthogonal(seed: int) -> dict[str, Array]:
    """A random rotation, a random reflection in a plane, a random improper rotation and the inversion."""
    first, second = Rotation.random(2, random_state=np.random.default_rng(seed)).as_matrix()
    mirror = np.eye(3) - 2 * np.outer(first[0], first[0])
    return {"rotation": first, "reflection": mirror, "improper rotation": -second, "inversion": -np.eye(3)}


def require_equal(what: str, found: Values, expected: Values, tolerance: float = EXACT, zero: float = 1e-12) -> None:
    """Every property within a relative tolerance of its largest component; ``zero`` is its absolute round-off."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape, f"{what}: {name} has shape {found[name].shape}, not {values.shape}"
        assert np.isfinite(found[name]).all(), f"{what}: {name} is not finite"
        error = np.abs(found[name] - values).max(initial=0.0)
        scale = np.abs(values).max(initial=0.0)
        assert error <= tolerance * scale + zero * (scale <= zero), (
            f"{what}: {name} differs by {error / max(scale, 1e-300):.1e} of its largest component {scale:.2g}, "
            f"allowed are {tolerance:.0e}"
        )


def check_rotations(model: Potential, atoms: Atoms, tolerance: float = EXACT, zero: Sequence[str] = ()) -> None:
    """Properties turn with the structure, and do not merely stay what they are; those that must be zero are."""
    matrices = orthogonal(1)
    together = results(model, atoms, *(turned(model, atoms, matrix) for matrix in matrices.values()))
    before, *after = _unbatched(together, 1 + len(matrices))
    for (what, matrix), found in zip(matrices.items(), after, strict=True):
        expected = {name: transformed(model.properties[name], values, matrix) for name, values in before.items()}
        for name, values in expected.items():
            change = np.abs(values - before[name]).max()
            isotropic = change < 1e-6 * np.abs(values).max() and model.properties[name].rank > 0 and what != "inversion"
            vacuous = np.abs(values).max() < 1e-9 or isotropic
            if name in zero:
                assert not values.any(), f"{name} should be zero"
                continue
            assert not vacuous, f"{what}: {name} vanishes or has no direction, take another structure"
        require_equal(what, found, expected, tolerance)


def _unbatched(values: Values, n: int) -> list[Values]:
    """Values of each of n structures of one size."""
    return [{name: np.split(value, n)[k] for name, value in values.items()} for k in range(n)]


def features(model: Potential, atoms: Atoms) -> list[dict[Part, Array]]:
    """Features after every layer, (atoms, 2l + 1, channels)."""
    at = graphs(model, [atoms])
    element = torch.searchsorted(torch.tensor(model.elements, device=at.numbers.device), at.numbers)
    layers = model.network(at.edge_vectors(), at.edge_index, element)
    return [{part: value.detach().cpu().numpy() for part, value in layer.items()} for layer in layers]


def check_features(model: Potential, atoms: Atoms, tolerance: float = EXACT) -> None:
    """Features transform as their rank and parity say, and none of them vanishes."""
    before = features(model, atoms)
    for what, matrix in orthogonal(2).items():
        for k, layer in enumerate(features(model, turned(model, atoms, matrix))):
            for part, found in layer.items():
                sign = 1.0 if part.natural else float(np.linalg.det(matrix))
                expected = sign * np.einsum("mn,anc->amc", stf.rotation(part.l, matrix), before[k][part])
                name = f"features {part.name} of layer {k}"
                assert np.abs(expected).max() > 1e-9, f"{name} vanish"
                require_equal(what, {name: found}, {name: expected}, tolerance)


def check_translation(model: Potential, atoms: Atoms, tolerance: float = EXACT) -> None:
    """Neither the origin nor the periodic image in which an atom is given matters."""
    generator = np.random.default_rng(3)
    moved = atoms.copy()
    images = generator.integers(-2, 3, size=(len(atoms), 3)) * atoms.pbc
    moved.positions += generator.normal(size=3) + images @ atoms.cell.array
    require_equal("translation", results(model, moved), results(model, atoms), tolerance)


def check_permutation(model: Potential, atoms: Atoms, tolerance: float = EXACT) -> None:
    """Values of atoms follow the order of the atoms, those of the structure do not depend on it."""
    order = np.random.default_rng(4).permutation(len(atoms))
    assert (order != np.arange(len(atoms))).any()
    before = results(model, atoms)
    expected = {n: _permuted(model.properties[n], v, order) for n, v in before.items()}
    require_equal("permutation", results(model, atoms[order]), expected, tolerance)


def _permuted(row: Property, values: Array, order: NDArray[np.int64]) -> Array:
    n = len(order)
    if row.scope == "pair":
        return values.reshape(n, n, *row.shape)[np.ix_(order, order)].reshape(values.shape)
    return values[order] if row.scope == "atom" else values


def check_batch(model: Potential, structures: Sequence[Atoms], tolerance: float = EXACT) -> None:
    """A batch of different structures gives each what it has alone."""
    names = defined(model, *structures)
    alone = [results(model, atoms, names=names) for atoms in structures]
    for order in (list(range(len(structures))), list(reversed(range(len(structures))))):
        expected = {name: np.concatenate([alone[k][name] for k in order]) for name in names}
        found = results(model, *(structures[k] for k in order), names=names)
        require_equal("batch", found, expected, tolerance)


def check_additivity(model: Potential, first: Atoms, second: Atoms, tolerance: float = EXACT) -> None:
    """Two molecules further apart than the cutoff: extensive properties add, intensive ones average."""
    assert not first.pbc.any() and not second.pbc.any()
    shift = np.ptp(first.positions[:, 0]) + np.ptp(second.positions[:, 0]) + 1.5 * model.cutoff
    far = second.copy()
    far.translate([first.positions[:, 0].max() - second.positions[:, 0].max() + shift, 0.0, 0.0])
    both = first + far
    names = [name for name in defined(model, both) if not model.properties[name].per_volume]
    a, b = results(model, first, names=names), results(model, second, names=names)
    expected = {name: _joined(model.properties[name], (a[name], b[name]), (len(first), len(second))) for name in names}
    require_equal("separated fragments", results(model, both, names=names), expected, tolerance)


def _joined(row: Property, values: Sequence[Array], sizes: Sequence[int]) -> Array:
    if row.scope == "atom":
        return np.concatenate(values)
    weights = sizes if not row.extensive else [1] * len(sizes)
    total = sum((weight * value for weight, value in zip(weights, values, strict=True)), np.zeros_like(values[0]))
    return total if row.extensive else total / sum(sizes)


def check_supercell(model: Potential, atoms: Atoms, repeats: tuple[int, int, int], tolerance: float = EXACT) -> None:
    """A repeated cell: the same atoms, extensive properties times the number of cells, the same per volume."""
    copies = int(np.prod(repeats))
    assert copies > 1 and all(n == 1 or periodic for n, periodic in zip(repeats, atoms.pbc, strict=True))
    expected = {
        name: _joined(model.properties[name], [values] * copies, [len(atoms)] * copies)
        / (copies if model.properties[name].scope == "atom" and model.properties[name].per_volume else 1)
        for name, values in results(model, atoms).items()
    }
    require_equal("supercell", results(model, atoms.repeat(repeats)), expected, tolerance)


def check_lone_atoms(model: Potential, tolerance: float = EXACT) -> None:
    """Atoms without neighbours, alone and several of them: no forces, and values that no rotation changes."""
    alone = {z: Atoms(numbers=[z], positions=[[0.3, -0.2, 0.1]]) for z in model.elements}
    values = {z: results(model, atoms) for z, atoms in alone.items()}
    numbers = [*model.elements, model.elements[0]]
    line = Atoms(numbers=numbers, positions=[[3.0 * model.cutoff * k, 0.0, 0.0] for k in range(len(numbers))])
    assert graphs(model, [line]).n_edges == 0
    found = results(model, line)
    for name, row in model.properties.items():
        if name not in found:
            continue
        expected = _joined(row, [values[z][name] for z in numbers], [1] * len(numbers))
        require_equal("atoms without neighbours", {name: found[name]}, {name: expected}, tolerance)
        if isinstance(row.routes[0], Derivative | AtomicVirial):
            assert not found[name].any(), f"{name} of atoms without neighbours is not zero"
        for what, matrix in orthogonal(5).items():
            turned_values = {name: transformed(row, expected, matrix)}
            require_equal(f"{what} of atoms without neighbours", turned_values, {name: expected}, tolerance)


def smoothness(row: Property, table: dict[str, Property]) -> int:
    """Number of continuous derivatives a property must have."""
    route = row.routes[0]
    if isinstance(route, Derivative | AtomicVirial):
        return smoothness(table[route.of], table) - (len(route.wrt) if isinstance(route, Derivative) else 1)
    return 2


def check_smoothness(model: Potential, atoms: Atoms, moving: int = -1, fixed: int = 0) -> None:
    """One atom leaves the cutoff of another: value and derivatives from both sides agree, extrapolated polynomially.

    The one interaction that ends must matter: it is compared with the continuation of the function beyond the cutoff.
    """
    width = 0.08 * model.cutoff
    nodes = width * (1 - np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)) / 2
    axis = atoms.positions[moving] - atoms.positions[fixed]
    axis /= np.linalg.norm(axis)

    def sides(sign: int) -> Values:
        path = []
        for offset in sign * nodes:
            moved = atoms.copy()
            moved.positions[moving] = atoms.positions[fixed] + (model.cutoff + offset) * axis
            path.append(moved)
        found = results(model, *path)
        edges.append({graphs(model, [atoms]).n_edges for atoms in path})
        return {name: values.reshape(NODES, -1) for name, values in found.items()}

    edges: list[set[int]] = []
    inside, outside = sides(-1), sides(1)
    assert len(edges[0]) == len(edges[1]) == 1, f"other pairs cross the cutoff too, take another structure: {edges}"
    assert edges[0] == {n + 2 for n in edges[1]}, f"no pair crosses the cutoff, take another structure: {edges}"
    for name in inside:
        left = [Chebyshev.fit(-nodes, column, NODES - 1, domain=[-width, 0]) for column in inside[name].T]
        right = [Chebyshev.fit(nodes, column, NODES - 1, domain=[0, width]) for column in outside[name].T]
        pairs = list(zip(left, right, strict=True))
        change = max(abs(a(x) - b(x)) for a, b in pairs for x in (-width / 4, -width / 8))
        size = max(np.abs(inside[name]).max(), np.abs(outside[name]).max())
        assert change > 1e-9 * max(size, 1e-3), (
            f"{name} does not change where the interaction ends ({change:.1e} of {size:.1e})"
        )
        for k in range(smoothness(model.properties[name], model.properties) + 1):
            jump = max(abs(a.deriv(k)(0.0) - b.deriv(k)(0.0)) if k else abs(a(0.0) - b(0.0)) for a, b in pairs)
            assert jump * width**k <= SMOOTH * change, (
                f"derivative {k} of {name} jumps by {jump:.1e} where an interaction of {change:.1e} ends"
            )


def check_derivatives(model: Potential, atoms: Atoms, tolerance: float = DIFFERENCE) -> None:
    """Derivatives with respect to positions and strain, and sums of atomic virials, against central differences."""
    names = defined(model, atoms)
    found = results(model, atoms)
    cache: dict[tuple[str, str], Array] = {}

    def differences(of: str, wrt: str) -> Array:
        if (of, wrt) not in cache:
            cache[of, wrt] = central_differences(model, atoms, of, wrt)
        return cache[of, wrt]

    for name in names:
        route = model.properties[name].routes[0]
        if isinstance(route, Derivative):
            (wrt,) = route.wrt
            expected = route.sign * differences(route.of, wrt)
            if wrt in model.inputs:
                unit = f"{model.properties[route.of].unit}/({model.inputs[wrt].unit or 1})"
                expected = expected * conversion(unit, model.properties[name].unit)
            expected = expected / atoms.get_volume() if route.per_volume else expected
            require_equal("central differences", {name: found[name]}, {name: expected}, tolerance, zero=1e-9)
        elif isinstance(route, AtomicVirial):
            total = found[name].sum(axis=0, keepdims=True)
            total = {name: (total + total.swapaxes(1, 2)) / 2}  # in a field there are torques
            expected = -route.sign * differences(route.of, "strain")
            expected = expected / atoms.get_volume() if route.per_volume else expected
            require_equal("central differences", total, {name: expected}, tolerance, zero=1e-9)
        elif isinstance(route, Sum):
            require_equal("sum", {name: found[name]}, {name: found[route.of].sum(axis=0, keepdims=True)}, EXACT)


def central_differences(model: Potential, atoms: Atoms, of: str, wrt: str) -> Array:
    """d(of)/d(wrt) by fourth-order central differences: (rows of wrt, components of ``of``.., components of wrt..)."""
    paths = list(_perturbations(model, atoms, wrt))
    structures = [move(factor * STEP) for move in paths for factor in (-2, -1, 1, 2)]
    values = results(model, *structures, names=[of])[of]
    assert len(values) == len(structures), f"{of} has to be a property of the structure"
    weights = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * STEP * size(model, wrt))
    slopes = np.einsum("k,pk...->p...", weights, values.reshape(len(paths), 4, *values.shape[1:]))
    shapes = {"positions": (len(atoms), 3), "strain": (1, 3, 3)}
    rows = shapes[wrt] if wrt in shapes else conditions(model, atoms)[wrt].shape
    n = len(rows)
    return np.moveaxis(slopes.reshape(*rows, *values.shape[1:]), range(1, n), range(-n + 1, 0))


def size(model: Potential, wrt: str) -> float:
    """Of a variable: inputs are changed in units of their scale."""
    return model.inputs[wrt].scale if wrt in model.inputs else 1.0


def _perturbations(model: Potential, atoms: Atoms, wrt: str) -> Iterator[Callable[[float], Atoms]]:
    """For each component of positions, strain or an input, the structure as a function of its change."""
    if wrt == "positions":
        for i, axis in product(range(len(atoms)), range(3)):

            def moved(step: float, i: int = i, axis: int = axis) -> Atoms:
                copy: Atoms = atoms.copy()
                copy.positions[i, axis] += step
                return copy

            yield moved
        return
    if wrt != "strain":
        yield from _inputs_changed(model, atoms, wrt)
        return
    for i, j in product(range(3), repeat=2):

        def strained(step: float, i: int = i, j: int = j) -> Atoms:
            deformation = np.eye(3)
            deformation[i, j] += step / 2
            deformation[j, i] += step / 2
            return deformed(atoms, deformation)

        yield strained


def _inputs_changed(model: Potential, atoms: Atoms, name: str) -> Iterator[Callable[[float], Atoms]]:
    values = conditions(model, atoms)[name]
    for component in np.ndindex(values.shape):

        def changed(step: float, component: tuple[int, ...] = component) -> Atoms:
            copy: Atoms = atoms.copy()
            moved = values.astype(np.float64)
            moved[component] += step * size(model, name)
            put(copy, model.inputs[name], moved)
            return copy

        yield changed


def check_same(first: Potential, second: Potential, structures: Sequence[Atoms], tolerance: float = EXACT) -> None:
    """Two models give the same values, and the same gradients of them with respect to the parameters."""
    names = defined(first, *structures)
    require_equal(
        "values", results(second, *structures, names=names), results(first, *structures, names=names), tolerance
    )
    a, b = (_parameter_gradients(model, structures, names) for model in (first, second))
    require_equal("gradients", b, a, tolerance)


def _parameter_gradients(model: Potential, structures: Sequence[Atoms], names: Sequence[str]) -> Values:
    state = model.training
    try:
        values = model.train()(graphs(model, structures), names)
    finally:
        model.train(state)
    generator = np.random.default_rng(6)
    terms = [
        (value * torch.from_numpy(generator.normal(size=value.shape)).to(value)).sum() for value in values.values()
    ]
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        torch.stack(terms).sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    return {name: gradient.cpu().numpy() for name, gradient in zip(parameters, gradients, strict=True)}
