"""Errors of a model in reported units, one set per row of the property table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from carten.data.dataset import Batch
from carten.properties.routes import Property
from carten.train.loss import Predictions, atoms_per_structure, errors
from carten.units import conversion


class Errors(Metric):
    """Root mean square, mean absolute and largest absolute error over the entries that are not NaN."""

    full_state_update = False
    square: Tensor
    absolute: Tensor
    largest: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("square", zero.clone(), dist_reduce_fx="sum")
        self.add_state("absolute", zero.clone(), dist_reduce_fx="sum")
        self.add_state("largest", zero.clone(), dist_reduce_fx="max")
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")

    def update(self, error: Tensor) -> None:
        labelled = ~error.isnan()
        error = torch.where(labelled, error, 0.0)
        self.square += error.square().sum()
        self.absolute += error.abs().sum()
        self.largest = torch.maximum(self.largest, error.abs().max()) if error.numel() else self.largest
        self.count += labelled.sum()

    def compute(self) -> dict[str, Tensor]:
        """The three errors; NaN when there was no label."""
        count = self.count
        return {"rmse": (self.square / count).sqrt(), "mae": self.absolute / count, "max": self.largest / (count > 0)}


class PropertyErrors(nn.Module):
    """Errors of several properties: ``forces_rmse``, ``energy_mae``, ``energy_per_atom_rmse``, ... in reported units.

    Errors of tensors are per component. Extensive properties of structures are also given per atom.
    """

    def __init__(self, properties: Sequence[Property]) -> None:
        super().__init__()
        self.properties = tuple(properties)
        self._errors = {name: Errors() for row in properties for name in metric_names(row)}
        self.metrics = nn.ModuleDict(self._errors)  # so that they move to the device

    def update(self, predictions: Predictions, batch: Batch) -> None:
        """Add the predictions of one batch."""
        for row in self.properties:
            error = errors(row, predictions, batch) * conversion(row.unit, row.report_unit)
            self._errors[row.name].update(error)
            if row.extensive:
                self._errors[f"{row.name}_per_atom"].update(error / atoms_per_structure(batch))

    def compute(self) -> Mapping[str, float]:
        """All errors added since the last reset."""
        return {
            f"{name}_{kind}": float(value)
            for name, metric in self._errors.items()
            for kind, value in metric.compute().items()
        }

    def reset(self) -> None:
        """Forget everything added."""
        for metric in self._errors.values():
            metric.reset()


def metric_names(row: Property) -> tuple[str, ...]:
    """Prefixes of the errors reported for a property."""
    return (row.name, f"{row.name}_per_atom") if row.extensive else (row.name,)
