"""Radial functions expanded to second order at the lengths of the edges, for second derivatives in space.

Going back through the radial networks for every row of a Hessian costs more than all else. Their values, slopes and
curvatures at the lengths at hand, taken once, are all that second derivatives need: every edge has a table of its own
with the cubic that has these three at one end, so that plans which look up tables evaluate it. First and second
derivatives are exact, third ones are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carten.model.config import NetworkConfig
from carten.model.edges import Interval, Tables, radial_basis
from carten.ops.index import Index

MOST_EXPANDED = 100_000
"""Edges; the tables of more take too much memory."""


@dataclass(frozen=True)
class Expansion(Interval):
    """Edges at the lower ends of intervals of their own, 1 Å wide; ``knots`` is empty.

    Args:
        lengths: (E,) Å.
        config: hyperparameters of the network.
    """

    lengths: Tensor
    config: NetworkConfig

    @property
    def n_knots(self) -> int:
        return 2 * len(self.lengths)

    def tables(self, evaluate: Tables) -> dict[str, Tensor]:
        """Lower ends of all edges, then upper ends, where the cubic has ``v + s + c / 2`` and the slope ``s + c``."""
        with torch.enable_grad():
            lengths = self.lengths.requires_grad_()
            basis = radial_basis(lengths, self.config)
            knots = torch.stack([basis, _slope(basis, lengths)], dim=1)
            functions = evaluate(knots, "reference")
            results = {}
            for name, both in functions.items():
                values, slopes = both.detach().chunk(2, dim=1)
                curvatures = _slope(both, lengths).detach().chunk(2, dim=1)[1]
                upper = torch.cat([values + slopes + curvatures / 2, slopes + curvatures], dim=1)
                results[name] = torch.cat([both.detach(), upper])
        return results


def expand(length: Tensor, config: NetworkConfig) -> Expansion:
    """Expand at lengths (E,) in Å."""
    places = torch.arange(len(length), device=length.device)
    fixed = length.detach().clone()
    ends = Index(places, 2 * len(length)), Index(places + len(length), 2 * len(length))
    return Expansion((length - fixed).unsqueeze(1), *ends, length.new_empty(0), fixed, config)


def _slope(values: Tensor, lengths: Tensor) -> Tensor:
    """Derivatives of values (E, ..), each row of its own length: forward mode by going backward twice."""
    weights = torch.zeros_like(values).requires_grad_()
    (summed,) = torch.autograd.grad(values, lengths, weights, create_graph=True)
    (slopes,) = torch.autograd.grad(summed, weights, torch.ones_like(summed), create_graph=True)
    return slopes
