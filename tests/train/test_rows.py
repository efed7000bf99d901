"""Rows of second derivatives, drawn anew in each step: the same values, the same loss on average."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from ase import Atoms

from carten.data.dataset import Batch, Dataset, collate
from carten.data.labels import Label, frames_from
from carten.errors import ConfigError
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Property
from carten.properties.spec import input_table, property_table
from carten.train.config import PropertyConfig
from carten.train.loss import LossTerm, combine, loss_terms
from carten.train.rows import SampledRows
from carten.train.terms import property_row
from properties.cases import build, other_solid, solid

NAMES = ("born_charges", "polarizability", "elastic")
FIELD, STRAIN = ("energy", ("electric_field",)), ("energy", ("strain",))


@pytest.fixture(scope="module")
def model() -> Potential:
    rows = (property_table()["energy"], *(_row(name) for name in NAMES))
    return build(rows).train()


def _row(name: str) -> Property:
    row = property_table()[name]
    return replace(row, routes=tuple(route for route in row.routes if isinstance(route, Derivative)))


def _batch(model: Potential) -> Batch:
    """Two cells whose labels are the predictions, whole, and a little."""
    cells = [_bare(atoms) for atoms in (solid(), other_solid())]
    rows = [model.properties[name] for name in NAMES]
    frames = frames_from([("cell", atoms) for atoms in cells], [], [Label(input_table()["electric_field"])])
    batch = collate([Dataset(frames, rows, model.cutoff)[k] for k in range(2)])
    found = model(batch.graph, NAMES)
    return replace(batch, targets={name: value.detach() + 0.1 for name, value in found.items()})


def _bare(atoms: Atoms) -> Atoms:
    new = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    new.info["electric_field"] = atoms.info["electric_field"]
    return new


def _terms(model: Potential, **rows: int | None) -> list[LossTerm]:
    return [LossTerm(model.properties[name], rows=number) for name, number in rows.items()]


def test_rows_are_those_of_the_whole_and_labels_go_with_them(model: Potential) -> None:
    batch = _batch(model)
    rows = SampledRows(_terms(model, born_charges=1, polarizability=2, elastic=2), model)
    drawn = rows.draw(batch, 5)
    assert {source: len(chosen) for source, chosen in drawn.items()} == {FIELD: 2, STRAIN: 2}
    assert all(torch.equal(chosen, rows.draw(batch, 5)[source]) for source, chosen in drawn.items())
    seeds = [SampledRows(_terms(model, polarizability=2, born_charges=2), model, seed) for seed in range(40)]
    assert {tuple(row.draw(batch, 5)[FIELD].tolist()) for row in seeds} == set(permutations(range(3), 2))
    found, labels = model(batch.graph, NAMES, drawn), rows.restrict(batch, drawn).targets
    for name in NAMES:
        there = ~found[name].isnan()
        assert torch.equal(there, ~labels[name].isnan())
        torch.testing.assert_close(found[name][there] + 0.1, labels[name][there], rtol=1e-12, atol=1e-14)
    assert (~found["born_charges"].isnan()).sum() == 2 * 3 * 6, "two rows of three columns for each of six atoms"
    gradients = torch.autograd.grad(
        combine(_terms(model, **dict.fromkeys(NAMES)), loss_terms(_terms(model, **dict.fromkeys(NAMES)), found, batch)),
        list(model.parameters()),
        allow_unused=True,
    )
    assert sum(g is not None and bool(g.abs().max() > 0) for g in gradients) > 5


def test_the_loss_is_that_of_all_rows_on_average(model: Potential) -> None:
    batch = _batch(model)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(batch.targets["born_charges"].shape, generator=generator, dtype=torch.float64)
    batch = replace(batch, targets={"born_charges": batch.targets["born_charges"] + noise})
    terms = _terms(model, born_charges=1)
    rows = SampledRows(terms, model)
    whole = combine(terms, loss_terms(terms, model(batch.graph, ["born_charges"]), batch))
    losses = {}
    for step in range(40):
        drawn = rows.draw(batch, step)
        some = rows.restrict(batch, drawn)
        losses[int(drawn[FIELD])] = combine(terms, loss_terms(terms, model(some.graph, ["born_charges"], drawn), some))
    assert set(losses) == {0, 1, 2}, "the chance that 40 draws leave one out is 3e-7"
    torch.testing.assert_close(torch.stack(list(losses.values())).mean(), whole, rtol=1e-12, atol=0)


def test_rows_of_a_structure_do_not_depend_on_the_batch_it_is_in() -> None:
    """So that several processes, each with its part of a batch, draw what one process draws."""
    model = build((property_table()["energy"], property_table()["hessian"]))
    frames = frames_from([("cell", atoms) for atoms in (solid(), other_solid(), solid())], [], [])
    data = Dataset(frames, [model.properties["hessian"]], model.cutoff)
    rows = SampledRows(_terms(model, hessian=3), model, seed=7)
    (whole,) = rows.draw(collate([data[k] for k in range(3)]), 5).values()
    for share in ([2], [1, 0]):
        (part,) = rows.draw(collate([data[k] for k in share]), 5).values()
        assert torch.equal(part, whole[share])
    assert not torch.equal(whole[0], whole[2]), "equal structures at other positions have other rows"
    (later,) = rows.draw(collate([data[k] for k in range(3)]), 6).values()
    assert not torch.equal(whole, later)


def test_what_another_property_needs_whole_is_whole(model: Potential) -> None:
    batch = _batch(model)
    assert SampledRows(_terms(model, born_charges=1, polarizability=None), model).draw(batch, 0) == {}
    raman = Property("mine", "atom", "ijk=jik", -1, "e*Angstrom/V", (Derivative("alpha", ("positions",)),))
    twice = Derivative("energy", FIELD[1] * 2, sign=-1)
    alpha = Property("alpha", "structure", "ij=ji", +1, "e*Angstrom^2/V", (twice,))
    deeper = build((property_table()["energy"], alpha, raman))
    drawn = SampledRows([LossTerm(alpha, rows=1), LossTerm(raman, rows=2)], deeper).draw(batch, 0)
    assert {source: len(chosen) for source, chosen in drawn.items()} == {("energy", FIELD[1] * 2): 2}


@pytest.mark.parametrize(
    ("name", "takes"), [("forces", "one"), ("stress", "one"), ("energy", "no derivative"), ("slopes", "others")]
)
def test_properties_without_rows_are_refused(name: str, takes: str) -> None:
    slopes = Property("slopes", "atom", "ij=ji", +1, "e", (Derivative("charges", ("strain",)),))
    table = property_table() | {"slopes": slopes}
    model = build((table["energy"], table["charges"], table[name]))
    with pytest.raises(ConfigError, match=rf"properties.{name}.rows: expected .* that takes {takes}: remove this key"):
        SampledRows([LossTerm(model.properties[name], rows=1)], model)


def test_the_configuration_asks_for_rows() -> None:
    assert property_row("born_charges", PropertyConfig(rows=1)).name == "born_charges"
