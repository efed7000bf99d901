"""Layers describe themselves: circuits of whole models, weights that change, and parts that are exchanged."""

import copy
import pickle

import pytest
import torch
from torch import nn

import contract
from carten.errors import ModelError
from carten.model.described import Described, Layered
from carten.model.network import Layer
from carten.model.parameters import Linear
from carten.ops import interpreter
from carten.ops.circuit import parse_circuit
from carten.ops.index import Index
from carten.ops.plan import Plan
from model import models

ROWS = {"own": 3, "all": 5, "edges": 11, "structures": 2, "knots": 9}
NAMES = [*models.MAIN, "weights of all elements", "radial functions of the elements", "one layer"]


def owners(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Layered)]


def sample(circuit, seed=0):
    """Random inputs and indices of a circuit."""
    g = torch.Generator().manual_seed(seed)
    rows = {value.name: ROWS.get(value.rows, value.rows) for value in circuit.inputs}
    tensors = {
        v.name: torch.randn(rows[v.name], *v.row_shape, generator=g, dtype=torch.float64) for v in circuit.inputs
    }
    indices = {}
    for index in circuit.indices:
        n = ROWS.get(index.rows, index.rows)
        values = torch.randint(n, (ROWS[index.sites],), generator=g)
        indices[index.name] = Index(
            values.sort().values if index.name == "centre" else values, n, index.name == "centre"
        )
    return {name: x.requires_grad_() for name, x in tensors.items()}, indices


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_all_circuits_are_those_of_autograd(name):
    """Of the half that depends on inputs, as a compiled library has it."""
    for _, owner in owners(models.model(name).double()):
        for circuit in (circuit for circuit in owner.circuits.values() if circuit.inputs):
            tensors, indices = sample(circuit)
            first, rest = circuit.split()
            fixed = interpreter.weights(owner, circuit)
            fixed |= interpreter.run(first, fixed, {}, {})
            wrt = [value.name for value in rest.inputs]
            outputs = interpreter.run(rest, {**tensors, **fixed}, indices, ROWS, "reference")
            g = torch.Generator().manual_seed(1)
            seeds = {n: torch.randn(x.shape, generator=g, dtype=torch.float64) for n, x in outputs.items()}
            wanted = [tensors[n] for n in wrt]
            expected = torch.autograd.grad(list(outputs.values()), wanted, list(seeds.values()), allow_unused=True)
            backward = rest.vjp(wrt)
            between = {value.name for value in rest.values}
            kept = [value.name for value in backward.inputs if value.name in between]
            values = interpreter.run(rest.select(kept), {**tensors, **fixed}, indices, ROWS, "reference")
            given = {f"gradient({n})": x for n, x in seeds.items()}
            found = interpreter.run(backward, {**tensors, **fixed, **values, **given}, indices, ROWS, "reference")
            assert len(found) == sum(x is not None for x in expected)
            for n, x in zip(wrt, expected, strict=True):
                if x is not None:
                    scale = float(x.abs().max()) + 1e-30
                    torch.testing.assert_close(found[f"gradient({n})"], x, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_circuits_survive_their_text_and_name_the_state_dict(name):
    for path, owner in owners(models.model(name)):
        known = {n for n, _ in (*owner.named_parameters(), *owner.named_buffers())}
        used = set()
        for circuit in owner.circuits.values():
            assert parse_circuit(circuit.text) == circuit
            used |= {value.name.partition("[")[0] for value in circuit.weights}
        assert used <= known, path
        unused = {n for n, _ in owner.named_parameters()} - used
        if not any(isinstance(module, Layered) for module in owner.children()) and "layers" not in dict(
            owner.named_children()
        ):
            assert not unused, path


def energies(model):
    return torch.from_numpy(contract.results(model, models.molecule(), names=["energy", "forces"])["forces"])


def test_functional_call_uses_the_weights_it_is_given():
    model, other = (models.build({}, models.SCALARS, seed=seed).double() for seed in (0, 1))
    graph = contract.graphs(model, [models.molecule()])
    expected = other(graph, ["energy", "forces"])
    energies(model)
    found = torch.func.functional_call(model, dict(other.state_dict()), (graph, ["energy", "forces"]))
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_are_independent():
    model = models.build({}, models.SCALARS).double()
    before = energies(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(1.5)
        assert not torch.allclose(energies(other), before)
        assert torch.equal(energies(model), before)


class LowRank(Linear):
    """A low-rank correction of a linear map."""

    def correct(self, rank):
        g = torch.Generator().manual_seed(0)
        for name, n in (("down", rank), ("up_", rank)):
            sizes = {part: weight.shape for part, weight in self.weight.items()}
            shapes = {part: (s[0], n) if name == "down" else (n, s[1]) for part, s in sizes.items()}
            made = {part: nn.Parameter(torch.randn(s, generator=g, dtype=torch.float64)) for part, s in shapes.items()}
            setattr(self, name, nn.ParameterDict(made))

    def describe(self, draft, features):
        result = super().describe(draft, features)
        for part in result:
            down, up = (draft.weight(f"{n}.{part.name}", getattr(self, n)[part.name].shape) for n in ("down", "up_"))
            result[part] = draft.add(result[part], draft.mix(draft.mix(features[part], down, 1.0), up, 1.0))
        return result


def test_a_part_that_is_exchanged_is_drawn_anew():
    model, merged = models.build({}, models.SCALARS).double(), models.build({}, models.SCALARS).double()
    before = energies(model)
    linear, plain = (m.network.layers[0].out for m in (model, merged))
    linear.__class__ = LowRank
    linear.correct(2)
    with torch.no_grad():
        for part, scale in linear.scale.items():
            plain.weight[part.name] += linear.down[part.name] @ linear.up_[part.name] / scale
    assert not torch.allclose(energies(model), before)
    torch.testing.assert_close(energies(model), energies(merged), rtol=1e-12, atol=1e-12)


def called(self, features):
    return {part: 2 * x for part, x in features.items()}


class Called(Linear):
    forward = called


@pytest.mark.parametrize("kind", ["class", "instance", "base class", "hook", "pre-hook", "module", "a part is called"])
def test_what_circuits_do_not_show_is_refused(kind, monkeypatch):
    model = models.build({}, models.SCALARS).double()
    energies(model)
    layer = model.network.layers[0]
    match kind:
        case "class":
            layer.out.__class__ = Called
        case "instance":
            layer.out.forward = called
        case "base class":
            monkeypatch.setattr(Linear, "forward", called)
        case "hook":
            layer.out.register_forward_hook(lambda *_: None)
        case "pre-hook":
            layer.product.register_forward_pre_hook(lambda *_: None)
        case "module":
            layer.out = nn.Linear(3, 3)
    with pytest.raises(ModelError, match=r"forward of its own|has hooks|does not say what it does|can't be called"):
        layer.out({}) if kind == "a part is called" else energies(model)


def test_what_is_put_around_a_layer_runs(monkeypatch):
    """A gate after a layer, an operation in place, a hook."""
    model = models.build({}, models.SCALARS).double()
    before, plain = energies(model), Layer.forward

    def halved(self, *arguments):
        return {part: 0.5 * x for part, x in plain(self, *arguments).items()}

    monkeypatch.setattr(Layer, "forward", halved)
    gated = energies(model)
    assert not torch.allclose(gated, before)
    monkeypatch.undo()
    for layer in model.network.layers:
        layer.register_forward_hook(lambda module, arguments, result: {part: 0.5 * x for part, x in result.items()})
    torch.testing.assert_close(energies(model), gated, rtol=1e-12, atol=1e-12)


def test_a_part_without_a_description_says_so():
    class Empty(Described):
        pass

    model = models.build({}, models.SCALARS)
    model.network.layers[0].out = Empty()
    with pytest.raises(NotImplementedError, match="Empty has to describe itself"):
        energies(model)


@pytest.mark.parametrize("part", ["model", "network"])
def test_torch_compile_leaves_a_model_as_it_is(part):
    """What is slow is compiled already; forces are derivatives inside of forward."""
    model = models.build({}, models.SCALARS).double()
    graph = contract.graphs(model, [models.molecule()])
    if part == "model":
        arguments, run = (graph, ["energy", "forces"]), model
    else:
        arguments, run = (graph.edge_vectors(), graph.edge_index, model.element_of[graph.numbers]), model.network
    compiled = torch.compile(run, backend="eager")
    found, expected = compiled(*arguments), run(*arguments)
    for one, other in zip(*(x.items() if part == "model" else x[-1].items() for x in (found, expected)), strict=True):
        assert torch.equal(one[1], other[1]), one[0]


def test_no_plan_is_built_while_a_model_runs(monkeypatch):
    model = models.build({}, models.SCALARS).double()
    graph = contract.graphs(model, [models.molecule()])

    def refuse(self):
        raise AssertionError("a plan is built inside of forward")

    monkeypatch.setattr(Plan, "__post_init__", refuse)
    assert torch.isfinite(model(graph, ["energy"])["energy"]).all()
