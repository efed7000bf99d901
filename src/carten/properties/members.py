"""Members of an ensemble that share one network: readouts side by side, or draws from a posterior of the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from carten.properties.planning import ENERGIES, with_sources
from carten.properties.recipes import PropertyRows
from carten.properties.routes import Derivative

UNCERTAIN = "_uncertainty"
"""What is added to the name of a property for its uncertainty."""


@dataclass(frozen=True)
class Member:
    """How the readouts of one evaluation differ from those of the model.

    Args:
        mixture: weights of the readouts that lie side by side, (1, members) or for each structure (S, members); equal
            ones by default.
        deviation: (features,) in eV, of the weights of the last layer of the energies.
    """

    mixture: Tensor | None = None
    deviation: Tensor | None = None


@dataclass(frozen=True)
class Uncertainty:
    """What a model knows of its errors, besides its members.

    Args:
        scales: factors by property, by which the spread of members is multiplied (calibration).
        covariance: (features, features) eV², float64: posterior of the weights of the last layer of the energies
            (Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024); None without.
        draws: number of draws from the posterior, by which it reaches forces and other derivatives.
        facts: how it was made, for people.
    """

    scales: Mapping[str, float] = field(default_factory=dict)
    covariance: Tensor | None = None
    draws: int = 16
    facts: Mapping[str, float | int | str] = field(default_factory=dict)

    def scale(self, name: str, rows: PropertyRows) -> float:
        """Factor of the spread of a property: its own, else that of forces for derivatives, else that of the energy.

        1 without a calibration, and for what is not of the energy.
        """
        if name in self.scales:
            return float(self.scales[name])
        if ENERGIES not in with_sources([name], rows):
            return 1.0
        derived = isinstance(rows[name].routes[0], Derivative) and "forces" in self.scales
        return float(self.scales.get("forces" if derived else "energy", 1.0))

    @cached_property
    def deviations(self) -> Tensor:
        """(draws, features) with the mean zero, whose covariance is that of the posterior but for the finite number.

        They are the corners of a regular simplex in a random subspace, in the metric of the posterior: one more than
        there are features have its covariance exactly. They are the same whenever a file is read.
        """
        if self.covariance is None:
            return torch.zeros(0, 0, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(self.covariance.cpu())
        root = vectors * values.clamp(min=0.0).sqrt()
        size, generator = len(root), torch.Generator().manual_seed(0)
        count = min(self.draws, size + 1)
        subspace = torch.linalg.qr(torch.randn(size, count - 1, generator=generator, dtype=torch.float64))[0]
        centred = torch.eye(count, dtype=torch.float64) - 1.0 / count
        corners = torch.linalg.svd(centred)[0][:, : count - 1]
        draws: Tensor = size**0.5 * corners @ subspace.T @ root.T
        return draws
