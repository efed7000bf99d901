"""Dipoles of periodic cells are defined up to e times lattice vectors: the representative nearest to a reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from carten.math.lattice import nearest_points
from carten.model.graph import Graph
from carten.properties.routes import Property
from carten.units import conversion


def nearest_branch(row: Property, predicted: Tensor, reference: Tensor, graph: Graph) -> Tensor:
    """Predictions as they are, or, for properties modulo lattice vectors, the branch nearest to the reference.

    Args:
        row: the property.
        predicted: (rows, 3, ..) in the unit of the row.
        reference: (rows, 3, ..) in the unit of the row, float64; NaN stays NaN.
        graph: the structures.
    """
    if row.modulo != "lattice":
        return predicted
    quantum = conversion("e*Angstrom", row.unit)
    differences = (predicted.detach() - reference).nan_to_num().cpu().numpy()
    cells, periodic = graph.cell.detach().cpu().to(torch.float64).numpy() * quantum, graph.pbc.cpu().numpy()
    structures = zip(differences, cells, periodic, strict=True)
    points = [nearest_points(difference, cell[pbc]) for difference, cell, pbc in structures]
    return predicted - torch.as_tensor(np.reshape(points, differences.shape)).to(reference)

