"""Radial functions expanded to second order at the lengths of the edges, for second derivatives in space.

Going back through the radial networks for every row of a Hessian costs more than all else. Their values, slopes and
curvatures at the lengths at hand, taken once, are all that second derivatives need: every length has a table of its own
with the cubic that has these three at one end, so that plans which look up tables evaluate it. First and second
derivatives are exact, third ones are not. Edges of one length, as both directions of a pair, copies of a structure and
shells of a crystal have, share a table.
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
RESOLUTION = 1e-11
"""Å, up to which lengths are one: rounding makes them differ by less."""


@dataclass(frozen=True)
class Expansion(Interval):
    """Edges at the lower ends of intervals 1 Å wide, one for each length; ``knots`` is empty.

    Args:
        lengths: the different ones, Å.
        config: hyperparameters of the network.
    """

    lengths: Tensor
    config: NetworkConfig

    @property
    def n_knots(self) -> int:
        return 2 * len(self.lengths)

    def tables(self, evaluate: Tables) -> dict[str, Tensor]:
        """Lower ends of all lengths, then upper ends, where the cubic has ``v + s + c / 2`` and the slope ``s + c``."""
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
    _, places = torch.unique(torch.round(length.detach() / RESOLUTION), return_inverse=True)
    n_lengths = int(places.max()) + 1 if len(places) else 0
    lengths = length.new_zeros(n_lengths).scatter_reduce(0, places, length.detach(), "amin", include_self=False)
    ends = Index(places, 2 * n_lengths), Index(places + n_lengths, 2 * n_lengths)
    return Expansion((length - lengths[places]).unsqueeze(1), *ends, length.new_empty(0), lengths, config)


def _slope(values: Tensor, lengths: Tensor) -> Tensor:
    """Derivatives of values (E, ..), each row of its own length: forward mode by going backward twice."""
    weights = torch.zeros_like(values).requires_grad_()
    (summed,) = torch.autograd.grad(values, lengths, weights, create_graph=True)
    (slopes,) = torch.autograd.grad(summed, weights, torch.ones_like(summed), create_graph=True)
    return slopes
