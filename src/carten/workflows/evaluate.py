"""Evaluate a model on labelled structures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Batch, Dataset, collate
from carten.data.labels import Frame, carried
from carten.data.structures import require_known
from carten.errors import DataError, ModelError
from carten.math.arrays import Floats
from carten.properties.branches import nearest_branch
from carten.properties.members import UNCERTAIN
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.text import html_table, number, unit
from carten.train.loss import structure_of_rows
from carten.uncertainty.ensemble import Ensemble
from carten.uncertainty.evaluator import evaluator
from carten.units import conversion
from carten.workflows.comparison import Comparison


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model on some data.

    Args:
        comparisons: by property name.
        n_structures: in the data.
        n_atoms: in all of them.
        seconds: spent in the model.
        groups: name of the group of each structure; empty where there are none.
    """

    comparisons: dict[str, Comparison]
    n_structures: int
    n_atoms: int
    seconds: float
    groups: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        heading = (f"{self.n_structures:,} structures", "", "RMSE", "MAE", "max", "bias", "values")
        rows: list[tuple[str, ...]] = [heading]
        for name, comparison in self.comparisons.items():
            lines = [(name, comparison.total()), *((f"- {part}", errors) for part, errors in comparison.details())]
            for title, errors in lines:
                numbers = map(number, (errors.rmse, errors.mae, errors.max, errors.bias))
                rows.append((title, unit(errors.unit), *numbers, f"{errors.count:,}"))
        return html_table(rows)

    def summary(self) -> dict[str, Any]:
        """Everything but the single errors, ready for JSON: numbers in the units stated beside them."""
        return {
            "structures": self.n_structures,
            "atoms": self.n_atoms,
            "seconds": self.seconds,
            "properties": {name: _summary(comparison) for name, comparison in self.comparisons.items()},
            "groups": {
                group: {
                    "structures": self.groups.count(group),
                    "properties": {name: _summary(comparison) for name, comparison in comparisons.items()},
                }
                for group, comparisons in self.by_group().items()
            },
        }

    def by_group(self) -> dict[str, dict[str, Comparison]]:
        """Comparisons by property for each group, in the order of their names; empty without groups."""
        grouped: dict[str, dict[str, Comparison]] = {group: {} for group in sorted(set(self.groups))}
        for name, comparison in self.comparisons.items() if self.groups else ():
            for group, part in comparison.by_group(self.groups).items():
                grouped[group][name] = part
        return grouped

    def hardest(self, count: int) -> list[int]:
        """The structures with the largest errors, worst first, as positions in the data.

        Errors of different properties are made comparable by their root mean square over all structures.
        """
        score: dict[int, float] = {}
        for comparison in self.comparisons.values():
            errors = comparison.by_structure()
            scale = float(np.sqrt(np.mean(np.square(list(errors.values()))))) or 1.0
            for index, error in errors.items():
                score[index] = max(score.get(index, 0.0), error / scale)
        return sorted(score, key=lambda index: -score[index])[:count]


def evaluate(
    model: Potential | Ensemble,
    frames: Sequence[Frame],
    properties: Sequence[str] | None = None,
    max_atoms: int = 500,
    advance: Callable[[int], None] | None = None,
    groups: Sequence[str] = (),
) -> Evaluation:
    """Predict what structures carry labels of, and compare.

    Args:
        model: predicts, on the device and in the dtype it is in; an ensemble also says how uncertain it is.
        frames: structures with labels.
        properties: names to compare; all the model predicts and the data carry when omitted.
        max_atoms: evaluated together, unless one structure has more.
        advance: called with the number of structures done after every batch.
        groups: name of the group of each structure, by which errors are given too.

    Raises:
        DataError: no structure carries a label of the properties.
        ModelError: a structure has an element the model does not know, or a prediction is not finite.
    """
    rows = _rows(model, properties)
    offered = ", ".join(rows)
    rows = {name: row for name, row in rows.items() if carried(frames, name)}
    for frame in frames:
        require_known(frame.numbers, model.elements, frame.where)
    if not rows:
        raise DataError(
            f"none of {len(frames)} structures carries a label of {offered}: say what the labels are called in "
            f"the file, e.g. --label {next(iter(model.requested))}=my_key"
        )
    parts: dict[str, list[Comparison]] = {name: [] for name in rows}
    n_structures, n_atoms, seconds = 0, 0, 0.0
    predict = evaluator(model)
    for batch in _batches(model, frames, rows.values(), max_atoms):
        names = [name for name in rows if _labelled(batch, name)]
        started = time.perf_counter()
        spreads = [f"{name}{UNCERTAIN}" for name in names if f"{name}{UNCERTAIN}" in model.properties]
        predicted = predict(batch.graph, [*names, *spreads])
        seconds += time.perf_counter() - started
        for name in names:
            parts[name].append(_compare(rows[name], batch, predicted[name], predicted.get(f"{name}{UNCERTAIN}")))
        n_structures += batch.graph.n_structures
        n_atoms += batch.graph.n_atoms
        if advance is not None:
            advance(n_structures)
    comparisons = {name: _joined(batches) for name, batches in parts.items() if batches}
    for comparison in comparisons.values():
        _require_finite(comparison, frames)
    return Evaluation(comparisons, n_structures, n_atoms, seconds, tuple(groups))


def _rows(model: Potential | Ensemble, properties: Sequence[str] | None) -> dict[str, Property]:
    names = tuple(model.properties) if properties is None else tuple(properties)
    if unknown := [name for name in names if name not in model.properties]:
        raise DataError(f"the model does not predict {', '.join(unknown)}; it predicts {', '.join(model.properties)}")
    return {name: model.properties[name] for name in names}


def _batches(
    model: Potential | Ensemble, frames: Sequence[Frame], rows: Iterable[Property], max_atoms: int
) -> Iterator[Batch]:
    dataset = Dataset(frames, tuple(rows), model.cutoff, prepared=False)
    bounds = Bounds(atoms=max(max_atoms, *dataset.n_atoms()))
    for indices in BatchSampler(dataset, bounds, shuffle=False):
        yield collate([dataset[index] for index in indices])


def _labelled(batch: Batch, name: str) -> bool:
    return name in batch.targets and not bool(torch.isnan(batch.targets[name]).all())


def _compare(row: Property, batch: Batch, predicted: Floats, uncertainty: Floats | None) -> Comparison:
    graph = batch.graph
    structure = structure_of_rows(row, batch).cpu()
    sizes = torch.bincount(graph.structure.cpu(), minlength=graph.n_structures)
    numbers = graph.numbers.cpu() if row.scope == "atom" else torch.zeros(len(structure), dtype=torch.int64)
    target = batch.targets[row.name].cpu()
    predicted = nearest_branch(row, torch.from_numpy(predicted), target, graph.to("cpu")).numpy()
    reference = target.numpy().reshape(len(structure), -1)
    labelled = ~np.isnan(reference).any(axis=1)
    factor = conversion(row.unit, row.report_unit)
    return Comparison(
        row=row,
        reference=reference[labelled] * factor,
        predicted=predicted.reshape(len(structure), -1)[labelled] * factor,
        structure=batch.index.cpu()[structure].numpy()[labelled],
        numbers=numbers.numpy()[labelled],
        sizes=sizes[structure].numpy()[labelled],
        uncertainty=None if uncertainty is None else uncertainty[labelled] * factor,
    )


def _joined(parts: Sequence[Comparison]) -> Comparison:
    spreads = [part.uncertainty for part in parts if part.uncertainty is not None]
    return Comparison(
        row=parts[0].row,
        reference=np.concatenate([part.reference for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
        structure=np.concatenate([part.structure for part in parts]),
        numbers=np.concatenate([part.numbers for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        uncertainty=np.concatenate(spreads) if spreads else None,
    )


def _require_finite(comparison: Comparison, frames: Sequence[Frame]) -> None:
    bad = np.flatnonzero(~np.isfinite(comparison.predicted).all(axis=1))
    if len(bad):
        where = frames[int(comparison.structure[bad[0]])].where
        raise ModelError(f"{where}: the predicted {comparison.row.name} is not finite; look at this structure")


def _summary(comparison: Comparison) -> dict[str, Any]:
    summary: dict[str, Any] = asdict(comparison.total())
    if (per_atom := comparison.per_atom()) is not None:
        summary["per_atom"] = asdict(per_atom)
    if (sums := comparison.sums()) is not None:
        summary["sums"] = asdict(sums)
    if parts := comparison.parts():
        summary["parts"] = {name: asdict(statistics) for name, statistics in parts.items()}
    if comparison.quality is not None:
        summary["uncertainty"] = asdict(comparison.quality)
    if elements := comparison.elements():
        summary["elements"] = {symbol: asdict(statistics) for symbol, statistics in elements.items()}
    return summary
