"""Circuits: what the interpreter makes of every operator, their derivatives, text, and what they refuse."""

import pytest
import torch
from torch import nn

from carten.ops import builders
from carten.ops.circuit import Circuit, parse_circuit
from carten.ops.draft import Draft
from carten.ops.index import Index
from carten.ops.interpreter import apply, run, weights
from carten.ops.operators import FUNCTIONS, Add, Mix, Value
from carten.ops.space import SCALAR, Space

ROWS = {"own": 4, "all": 6, "edges": 9}
C = 3
TWO = Space.up_to(1)


class Module(nn.Module):
    """Weights for the circuit below."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(C, C, generator=g, dtype=torch.float64))
        self.inner = nn.Module()
        self.inner.kinds = nn.Parameter(torch.randn(2, C, C, generator=g, dtype=torch.float64))
        self.gains = nn.Parameter(torch.randn(2, C, C, generator=g, dtype=torch.float64))
        self.register_buffer("points", torch.randn(5, 3, generator=g, dtype=torch.float64))
        self.register_buffer("scale", torch.randn(C, C, generator=g, dtype=torch.float64))


def circuit():
    """Every operator, gather and scatter, values that are used twice, matrices by kind."""
    draft = Draft()
    h = {p: draft.input(f"all/{p.name}", "all", p.size, C) for p in TWO.parts}
    harmonics = draft.input("harmonics", "edges", 4)
    plan = builders.interaction_plan(TWO, 1, TWO)
    n_paths = plan.arrays["radial"].size
    radial = draft.input("radial", "edges", n_paths, C)
    centre, neighbour = draft.index("centre", "edges", "own"), draft.index("neighbour", "edges", "all")
    element = draft.index("element", "own", 2)
    sent = [draft.mix(x, draft.weight("matrix", (C, C)), 0.7) for x in h.values()]
    scaled = draft.multiply(radial, draft.apply("silu", radial))
    sums = draft.run(plan, [*sent, harmonics, scaled], "edges", {"centre": centre, "neighbour": neighbour})
    kinds = draft.within("inner").weight("kinds", (2, C, C))
    scalar, vector = (draft.mix(x, kinds, 0.5, size, element) for x, size in zip(sums, (2, 3 * 3), strict=True))
    positive = draft.add(draft.apply("one", scalar), draft.multiply(scalar, scalar))
    rooted = draft.multiply(draft.apply("inverse_root", positive), draft.apply("inverse", positive))
    gated = draft.add(rooted, draft.apply("sigmoid", scalar), rooted)
    folded = draft.mix(gated, draft.multiply(draft.weight("gains", (C, C), 1), draft.weight("scale", (C, C))), 1.0)
    points = draft.combine(draft.input("own", "own", 3, C), draft.weight("points", (5, 3)))
    return draft.finish({"scalar": folded, "vector": vector, "squares": draft.multiply(points, points)})


def tensors(seed=0, rows=ROWS, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    made = {v.name: torch.randn(rows[v.rows], *v.row_shape, generator=g).to(dtype) for v in circuit().inputs}
    return {name: x.requires_grad_() for name, x in made.items()}


def indices(rows=ROWS):
    g = torch.Generator().manual_seed(1)
    sizes = {"centre": ("edges", "own"), "neighbour": ("edges", "all")}
    made = {n: torch.randint(rows[r], (rows[s],), generator=g) for n, (s, r) in sizes.items()}
    made["centre"] = made["centre"].sort().values
    kinds = torch.arange(rows["own"]) % 2
    return {n: Index(x, rows[sizes[n][1]], n == "centre") for n, x in made.items()} | {"element": Index(kinds, 2)}


def evaluate(what, values, backend="reference"):
    return run(what, {**values, **weights(Module(), what)}, indices(), ROWS, backend)


# --- the derivative is a circuit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [("scalar", "vector", "squares"), ("vector",), ("squares",)])
def test_the_gradient_is_that_of_autograd(given):
    forward, values = circuit(), tensors()
    wrt = [value.name for value in forward.inputs]
    outputs = evaluate(forward, values)
    seeds = {name: torch.randn(outputs[name].shape, dtype=torch.float64) for name in given}
    expected = torch.autograd.grad(
        [outputs[name] for name in given], [values[name] for name in wrt], list(seeds.values()), allow_unused=True
    )
    backward = forward.vjp(wrt, given)
    kept = [value.name for value in backward.inputs if value.name in {v.name for v in forward.values}]
    between = evaluate(forward.select(kept), values) if kept else {}
    seeds = {f"gradient({name})": x for name, x in seeds.items()}
    found = evaluate(backward, {**values, **between, **seeds})
    assert list(found) == [f"gradient({n})" for n, x in zip(wrt, expected, strict=True) if x is not None]
    for name, x in zip(wrt, expected, strict=True):
        if x is not None:
            torch.testing.assert_close(found[f"gradient({name})"], x, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_gradient_is_that_of_autograd():
    forward, values = circuit(), tensors()
    wrt = [value.name for value in forward.inputs]
    first = forward.vjp(wrt, ["scalar"])
    between = [value.name for value in first.inputs if value.name in {v.name for v in forward.values}]
    made = {n: x.detach().requires_grad_() for n, x in evaluate(forward.select(between), values).items()}
    made["gradient(scalar)"] = torch.randn(4, 2, C, dtype=torch.float64).requires_grad_()
    inputs = {v.name: {**values, **made}[v.name] for v in first.inputs}
    results = evaluate(first, inputs)
    seeds = {name: torch.randn_like(x) for name, x in results.items()}
    names = [value.name for value in first.inputs if isinstance(value.rows, str)]
    wanted = [inputs[name] for name in names]
    expected = torch.autograd.grad(list(results.values()), wanted, list(seeds.values()))
    second = first.vjp(names)
    kept = [value.name for value in second.inputs if value.name in {v.name for v in first.values}]
    again = evaluate(first.select(kept), inputs)
    found = evaluate(second, {**inputs, **again, **{f"gradient({n})": x for n, x in seeds.items()}})
    for x, y in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("order", range(4))
def test_derivatives_of_functions(function, order):
    x = torch.linspace(0.3, 2.0, 7, dtype=torch.float64).requires_grad_()
    value = apply(function, x, order)
    expected = torch.zeros_like(x)
    if value.requires_grad:
        (expected,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(apply(function, x, order + 1), expected, rtol=1e-12, atol=1e-12)


def test_values_without_influence_have_no_gradient():
    draft = Draft()
    x, y = draft.input("x", "own", 1, C), draft.input("y", "own", 1, C)
    made = draft.finish({"a": draft.multiply(x, x), "b": y})
    assert made.vjp(["x", "y"], ["a"]).outputs == ("gradient(x)",)
    assert made.vjp(["x", "y"], ["b"]).outputs == ("gradient(y)",)


def test_both_terms_of_a_sum_have_its_gradient():
    draft = Draft()
    x, y = draft.input("x", "own", 1, C), draft.input("y", "own", 1, C)
    backward = draft.finish({"a": draft.add(x, y, x)}).vjp(["x", "y"])
    seed = torch.randn(4, 1, C, dtype=torch.float64)
    found = run(backward, {"gradient(a)": seed}, {}, ROWS)
    torch.testing.assert_close(found["gradient(x)"], 2 * seed)
    torch.testing.assert_close(found["gradient(y)"], seed)


def test_matrices_are_not_differentiated_in_silence():
    draft = Draft()
    x = draft.input("x", "own", 1, C)
    matrix = draft.input("matrix", C, C)
    made = draft.finish({"a": draft.mix(x, matrix, 1.0)})
    assert made.vjp(["x"]).outputs == ("gradient(x)",)
    with pytest.raises(ValueError, match="not differentiated with respect to matrices"):
        made.vjp(["x", "matrix"])


# --- running ----------------------------------------------------------------------------------------------------------


def test_back_ends_agree():
    expected, found = (evaluate(circuit(), tensors(), backend) for backend in ("reference", "cpp"))
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-12, atol=1e-12)


def test_operators_are_what_they_say():
    """Against plain torch, for one operator of each kind that is not a plan."""
    draft = Draft()
    x = draft.input("x", "own", 4, C)
    element = draft.index("element", "own", 2)
    made = draft.finish(
        {
            "mixed": draft.mix(x, draft.weight("pairs", (2 * C, 5)), 2.0),
            "by kind": draft.mix(x, draft.weight("kinds", (2, C, 5)), 3.0, index=element),
            "combined": draft.combine(x, draft.weight("points", (6, 4))),
        }
    )
    g = torch.Generator().manual_seed(0)
    shapes = {v.name: (ROWS.get(v.rows, v.rows), *v.row_shape) for v in (*made.inputs, *made.weights)}
    values = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    kinds = torch.tensor([1, 0, 1, 1])
    found = run(made, values, {"element": Index(kinds, 2)}, ROWS, "reference")
    torch.testing.assert_close(found["mixed"], 2 * values["x"].reshape(4, 2, 2 * C) @ values["pairs"])
    torch.testing.assert_close(found["by kind"], 3 * torch.einsum("rsc,rcd->rsd", values["x"], values["kinds"][kinds]))
    torch.testing.assert_close(found["combined"], torch.einsum("as,rsc->rac", values["points"], values["x"]))


def test_rows_are_symbols():
    """No atoms and no edges either."""
    rows = {"own": 0, "all": 0, "edges": 0}
    none = {n: Index(torch.zeros(0, dtype=torch.int64), max(i.rows, 0)) for n, i in indices().items()}
    none = {n: Index(x.values, rows.get({"centre": "own", "neighbour": "all"}.get(n, ""), 2)) for n, x in none.items()}
    found = run(circuit(), {**tensors(rows=rows), **weights(Module(), circuit())}, none, rows, "reference")
    assert {name: len(x) for name, x in found.items()} == {"scalar": 0, "vector": 0, "squares": 0}


def test_weights_are_those_of_the_module_at_the_time():
    module, what, values = Module(), circuit(), tensors()
    before = run(what, {**values, **weights(module, what)}, indices(), ROWS, "reference")["squares"]
    with torch.no_grad():
        module.points.mul_(2.0)
    after = run(what, {**values, **weights(module, what)}, indices(), ROWS, "reference")["squares"]
    torch.testing.assert_close(after, 4 * before)


def test_what_depends_on_weights_alone_is_split_off():
    whole = circuit()
    first, rest = whole.split()
    assert not first.inputs and len(first.outputs) == 1
    assert len(first.operators) + len(rest.operators) == len(whole.operators)
    folded = run(first, weights(Module(), first), {}, {})
    own = {v.name: weights(Module(), whole)[v.name] for v in rest.weights if v.name not in folded}
    found = run(rest, {**tensors(), **own, **folded}, indices(), ROWS, "reference")
    for name, x in evaluate(whole, tensors()).items():
        torch.testing.assert_close(found[name], x)


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_holds_everything():
    made = circuit()
    again = parse_circuit(made.text)
    assert again == made and hash(again) == hash(made) and str(again) == str(made)
    assert again.vjp(["radial"], ["vector"]) == made.vjp(["radial"], ["vector"])
    assert circuit().text == made.text  # nothing in it depends on when or where it is made


def test_circuits_that_differ_are_not_equal():
    draft = Draft()
    x = draft.input("x", "own", 1, C)
    one, two = (draft.finish({"a": draft.mix(x, draft.weight("w", (C, C)), scale)}) for scale in (1.0, 2.0))
    assert one != two and one.digest != two.digest


def test_names_are_those_of_the_state_dict():
    made = {value.name.partition("[")[0] for value in circuit().weights}
    module = Module()
    assert made <= {name for name, _ in (*module.named_parameters(), *module.named_buffers())}


# --- refusals ---------------------------------------------------------------------------------------------------------

X, Y, W = Value("x", "own", 1, C), Value("y", "own", 1, C), Value("w", C, C)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Circuit((X,), (), (), (Y,), (Add(("z",), "y"),), ("y",)), "reads 'z', which is not written before"),
        (lambda: Circuit((X,), (), (), (Y,), (Add(("x",), "x"),), ("y",)), "writes 'x', which is written before"),
        (lambda: Circuit((X,), (), (), (Value("y", "all", 1, C),), (Add(("x",), "y"),), ("y",)), "differ in shape"),
        (lambda: Circuit((X,), (Value("w", 2, C),), (), (Y,), (Mix("x", "w", "y"),), ("y",)), "do not consist of 2"),
        (lambda: Circuit((X,), (W,), (), (Y,), (Mix("x", "w", "y", 1.0, "kind"),), ("y",)), "uses the index 'kind'"),
        (lambda: Circuit((X,), (W,), (), (Y,), (), ("y",)), "output 'y' is not written"),
        (lambda: Circuit((X, X), (), (), (), (), ()), "unique names"),
        (lambda: circuit().vjp(["nothing"]), "not nothing"),
        (lambda: circuit().vjp(["radial"], ["nothing"]), "not nothing"),
        (lambda: circuit().vjp(["radial"], ["vector"]).vjp(["radial"], ["nothing"]), "not nothing"),
        (lambda: circuit().select(["nothing"]), "no values nothing"),
    ],
)
def test_circuits_that_cannot_run_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()


@pytest.mark.parametrize("name", ["all/0+", "centre", "matrix"])
def test_what_is_missing_is_named(name):
    everything = {**tensors(), **weights(Module(), circuit())}
    everything.pop(name, None)
    rest = {n: x for n, x in indices().items() if n != name}
    with pytest.raises(ValueError, match=f"needs the (input|index|weight) .?{name}"):
        run(circuit(), everything, rest, ROWS, "reference")


def test_shapes_are_checked():
    values = tensors() | {"radial": torch.zeros(9, 2, C, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"input radial\[edges.*found \(9, 2, 3\)"):
        evaluate(circuit(), values)
    assert SCALAR in TWO
