"""Building blocks: linear maps of features, products, and the size of what a new network returns."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from carten.math import stf
from carten.math.quadrature import sphere
from carten.model import product
from carten.model.config import NetworkConfig
from carten.model.interaction import SIGMOID_GAIN, SILU_GAIN, GatedInteraction, Interaction
from carten.model.parameters import ElementLinear, Linear
from carten.ops import builders
from carten.ops.draft import Draft
from carten.ops.index import Index
from carten.ops.interpreter import run, weights
from carten.ops.space import SCALAR, Part, Space

VECTOR = Part(1, -1)
CHANNELS = 4
KINDS = torch.tensor([2, 0, 2, 1, 0, 2])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def features(space, rows=6):
    g = generator()
    return {p: torch.randn(rows, p.size, CHANNELS, generator=g, dtype=torch.float64) for p in space.parts}


def evaluate(part, values, kinds=None, n_kinds=4):
    """What a part of a layer makes of features, by the circuit that it describes."""
    draft = Draft()
    inputs = {p: draft.input(f"in/{p.name}", "own", *x.shape[1:]) for p, x in values.items()}
    index = () if kinds is None else (draft.index("element", "own", n_kinds),)
    circuit = draft.finish({p.name: x for p, x in part.describe(draft, inputs, *index).items()})
    tensors = {f"in/{p.name}": x for p, x in values.items()} | weights(part, circuit)
    indices = {} if kinds is None else {"element": Index(kinds, n_kinds)}
    found = run(circuit, tensors, indices, {"own": len(next(iter(values.values())))}, "reference")
    return {Part.named(name): x for name, x in found.items()}


# --- linear maps ------------------------------------------------------------------------------------------------------


def test_linear_mixes_channels_within_each_part():
    space = Space((SCALAR, VECTOR))
    linear, values = Linear({SCALAR: CHANNELS, VECTOR: CHANNELS}, 3, generator()), features(space)
    found = evaluate(linear, values)
    for part in space.parts:
        weight = linear.weight[part.name].detach() / CHANNELS**0.5
        torch.testing.assert_close(found[part].detach(), torch.einsum("nmc,cd->nmd", values[part], weight))


def test_element_linear_is_the_map_of_each_atom():
    """Atoms in any order of kinds, one kind without atoms."""
    linear, values = ElementLinear({VECTOR: CHANNELS}, 3, 4, generator()), features(Space((VECTOR,)))
    found = evaluate(linear, values, KINDS)[VECTOR].detach()
    weight = linear.weight["1-"].detach() / CHANNELS**0.5
    for n, kind in enumerate(KINDS.tolist()):
        torch.testing.assert_close(found[n], values[VECTOR][n] @ weight[kind])


def test_element_linear_of_no_atoms():
    linear = ElementLinear({VECTOR: CHANNELS}, 3, 4, generator())
    none = torch.zeros(0, dtype=torch.int64)
    assert evaluate(linear, features(Space((VECTOR,)), rows=0), none)[VECTOR].shape == (0, 3, 3)


@pytest.mark.parametrize(("gain", "power"), [(SILU_GAIN, 2), (SIGMOID_GAIN, 0)])
def test_gains_of_nonlinearities(gain, power):
    """1 / sqrt of the mean of silu(x)^2 = x^2 sigmoid(x)^2, or of sigmoid(x)^2, over unit normals, by quadrature."""

    def integrand(x):
        return x**power * (1 + np.exp(-x)) ** -2 * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    assert quad(integrand, -12, 12)[0] ** -0.5 == pytest.approx(gain, rel=1e-10)


# --- messages ---------------------------------------------------------------------------------------------------------


def interaction(kind, **options):
    config = NetworkConfig.model_validate({"n_channels": CHANNELS, "l_max_edges": 1, "interaction": options})
    return kind(config, Space.up_to(1), 4, 6.0, generator())


def test_gates_multiply_messages_by_functions_of_sums_of_scalars():
    gated, plain = interaction(GatedInteraction), interaction(Interaction)
    sums = {part: torch.randn(6, part.size * 2, CHANNELS, dtype=torch.float64) for part in plain.target.parts}
    gated.describe, plain.describe = gated.describe_message, plain.describe_message
    values, messages = evaluate(gated, sums), evaluate(plain, sums)
    weight = gated.gates["1-"].weight["0+"].detach()
    gate = SIGMOID_GAIN * torch.sigmoid(sums[SCALAR].reshape(6, 1, -1) @ weight * weight.shape[0] ** -0.5)
    torch.testing.assert_close(values[VECTOR], messages[VECTOR] * gate)
    torch.testing.assert_close(values[SCALAR], SILU_GAIN * torch.nn.functional.silu(messages[SCALAR]))


def test_sums_are_divided_by_the_number_of_neighbours_or_its_root():
    root, number = (interaction(Interaction, normalisation=name).radial.gains[-1] for name in ("root", "number"))
    assert number * 6.0**0.5 == pytest.approx(root)


# --- products ---------------------------------------------------------------------------------------------------------


def build(space, target, **options):
    config = NetworkConfig.model_validate({"n_channels": CHANNELS, "l_max_edges": space.l_max, **options})
    return product.build_product(config, space, target, 4, generator(1))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_coupled_products_contain_the_channelwise_ones(order):
    """Weights that are diagonal in the channels make the same; both have one weight per path, in one order."""
    space = target = Space.up_to(2)
    narrow = build(space, target, correlation_order=order, product={"weights": "channelwise"})
    wide = build(space, target, correlation_order=order, product={"weights": "coupled"})
    counts = [a.size // p.size for p, a in zip(target.parts, wide.plan.outputs, strict=True)]
    assert sum(counts) == narrow.weight.shape[1]
    values, weight = features(space), (narrow.weight * narrow.scale).detach()
    rows = paths_of(narrow.plan)
    for part, n in zip(target.parts, counts, strict=True):
        diagonal = torch.diag_embed(weight[:, rows[f"m{part.name}"]]).reshape(4, n * CHANNELS, CHANNELS)
        wide.mix.weight[part.name].data = diagonal / wide.mix.scale[part]
    expected, found = (evaluate(p, values, KINDS) for p in (narrow, wide))
    for part in target.parts:
        torch.testing.assert_close(found[part], expected[part], rtol=1e-10, atol=1e-12)


def test_orders_that_are_scaled_apart_divide_by_the_paths_of_each():
    space = target = Space.up_to(2)
    together, apart = (
        build(space, target, correlation_order=3, product={"weights": "coupled", "orders": orders})
        for orders in ("together", "apart")
    )
    for part in target.parts:
        orders = np.array([order(path) for to, path in builders.weight_paths(space, target, 3) if to == part])
        factors = np.sqrt(len(orders) / np.array([(orders == q).sum() for q in orders]))
        together.mix.weight[part.name].data *= torch.from_numpy(factors).repeat_interleave(CHANNELS)[:, None]
    values = features(space)
    expected, scaled = (evaluate(layer, values, KINDS) for layer in (together, apart))
    for part in target.parts:
        torch.testing.assert_close(scaled[part], expected[part], rtol=1e-10, atol=1e-12)


def order(path):
    return 1 if isinstance(path, Part) else 1 + order(path[0])


def paths_of(plan):
    """Rows of the weights that lead to each output, in their order: also those that enter through a partial sum."""
    through = {step.left: step.target for step in plan.steps if step.right not in ("weights", "")}
    found = {array.name: [] for array in plan.outputs}
    for step in plan.steps:
        if step.right == "weights":
            target = step.target if step.target in found else through[step.target]
            found[target] += sorted({b for _, _, b, _ in step.terms})
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_spatial_product_is_a_polynomial_of_the_function_on_the_sphere(order):
    """Against a much finer quadrature: the coarse one is exact."""
    space, target = Space.up_to(2), Space.up_to(3)
    layer = build(space, target, correlation_order=order, product={"kind": "spatial"})
    points, weights = sphere(47)
    harmonics = torch.from_numpy(stf.harmonics(3, points))
    values = features(space)
    function = sum(harmonics[:, p.l**2 : (p.l + 1) ** 2] @ values[p] for p in space.parts) / len(space.parts) ** 0.5
    found = evaluate(layer, values, KINDS)
    for k, part in enumerate(target.parts):
        back = harmonics[:, part.l**2 : (part.l + 1) ** 2].T * torch.from_numpy(weights.copy())
        powers = torch.stack([back @ function ** (q + 1) for q in range(order)], dim=1)
        expected = torch.einsum("nqmc,nqc->nmc", powers, layer.weight.detach()[KINDS, :, k])
        torch.testing.assert_close(found[part].detach(), expected, rtol=1e-11, atol=1e-11)


def test_a_spatial_product_on_too_few_points_would_not_be_equivariant(monkeypatch):
    """The test of equivariance sees a quadrature that is two degrees short."""
    exact = product.sphere

    def turned_error(degree_error):
        monkeypatch.setattr(product, "sphere", lambda degree: exact(degree + degree_error))
        layer = build(Space.up_to(2), Space.up_to(2), correlation_order=3, product={"kind": "spatial"})
        matrix = Rotation.random(random_state=np.random.default_rng(0)).as_matrix()
        turn = {p: torch.from_numpy(stf.rotation(p.l, matrix)) for p in Space.up_to(2).parts}
        values = features(Space.up_to(2))
        first = evaluate(layer, {p: turn[p] @ x for p, x in values.items()}, KINDS)
        second = evaluate(layer, values, KINDS)
        return max(float((first[p] - turn[p] @ second[p]).detach().abs().max()) for p in turn)

    assert turned_error(0) < 1e-12
    assert turned_error(-3) > 1e-3


def test_weights_are_those_of_the_element_of_the_atom():
    space = Space.up_to(1)
    for options in ({"product": {"weights": "coupled"}}, {}, {"product": {"kind": "spatial"}}):
        layer = build(space, space, correlation_order=2, **options)
        values = {p: x[:1].expand(len(KINDS), -1, -1).contiguous() for p, x in features(space).items()}
        found = evaluate(layer, values, KINDS)[VECTOR]
        same = (found[:, None] - found[None]).abs().amax((2, 3)) < 1e-12
        assert torch.equal(same, KINDS[:, None] == KINDS[None])


@pytest.mark.parametrize("kind", ["recursive", "spatial"])
def test_what_a_product_makes(kind):
    config = NetworkConfig.model_validate({"l_max_edges": 2, "correlation_order": 2, "product": {"kind": kind}})
    found = product.reachable_features(config, Space.up_to(2), Space.up_to(6, pseudo=True))
    assert str(found) == "0+ 1- 2+ 3- 4+"
