from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from carten.data.dataset import Batch
from carten.model.graph import Graph
from carten.properties.routes import Property
from carten.properties.spec import property_table
from carten.train.loss import LossTerm, combine, loss_terms
from carten.train.metrics import PropertyErrors

ROWS = property_table()
SIZES = (2, 1, 3)
N, S = sum(SIZES), len(SIZES)


def batch_of(targets: dict[str, Tensor], weight: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Batch:
    structure = torch.repeat_interleave(torch.arange(S), torch.tensor(SIZES))
    graph = Graph(
        positions=torch.zeros(N, 3),
        numbers=torch.ones(N, dtype=torch.int64),
        cell=torch.zeros(S, 3, 3),
        pbc=torch.zeros(S, 3, dtype=torch.bool),
        structure=structure,
        edge_index=torch.zeros(2, 0, dtype=torch.int64),
        edge_shift=torch.zeros(0, 3),
    )
    return Batch(graph, targets, torch.tensor(weight, dtype=torch.float64), torch.arange(S))


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.fixture
def example() -> tuple[dict[str, Tensor], Batch]:
    targets = {"energy": numbers(S, seed=0), "forces": numbers(N, 3, seed=1), "stress": numbers(S, 3, 3, seed=2)}
    predictions = {"energy": numbers(S, seed=3), "forces": numbers(N, 3, seed=4), "stress": numbers(S, 3, 3, seed=5)}
    targets["stress"][1] = torch.nan
    targets["forces"][3:] = torch.nan  # the third structure carries none
    return predictions, batch_of(targets, (1.0, 2.0, 0.5))


def value(term: LossTerm, example: tuple[dict[str, Tensor], Batch]) -> float:
    return float(combine([term], loss_terms([term], *example)))


@pytest.mark.parametrize(
    ("kind", "penalty"),
    [
        ("squared", lambda e: e**2),
        ("absolute", np.abs),
        ("huber", lambda e: np.where(abs(e) < 0.7, e**2 / 2, 0.7 * (abs(e) - 0.35))),
    ],
)
def test_penalties_of_components(kind: str, penalty, example) -> None:
    predictions, batch = example
    error = (predictions["forces"] - batch.targets["forces"]).numpy()[:3]
    expected = 3.0 * np.mean(penalty(error) * np.array([1.0, 1.0, 2.0])[:, None])
    assert value(LossTerm(ROWS["forces"], 3.0, kind, 0.7), example) == pytest.approx(expected, rel=1e-14)


def test_vector_norm_counts_rows(example) -> None:
    predictions, batch = example
    error = (predictions["forces"] - batch.targets["forces"]).numpy()[:3]
    expected = np.mean(np.linalg.norm(error, axis=1) * np.array([1.0, 1.0, 2.0]))
    assert value(LossTerm(ROWS["forces"], 1.0, "vector_norm"), example) == pytest.approx(expected, rel=1e-14)


def test_extensive_properties_of_structures_count_per_atom(example) -> None:
    predictions, batch = example
    error = (predictions["energy"] - batch.targets["energy"]).numpy() / np.array(SIZES)
    expected = np.mean(error**2 * np.array([1.0, 2.0, 0.5]))
    assert value(LossTerm(ROWS["energy"]), example) == pytest.approx(expected, rel=1e-14)


def test_intensive_properties_do_not(example) -> None:
    predictions, batch = example
    error = (predictions["stress"] - batch.targets["stress"]).numpy()[[0, 2]]
    expected = np.mean(error**2 * np.array([1.0, 0.5])[:, None, None])
    assert value(LossTerm(ROWS["stress"]), example) == pytest.approx(expected, rel=1e-14)


def test_a_property_declared_by_the_user_needs_no_code(example) -> None:
    row = Property("shielding", "atom", "ij", 1, "ppm")
    predictions = {"shielding": numbers(N, 3, 3, seed=6)}
    batch = batch_of({"shielding": numbers(N, 3, 3, seed=7)})
    expected = float((predictions["shielding"] - batch.targets["shielding"]).square().mean())
    assert value(LossTerm(row), (predictions, batch)) == pytest.approx(expected, rel=1e-14)


def test_no_label_contributes_neither_loss_nor_gradient(example) -> None:
    predictions, batch = example
    batch = replace(batch, targets={name: torch.full_like(t, torch.nan) for name, t in batch.targets.items()})
    predictions = {name: p.clone().requires_grad_() for name, p in predictions.items()}
    terms = [LossTerm(ROWS[name], kind=kind) for name in predictions for kind in ("squared", "vector_norm", "huber")]
    loss = combine(terms, loss_terms(terms, predictions, batch))
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in predictions.values())


def test_masked_entries_do_not_poison_gradients(example) -> None:
    predictions, batch = example
    predictions = {name: p.clone().requires_grad_() for name, p in predictions.items()}
    terms = [LossTerm(ROWS[name], kind=kind) for name in predictions for kind in ("squared", "absolute", "vector_norm")]
    combine(terms, loss_terms(terms, predictions, batch)).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in predictions.values())
    assert torch.count_nonzero(predictions["forces"].grad[3:]) == 0


def test_sums_over_batches_are_the_loss_of_all(example) -> None:
    terms = [LossTerm(ROWS["energy"], 2.0), LossTerm(ROWS["forces"], 0.1, "absolute")]
    other = ({n: p + 0.3 for n, p in example[0].items()}, batch_of({**example[1].targets}))
    sums = loss_terms(terms, *example) + loss_terms(terms, *other)
    first, second = (loss_terms(terms, *one) for one in (example, other))
    expected = sum(w * (a[0] + b[0]) / (a[1] + b[1]) for w, a, b in zip((2.0, 0.1), first, second, strict=True))
    assert float(combine(terms, sums)) == pytest.approx(float(expected), rel=1e-14)


def test_metrics_are_in_reported_units_and_masked(example) -> None:
    predictions, batch = example
    metrics = PropertyErrors([ROWS["energy"], ROWS["forces"]])
    metrics.update(predictions, batch)
    metrics.update(predictions, batch)
    found = metrics.compute()
    energy = 1e3 * (predictions["energy"] - batch.targets["energy"]).numpy()
    forces = 1e3 * (predictions["forces"] - batch.targets["forces"]).numpy()[:3]
    expected = {
        "energy_rmse": np.sqrt(np.mean(energy**2)),
        "energy_mae": np.mean(abs(energy)),
        "energy_max": np.max(abs(energy)),
        "energy_per_atom_rmse": np.sqrt(np.mean((energy / SIZES) ** 2)),
        "energy_per_atom_mae": np.mean(abs(energy / SIZES)),
        "energy_per_atom_max": np.max(abs(energy / SIZES)),
        "forces_rmse": np.sqrt(np.mean(forces**2)),
        "forces_mae": np.mean(abs(forces)),
        "forces_max": np.max(abs(forces)),
    }
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-12)
    metrics.reset()
    metrics.update(
        predictions, replace(batch, targets={n: torch.full_like(t, torch.nan) for n, t in batch.targets.items()})
    )
    assert all(np.isnan(error) for error in metrics.compute().values())
