"""Screened repulsion of nuclei at short distances."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from ase.data import chemical_symbols, covalent_radii
from pydantic import Field
from torch import Tensor

from carten.errors import ModelError
from carten.math.radial import polynomial_envelope
from carten.model.graph import Graph
from carten.physics.constants import COULOMB
from carten.physics.term import EnergyTerm, Host, TermConfig, View

SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""Amplitudes and decay constants of the universal screening function."""
LENGTH = 0.46850
"""Å, numerator of the universal screening length ``LENGTH / (Z_i^POWER + Z_j^POWER)``."""
POWER = 0.23
"""Exponent of the nuclear charges in the universal screening length."""
SMOOTHNESS = 6
CORE = (0.55, 0.75)
"""Fractions of the size of pairs: the network sees those below the first as if they did not come closer any more, those
above the second as they are. Bonds are longer: N2 0.77, CO 0.79, others more."""
LARGEST_CORE = 1.0
"""Å, of the radius of an atom in the size of a pair: metals under pressure come closer than covalent radii say."""
LAST_RADIUS = 96
"""The heaviest element whose covalent radius is known (Cordero et al., Dalton Trans. 2008, 2832, as ASE lists them)."""


class ZblConfig(TermConfig):
    """Repulsion of screened nuclei (Ziegler, Biersack, Littmark), brought smoothly to zero.

    Inside the cores of atoms it takes over from the network, which knows nothing of distances that never occurred in
    training: whatever the weights, two atoms closer than 0.55 times the sum of their radii repel. The radius is the
    covalent one, at most 1 Å.
    """

    kind: Literal["zbl"] = "zbl"
    cutoff: Annotated[float, Field(gt=0)] | None = None
    """Å, where the repulsion of every pair ends; the sum of the two covalent radii by default."""

    fixed: ClassVar[bool] = True
    local: ClassVar[bool] = True

    def build(self, host: Host) -> Zbl:
        """The term as part of a model.

        Raises:
            ModelError: an element has no covalent radius, or a pair would repel beyond the cutoff of the model.
        """
        reach, core = _reach(self.cutoff, host.elements)
        if float(reach.max()) > host.network.cutoff:
            raise ModelError(
                f"zbl: nuclei would repel up to {float(reach.max()):.2f} Å, the model sees pairs up to "
                f"{host.network.cutoff:g} Å: set a smaller cutoff of zbl, or a larger model.cutoff"
            )
        return Zbl(reach, core)


def _reach(cutoff: float | None, elements: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Up to where pairs repel, and their size, see :data:`CORE`.

    Both (119, 119) float64 by atomic numbers, in Å; 0 where one is not of the model.
    """
    if cutoff is None and (missing := [z for z in elements if z > LAST_RADIUS]):
        names = ", ".join(chemical_symbols[z] for z in missing)
        raise ModelError(f"zbl: no covalent radius of {names} is known: give zbl a cutoff")
    radii = torch.tensor(covalent_radii, dtype=torch.float64)
    sums = radii[:, None] + radii
    ends = sums if cutoff is None else torch.full_like(sums, cutoff)
    known = torch.zeros_like(sums)
    known[torch.tensor(elements)[:, None], torch.tensor(elements)] = 1.0
    cores = radii.clamp(max=LARGEST_CORE)
    return known * ends, known * torch.minimum(cores[:, None] + cores, ends)


class Zbl(EnergyTerm):
    """``V_ij = k Z_i Z_j / r phi(r / a) s(r / r_ij)``, half of it to each atom.

    ``phi`` is the universal screening function, ``a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23)``, and s falls from 1 at
    distance 0 to 0 at r_ij with zero slope and curvature there.

    Args:
        reach: (119, 119) the distances r_ij in Å by atomic numbers.
        size: (119, 119) of pairs in Å, see :data:`CORE`.

    Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter, Pergamon (1985).
    """

    reach: Tensor
    size: Tensor

    def __init__(self, reach: Tensor, size: Tensor) -> None:
        super().__init__()
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("size", size, persistent=False)
        self.farthest = float(reach.max()), CORE[1] * float(size.max())

    def forward(self, view: View) -> Tensor:
        """(N,) eV."""
        numbers = view.graph.numbers
        near, (centre, neighbour) = _closer(self.farthest[0], view.vectors, view.graph)
        ends = self.reach[numbers[centre], numbers[neighbour]]
        r = view.vectors.index_select(0, near).to(torch.float64).norm(dim=1)
        pairs = repulsion(r, numbers[centre], numbers[neighbour]) * polynomial_envelope(r / ends, 1.0, SMOOTHNESS)
        return pairs.new_zeros(len(numbers)).index_add(0, centre, 0.5 * pairs)

    def seen(self, vectors: Tensor, graph: Graph) -> Tensor:
        """(E, 3) edge vectors that are no shorter than the cores allow."""
        near, (centre, neighbour) = _closer(self.farthest[1], vectors, graph)
        if not len(near):
            return vectors
        sizes = self.size[graph.numbers[centre], graph.numbers[neighbour]].to(vectors.dtype)
        close = vectors.index_select(0, near)
        r = close.norm(dim=1)
        return vectors.index_copy(0, near, close * (held(r / sizes, *CORE) * sizes / r)[:, None])


def _closer(distance: float, vectors: Tensor, graph: Graph) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Edges shorter than this, and their atoms."""
    near = (vectors.detach().square().sum(1) < distance**2).nonzero().squeeze(1)
    centre, neighbour = graph.edge_index.index_select(1, near)
    return near, (centre, neighbour)


def held(x: Tensor, low: float, high: float) -> Tensor:
    """Unchanged above ``high``, ``(low + high) / 2`` below ``low``, smooth in between, to the third derivative.

    Its slope is the smooth step ``6 t^5 - 15 t^4 + 10 t^3`` with ``t = (x - low) / (high - low)``.
    """
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    inside = high - (high - low) * (0.5 - t**4 * (t * (t - 3.0) + 2.5))
    return torch.where(x < high, inside, x)


def repulsion(r: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Energy in eV of pairs of nuclei at distances r in Å, all (pairs,), before it is switched off.

    Source: Ziegler, Biersack, Littmark (1985), Eqs. 2-60 to 2-73.
    """
    charges = (one.to(r.dtype), other.to(r.dtype))
    x = r * (charges[0] ** POWER + charges[1] ** POWER) / LENGTH
    screening = torch.stack([amplitude * torch.exp(-decay * x) for amplitude, decay in SCREENING]).sum(0)
    return COULOMB * charges[0] * charges[1] / r * screening
