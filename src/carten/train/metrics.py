"""Errors of a model in reported units, one set per row of the property table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn
from torchmetrics import Metric

from carten.data.dataset import Batch
from carten.properties.routes import Property
from carten.train.loss import Predictions, atoms_per_structure, errors, structure_of_rows
from carten.units import conversion


class Errors(Metric):
    """Errors over the entries that are not NaN, of several cells (groups, elements) apart.

    Args:
        n_cells: number of cells.
    """

    full_state_update = False
    square: Tensor
    absolute: Tensor
    signed: Tensor
    largest: Tensor
    count: Tensor

    def __init__(self, n_cells: int = 1) -> None:
        super().__init__()
        zero = torch.zeros(n_cells, dtype=torch.float64)
        for name in ("square", "absolute", "signed", "count"):
            self.add_state(name, zero.clone(), dist_reduce_fx="sum")
        self.add_state("largest", zero[:1].clone(), dist_reduce_fx="max")

    def update(self, error: Tensor, cell: Tensor | None = None) -> None:
        """Add errors (rows, components), and the cell of each row; the first by default."""
        labelled = ~error.isnan()
        error = torch.where(labelled, error, 0.0)
        if cell is None:
            cell = torch.zeros(len(error), dtype=torch.int64, device=error.device)
        self.square.index_add_(0, cell, error.square().sum(1))
        self.absolute.index_add_(0, cell, error.abs().sum(1))
        self.signed.index_add_(0, cell, error.sum(1))
        self.count.index_add_(0, cell, labelled.sum(1).to(torch.float64))
        self.largest = torch.maximum(self.largest, error.abs().max()) if error.numel() else self.largest

    def compute(self) -> dict[str, Tensor]:
        """Root mean square, mean absolute and largest error of all cells together; NaN when there was no label."""
        count = self.count.sum()
        largest = torch.where(count > 0, self.largest[0], torch.nan)
        return {"rmse": (self.square.sum() / count).sqrt(), "mae": self.absolute.sum() / count, "max": largest}

    def cells(self) -> dict[int, dict[str, float]]:
        """``rmse``, ``bias`` (the mean error) and ``count`` of the cells that have labels."""
        with self.sync_context():  # of all processes
            columns = [(self.square / self.count).sqrt(), self.signed / self.count, self.count]
        rows = torch.stack(columns, dim=1).tolist()
        return {
            cell: {"rmse": rmse, "bias": bias, "count": count}
            for cell, (rmse, bias, count) in enumerate(rows)
            if count
        }


Breakdown = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Errors by name of the metric, then by group or element: ``rmse``, ``bias``, ``count``."""


class PropertyErrors(nn.Module):
    """Errors of several properties: ``forces_rmse``, ``energy_mae``, ``energy_per_atom_rmse``, ... in reported units.

    Errors of tensors are per component. Extensive properties of structures are also given per atom.

    Args:
        properties: whose errors.
        groups: names of the groups of structures.
    """

    def __init__(self, properties: Sequence[Property], groups: Sequence[str] = ("",)) -> None:
        super().__init__()
        self.properties = tuple(properties)
        self.groups = tuple(groups)
        self._errors = {name: Errors(len(groups)) for row in properties for name in metric_names(row)}
        self._elements = {row.name: Errors(len(chemical_symbols)) for row in properties if row.scope == "atom"}
        self.metrics = nn.ModuleList([*self._errors.values(), *self._elements.values()])  # so that they move along

    def update(self, predictions: Predictions, batch: Batch, group: Tensor | None = None) -> None:
        """Add the predictions of one batch, and the group (S,) of each structure."""
        for row in self.properties:
            error = errors(row, predictions, batch) * conversion(row.unit, row.report_unit)
            cell = None if group is None else group[structure_of_rows(row, batch)]
            self._errors[row.name].update(error, cell)
            if row.extensive:
                self._errors[f"{row.name}_per_atom"].update(error / atoms_per_structure(batch), cell)
            if row.scope == "atom":
                self._elements[row.name].update(error, batch.graph.numbers)

    def compute(self) -> Mapping[str, float]:
        """All errors added since the last reset."""
        return {
            f"{name}_{kind}": float(value)
            for name, metric in self._errors.items()
            for kind, value in metric.compute().items()
        }

    def by_group(self) -> Breakdown:
        """Errors of each group; empty where there is only one."""
        if len(self.groups) < 2:
            return {}
        return {
            name: {self.groups[k]: values for k, values in metric.cells().items()}
            for name, metric in self._errors.items()
        }

    def by_element(self) -> Breakdown:
        """Errors of properties of atoms by element, where there are several."""
        errors_of_elements = {
            name: {chemical_symbols[number]: values for number, values in metric.cells().items()}
            for name, metric in self._elements.items()
        }
        return {name: elements for name, elements in errors_of_elements.items() if len(elements) > 1}

    def reset(self) -> None:
        """Forget everything added."""
        for metric in (*self._errors.values(), *self._elements.values()):
            metric.reset()


def metric_names(row: Property) -> tuple[str, ...]:
    """Prefixes of the errors reported for a property."""
    return (row.name, f"{row.name}_per_atom") if row.extensive else (row.name,)
