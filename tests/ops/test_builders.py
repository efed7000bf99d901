"""Plans of the model against dense sums with the coupling tables, neighbour by neighbour and path by path."""

from itertools import product as pairs_of

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from carten.math import stf
from carten.math.coupling import coupling
from carten.ops import builders
from carten.ops.index import Index
from carten.ops.library import evaluate
from carten.ops.space import SCALAR, Part, Space

TOLERANCE = 1e-12
CHANNELS = 3
ATOMS = 4

TRUE = Space.up_to(2)
BOTH = Space.up_to(2, pseudo=True)
FEW = Space((Part(0, 1), Part(1, 1), Part(2, -1), Part(3, -1)))
SPACES = {"scalars": Space((SCALAR,)), "true tensors": TRUE, "with pseudotensors": BOTH, "some parts": FEW}


def run(plan, operands, indices=None, n_sites=ATOMS):
    tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in operands]
    return [x.numpy() for x in evaluate(plan, tensors, indices or {}, n_sites, "reference")]


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0.0) <= TOLERANCE * max(1.0, np.abs(expected).max(initial=0.0))


def exists(left: Part, right: Part, target: Part) -> bool:
    """The selection rule of O(3), written down once more."""
    return target.l in range(abs(left.l - right.l), left.l + right.l + 1) and left.p * right.p == target.p


def random_features(space: Space, seed: int = 0, rows: int = ATOMS) -> dict[Part, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {part: rng.normal(size=(rows, part.size, CHANNELS)) for part in space.parts}


def turn(features: dict[Part, np.ndarray], matrix: np.ndarray) -> dict[Part, np.ndarray]:
    """Features after a rotation or reflection: pseudotensors take its determinant."""
    sign = np.linalg.det(matrix)
    return {
        part: np.einsum("mn,anc->amc", stf.rotation(part.l, matrix), x) * (1.0 if part.natural else sign)
        for part, x in features.items()
    }


def improper(seed: int = 0) -> np.ndarray:
    return -Rotation.random(random_state=np.random.default_rng(seed)).as_matrix()


# --- harmonics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 4, 8])
def test_harmonics(l_max):
    vectors = np.random.default_rng(l_max).normal(size=(7, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (found,) = run(builders.harmonics_plan(l_max), [np.ones((7, 1)), vectors], n_sites=7)
    close(found, stf.harmonics(l_max, vectors))
    for rank in range(l_max + 1):
        close((found[:, rank**2 : (rank + 1) ** 2] ** 2).sum(1), np.full(7, 2 * rank + 1.0))


# --- interaction ------------------------------------------------------------------------------------------------------


def edges(n_atoms: int = ATOMS) -> tuple[np.ndarray, np.ndarray]:
    """Centres in order, one of them without neighbours; neighbours in any order, one of them twice."""
    return np.array([0, 0, 0, 2, 2, 3]), np.array([3, 1, 3, 0, 3, 1])


def dense_interaction(features, harmonics, radial, paths):
    """Sums over neighbours and components, one path at a time: {target: (atoms, m, path, channels)}."""
    centres, neighbours = edges()
    result = {}
    for target in dict.fromkeys(path[2] for path in paths):
        mine = [path for path in paths if path[2] == target]
        total = np.zeros((ATOMS, target.size, len(mine), CHANNELS))
        for e, (i, j) in enumerate(zip(centres, neighbours, strict=True)):
            for k, (part, y, _) in enumerate(mine):
                block = harmonics[e, y.l**2 : (y.l + 1) ** 2]
                table = coupling(part.l, y.l, target.l)
                total[i, :, k] += radial[e, paths.index((part, y, target))] * np.einsum(
                    "abm,ac,b->mc", table, features[part][j], block
                )
        result[target] = total
    return result


@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_interaction(space, pseudo):
    l_max, target = 3, Space.up_to(2, pseudo)
    rng = np.random.default_rng(1)
    paths = builders.interaction_paths(space, l_max, target)
    centres, neighbours = edges()
    features = random_features(space)
    harmonics, radial = rng.normal(size=(6, (l_max + 1) ** 2)), rng.normal(size=(6, len(paths), CHANNELS))
    indices = {
        "centre": Index(torch.from_numpy(centres), ATOMS, ascending=True),
        "neighbour": Index(torch.from_numpy(neighbours), ATOMS),
    }
    plan = builders.interaction_plan(space, l_max, target)
    found = run(plan, [*features.values(), harmonics, radial], indices, n_sites=6)
    expected = dense_interaction(features, harmonics, radial, paths)
    assert [array.name for array in plan.outputs] == [f"A{part.name}" for part in expected]
    for part, value in zip(expected, found, strict=True):
        close(value.reshape(ATOMS, part.size, -1, CHANNELS), expected[part])
        assert not value[1].any(), "an atom without neighbours gets no message"


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_interaction_has_every_path_that_exists_once(space):
    target = Space.up_to(3, pseudo=True)
    paths = builders.interaction_paths(space, 3, target)
    edges = [Part(rank, (-1) ** rank) for rank in range(4)]
    expected = {path for path in pairs_of(space.parts, edges, target.parts) if exists(*path)}
    assert set(paths) == expected
    assert len(paths) == len(expected)
    assert [target.parts.index(path[2]) for path in paths] == sorted(target.parts.index(path[2]) for path in paths)


def test_number_of_interaction_paths():
    """Of scalars, one per rank; of O(3) features, each triangle twice: for either parity of the feature."""
    triangles = [t for t in pairs_of(range(3), range(4), range(4)) if abs(t[0] - t[1]) <= t[2] <= t[0] + t[1]]
    even = [t for t in triangles if sum(t) % 2 == 0]
    assert (len(triangles), len(even)) == (24, 17)
    assert len(builders.interaction_paths(Space((SCALAR,)), 3, Space.up_to(3))) == 4
    assert len(builders.interaction_paths(TRUE, 3, Space.up_to(3))) == len(even)
    assert len(builders.interaction_paths(BOTH, 3, Space.up_to(3, pseudo=True))) == 2 * len(triangles)


def test_no_edges():
    plan = builders.interaction_plan(TRUE, 2, TRUE)
    none = torch.zeros(0, dtype=torch.int64)
    indices = {"centre": Index(none, ATOMS, ascending=True), "neighbour": Index(none, ATOMS)}
    n_paths = len(builders.interaction_paths(TRUE, 2, TRUE))
    operands = [*random_features(TRUE).values(), np.zeros((0, 9)), np.zeros((0, n_paths, CHANNELS))]
    for value, array in zip(run(plan, operands, indices, n_sites=0), plan.outputs, strict=True):
        assert value.shape == (ATOMS, array.size, CHANNELS)
        assert not value.any()


# --- product basis ----------------------------------------------------------------------------------------------------


def dense_powers(features, order, target, between, symmetric):
    """``B^q`` of every order, all paths in their documented order: [{part: (atoms, path, m, channels)}]."""
    parts = list(features)
    power = {part: value[:, None] for part, value in features.items()}
    result = [power]
    for q in range(2, order + 1):
        wanted = target.parts if q == order else between.parts
        following = {}
        for out in wanted:
            found = []
            for x, y in pairs_of(power, parts):
                if not exists(x, y, out) or (q == 2 and symmetric and parts.index(x) > parts.index(y)):
                    continue
                value = np.einsum("abm,npac,nbc->npmc", coupling(x.l, y.l, out.l), power[x], features[y])
                if q == 2 and x == y and out.l % 2 == 1:
                    assert np.abs(value).max() < 1e-14, "an odd product of a tensor with itself"
                else:
                    found.append(value)
            if found:
                following[out] = np.concatenate(found, axis=1)
        power = following
        result.append(power)
    return result


CASES = [
    (space, between, target, order, symmetric)
    for space, between, target in (
        (TRUE, TRUE, TRUE),
        (TRUE, TRUE, Space.up_to(4)),
        (TRUE, TRUE, BOTH),
        (TRUE, BOTH, BOTH),
        (BOTH, BOTH, Space((SCALAR, Part(1, 1)))),
        (FEW, FEW, TRUE),
        (Space((SCALAR,)), Space((SCALAR,)), Space((SCALAR,))),
    )
    for order in (1, 2, 3)
    for symmetric in (True, False)
] + [(Space.up_to(1), Space.up_to(1, True), Space.up_to(2, True), 4, True), (TRUE, TRUE, Space((SCALAR,)), 4, False)]


@pytest.mark.parametrize(("space", "between", "target", "order", "symmetric"), CASES)
def test_powers(space, between, target, order, symmetric):
    features = random_features(space)
    found = run(builders.powers_plan(space, target, order, symmetric, between), features.values())
    dense = dense_powers(features, order, target, between, symmetric)
    for part, value in zip(target.parts, found, strict=True):
        blocks = [power[part] for power in dense if part in power]
        expected = np.concatenate([np.zeros((ATOMS, 0, part.size, CHANNELS)), *blocks], axis=1)
        close(value.reshape(ATOMS, part.size, -1, CHANNELS), expected.transpose(0, 2, 1, 3))


@pytest.mark.parametrize(("space", "between", "target", "order", "symmetric"), CASES)
def test_product_is_powers_times_weights(space, between, target, order, symmetric):
    """Weights come order by order, then part by part, in the order of the paths."""
    features = random_features(space)
    plan = builders.product_plan(space, target, order, symmetric, between)
    n_weights, kinds = plan.arrays["weights"].size, np.array([1, 0, 1, 1])
    weights = np.random.default_rng(2).normal(size=(2, n_weights, CHANNELS))
    indices = {"element": Index(torch.from_numpy(kinds), 2)}
    found = run(plan, [*features.values(), weights], indices)
    expected = {part: np.zeros((ATOMS, part.size, CHANNELS)) for part in target.parts}
    first = 0
    for power in dense_powers(features, order, target, between, symmetric):
        for part in (part for part in target.parts if part in power):
            block = slice(first, first + power[part].shape[1])
            expected[part] += np.einsum("npc,npmc->nmc", weights[kinds][:, block], power[part])
            first = block.stop
    assert first == n_weights
    for part, value in zip(target.parts, found, strict=True):
        close(value, expected[part])


def test_product_never_forms_the_highest_power():
    widest = max(array.size for array in builders.product_plan(Space.up_to(3), Space.up_to(2), 3).locals)
    formed = max(array.size for array in builders.powers_plan(Space.up_to(3), Space.up_to(2), 3).locals)
    assert formed > 4 * widest


@pytest.mark.parametrize("order", [1, 2, 3])
def test_products_are_equivariant(order):
    features, matrix = random_features(BOTH), improper()
    plan = builders.powers_plan(BOTH, BOTH, order)

    def outputs(values):
        found = run(plan, values.values())
        return {p: v.reshape(ATOMS, p.size, -1) for p, v in zip(BOTH.parts, found, strict=True)}

    expected = turn(outputs(features), matrix)
    for part, value in outputs(turn(features, matrix)).items():
        assert np.abs(expected[part]).max() > 1e-3
        close(value, expected[part])


def test_dropped_paths_repeat_a_kept_one():
    """The first product is symmetric: (x, y) and (y, x) agree up to sign, so one of them is enough."""
    features = random_features(BOTH)
    full = dense_powers(features, 2, BOTH, BOTH, False)[1]
    kept = dense_powers(features, 2, BOTH, BOTH, True)[1]
    assert sum(x.shape[1] for x in full.values()) > sum(x.shape[1] for x in kept.values())
    for part, paths in full.items():
        for path in paths.swapaxes(0, 1):
            distance = [min(np.abs(path - x).max(), np.abs(path + x).max()) for x in kept[part].swapaxes(0, 1)]
            assert min(distance) < 1e-14


@pytest.mark.parametrize("order", [2, 3])
def test_symmetric_and_full_paths_span_the_same_functions(order):
    rows = 60
    features = random_features(TRUE, rows=rows)
    symmetric, full = (
        run(builders.powers_plan(TRUE, TRUE, order, choice), features.values(), n_sites=rows)
        for choice in (True, False)
    )
    for part, a, b in zip(TRUE.parts, symmetric, full, strict=True):
        left, right = (x.reshape(rows, part.size, -1, CHANNELS).transpose(0, 1, 3, 2) for x in (a, b))
        left, right = (x.reshape(-1, x.shape[-1]) for x in (left, right))
        assert left.shape[1] < right.shape[1] or (order == 2 and part == SCALAR)
        ranks = [np.linalg.matrix_rank(x, tol=1e-8) for x in (left, right, np.hstack([left, right]))]
        assert ranks[0] == ranks[1] == ranks[2]


def test_number_of_product_paths():
    """For true tensors up to rank 1: order 2 has 00, 11 -> 0 and 01 -> 1; order 3 multiplies these by each of A."""
    sizes = {
        (order, symmetric): [a.size // (2 * rank + 1) for rank, a in enumerate(plan.outputs)]
        for order in (1, 2, 3)
        for symmetric in (True, False)
        for plan in [builders.powers_plan(Space.up_to(1), Space.up_to(1), order, symmetric)]
    }
    assert sizes[1, True] == sizes[1, False] == [1, 1]
    assert sizes[2, True] == [1 + 2, 1 + 1]
    assert sizes[2, False] == [1 + 2, 1 + 2]
    assert sizes[3, True] == [1 + 2 + (2 + 1), 1 + 1 + (2 + 1)]
    assert sizes[3, False] == [1 + 2 + (2 + 2), 1 + 2 + (2 + 2)]


@pytest.mark.parametrize(
    ("space", "between", "target", "order", "expected"),
    [
        (TRUE, TRUE, Space.up_to(4), 1, "0+ 1- 2+"),
        (TRUE, TRUE, Space.up_to(4), 2, "0+ 1- 2+ 3- 4+"),
        (Space.up_to(1), Space.up_to(1), Space.up_to(4), 3, "0+ 1- 2+"),
        (TRUE, TRUE, BOTH, 2, "0+ 1- 2+ 2-"),
        (TRUE, BOTH, BOTH, 3, "0+ 1- 1+ 2+ 2-"),
        (TRUE, BOTH, BOTH, 4, "0+ 1- 1+ 2+ 2-"),
        (Space.up_to(3), Space.up_to(3, True), BOTH, 3, "0+ 1- 1+ 2+ 2-"),
        (Space.up_to(3), Space.up_to(3, True), BOTH, 4, "0+ 0- 1- 1+ 2+ 2-"),
        (Space.up_to(4), Space.up_to(4, True), BOTH, 3, "0+ 0- 1- 1+ 2+ 2-"),
        (Space.up_to(1), Space.up_to(1, True), Space.up_to(1, True), 4, "0+ 1-"),
        (FEW, FEW, TRUE, 1, "0+"),
    ],
)
def test_reachable(space, between, target, order, expected):
    """The parts that do not vanish for all features; a pseudoscalar needs three independent vectors or more."""
    assert str(builders.reachable(space, target, order, between)) == expected
    values = run(builders.powers_plan(space, target, order, True, between), random_features(space).values())
    alive = [part.name for part, value in zip(target.parts, values, strict=True) if np.abs(value).max(initial=0) > 1e-6]
    assert alive == expected.split()
