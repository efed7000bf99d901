"""Structure factors of periodic structures on boxes of reciprocal vectors, and the energies they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Protocol

import torch
from scipy.special import erfcinv
from torch import Tensor

from carten.physics.pairs import Multipoles

AXIS_PAIRS = tuple(combinations_with_replacement(range(3), 2))


TAPER = 1.1
"""Length of the largest reciprocal vector over that of the largest that counts in full."""
MARGIN = 10.0
"""In crystals what is left out of a sum adds up: each sum is this much more accurate than asked for."""


@dataclass(frozen=True)
class Gaussians:
    """Those that smear the charges in a sum over reciprocal vectors.

    Args:
        width: Å.
        accuracy: relative error of energies and forces.
    """

    width: float
    accuracy: float

    @property
    def reach(self) -> float:
        """Distance r with ``erfc(r / (sqrt(2) width)) = accuracy / 10``, Å: from there on they are like points."""
        return math.sqrt(2) * float(erfcinv(self.accuracy / MARGIN)) * self.width

    @property
    def complete(self) -> float:
        """Length up to which reciprocal vectors k count in full, 1/Å: ``erfc(k width / sqrt(2)) = accuracy / 10``.

        The vectors beyond hold this part of the energy of a Gaussian with itself.
        """
        return self.reach / self.width**2

    @property
    def largest(self) -> float:
        """Length of the largest reciprocal vector, 1/Å.

        Weights fall to zero on the way there, so that energies do not jump when a cell is strained.
        """
        return TAPER * self.complete


@dataclass(frozen=True)
class Lattice:
    """Periodic structures as the sums over reciprocal vectors see them.

    Args:
        cell: (S, 3, 3) Å; the row of a direction that is not periodic is normal to the others, twice as long as charges
            reach.
        flat: (S, 3) bool, true for the direction in which a slab is not periodic.
    """

    cell: Tensor
    flat: Tensor

    @cached_property
    def inverse(self) -> Tensor:
        """(S, 3, 3) 1/Å, of the cells: ``r @ inverse`` is r in units of the lattice vectors."""
        inverse: Tensor = torch.linalg.inv(self.cell)
        return inverse

    @property
    def reciprocal(self) -> Tensor:
        """(S, 3, 3), rows b with ``a_i . b_j = 2 pi delta_ij``, 1/Å."""
        return 2 * math.pi * self.inverse.mT

    @property
    def volume(self) -> Tensor:
        """(S,) Å^3."""
        volume: Tensor = torch.linalg.det(self.cell).abs()
        return volume

    def select(self, structures: Sequence[int]) -> Lattice:
        """Those of some structures, in ascending order."""
        if len(structures) == len(self.cell):
            return self
        index = torch.tensor(structures, device=self.cell.device)
        return Lattice(self.cell.index_select(0, index), self.flat.index_select(0, index))


def reciprocal_weights(lattice: Lattice, gaussians: Gaussians, h: Tensor) -> Tensor:
    """What ``|S(k)|^2`` is multiplied with in the energy over e^2 / (4 pi eps0), 1/Å: (S, H1, H2, H3).

    ``2 pi / V exp(-sigma^2 k^2 / 2) / k^2``, without k = 0 (charges see a uniform background that neutralises them).
    In slabs the interaction ends at half the height of the cell: the factor ``1 - exp(-k_par h/2) cos(k_z h/2)``, and
    ``-h^2/8`` instead of 1/k^2 at k = 0.

    Args:
        lattice: of the structures.
        gaussians: sigma, and the largest k, towards which the weights fall to 0.
        h: (H1, H2, H3, 3) whole numbers, k = h @ reciprocal.

    Source: C. A. Rozzi et al., Phys. Rev. B 73, 205119 (2006), Eq. 15 for slabs.
    """
    k = torch.einsum("abcx,sxy->sabcy", h, lattice.reciprocal)
    square = k.square().sum(-1)
    zero = (h == 0).all(-1)
    inside = (square.detach() < gaussians.largest**2) & ~zero
    inverse = 1.0 / torch.where(inside, square, 1.0)
    share = _share(torch.where(inside, square, 1.0), gaussians)
    result = torch.where(inside, share * torch.exp(-0.5 * gaussians.width**2 * square) * inverse, 0.0)
    if bool(lattice.flat.any()):
        result = torch.where(lattice.flat.any(1).view(-1, 1, 1, 1), _ended(result, lattice, h, zero), result)
    return 2 * math.pi / lattice.volume.view(-1, 1, 1, 1) * result


def _share(square: Tensor, gaussians: Gaussians) -> Tensor:
    """From 1 at the largest complete k to 0 at the largest, with continuous second derivatives."""
    first, last = gaussians.complete**2, gaussians.largest**2
    x = ((square - first) / (last - first)).clamp(0.0, 1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


def _ended(full: Tensor, lattice: Lattice, h: Tensor, zero: Tensor) -> Tensor:
    """The weights of slabs, from those of an interaction without an end."""
    flat = lattice.flat.to(full.dtype)
    half = 0.5 * torch.einsum("sx,sxy->sy", flat, lattice.cell).norm(dim=1).view(-1, 1, 1, 1)
    along = (h * (1 - flat)[:, None, None, None]) @ lattice.reciprocal[:, None, None]
    square = along.square().sum(-1)
    lying = square.detach() > 0
    k = torch.where(lying, torch.where(lying, square, 1.0).sqrt(), 0.0)
    cosine = torch.cos(math.pi * torch.einsum("abcx,sx->sabc", h, flat))
    return torch.where(zero, -0.5 * half.square(), full * (1 - torch.exp(-k * half) * cosine))


def moments(m: Multipoles, reciprocal: Tensor) -> Tensor:
    """Multipoles along the rows of reciprocal lattices, (N, M C): 1, 4 or 10 numbers for every kind.

    Args:
        m: of N atoms.
        reciprocal: (N, 3, 3) of their structures.
    """
    components = [m.charges]
    if m.order > 0:
        dipoles = m.dipoles if m.dipoles is not None else m.charges.new_zeros(*m.charges.shape, 3)
        components += torch.einsum("nca,nxa->xnc", dipoles, reciprocal).unbind(0)
    if m.quadrupoles is not None:
        along = torch.einsum("ncab,nxa,nyb->xync", m.quadrupoles, reciprocal, reciprocal) / 3
        components += [along[x, y] * (1 if x == y else 2) for x, y in AXIS_PAIRS]
    return torch.cat(components, dim=1)


def combine_moments(factors: Tensor, h: Tensor) -> Tensor:
    """``S(k) = sum_i (q_i + i k . d_i - 1/3 k . Q_i . k) exp(i k . r_i)``, (S, C, H1, H2, H3).

    Args:
        factors: (S, M, C, H1, H2, H3), ``sum_i m_i exp(i k . r_i)`` of the numbers of :func:`moments`.
        h: (H1, H2, H3, 3).
    """
    total = factors[:, 0]
    if factors.shape[1] > 1:
        total = total + 1j * sum(h[..., x] * factors[:, 1 + x] for x in range(3))
    if factors.shape[1] > 4:
        total = total - sum(h[..., x] * h[..., y] * factors[:, 4 + n] for n, (x, y) in enumerate(AXIS_PAIRS))
    return total


def potentials(weighted: Tensor, h: Tensor, n_kinds: int) -> Tensor:
    """What acts on the numbers of :func:`moments`: 1, i k and -k k times ``weighted``, (S, M C, H1, H2, H3).

    Args:
        weighted: (S, C, H1, H2, H3).
        h: (H1, H2, H3, 3).
        n_kinds: of the numbers, M.
    """
    parts = [weighted]
    if n_kinds > 1:
        parts += [1j * h[..., x] * weighted for x in range(3)]
    if n_kinds > 4:
        parts += [-h[..., x] * h[..., y] * weighted for x, y in AXIS_PAIRS]
    return torch.cat(parts, dim=1)


class Explicit:
    """Sums over atoms and reciprocal vectors term by term, as products of matrices.

    Phases are products of those along the three directions: two of them make one matrix, the third and what is summed
    the other.

    Args:
        values: (S, N, M), zero where a structure has fewer than N atoms.
        fractional: (S, N, 3) positions in units of the lattice vectors.
        reach: largest whole numbers of the three directions.
    """

    def __init__(self, values: Tensor, fractional: Tensor, reach: tuple[int, int, int]) -> None:
        first, second, third = (
            _phases(fractional[..., axis], torch.arange(0 if axis == 2 else -n, n + 1)) for axis, n in enumerate(reach)
        )
        self.h = whole_numbers(reach, values)
        self.repeats = torch.where(self.h[..., 2] == 0, 1.0, 2.0)
        self._plane = (first.unsqueeze(3) * second.unsqueeze(2)).flatten(2)
        self._column = (values.unsqueeze(3) * third.unsqueeze(2)).flatten(2)
        self._shape = (len(values), first.shape[2], second.shape[2], values.shape[2], third.shape[2])

    def factors(self) -> Tensor:
        """``sum_i m_i exp(i k . r_i)``, (S, M, H1, H2, H3) complex."""
        return (self._plane.mT @ self._column).view(self._shape).permute(0, 3, 1, 2, 4)

    def energies(self, potential: Tensor) -> Tensor:
        """``Re sum_k m_i potential exp(i k . r_i)`` of every atom, (S, N), from (S, M, H1, H2, H3)."""
        flat = (potential * self.repeats).permute(0, 2, 3, 1, 4).reshape(len(potential), self._plane.shape[2], -1)
        acting = self._plane @ flat
        return (acting.real * self._column.real - acting.imag * self._column.imag).sum(2)


def whole_numbers(reach: tuple[int, int, int], like: Tensor) -> Tensor:
    """(2 n1 + 1, 2 n2 + 1, n3 + 1, 3): half of a box, since k and -k are worth the same."""
    first, second, third = reach
    axes = [torch.arange(-first, first + 1), torch.arange(-second, second + 1), torch.arange(third + 1)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).to(like)


def _phases(along: Tensor, h: Tensor) -> Tensor:
    """``exp(2 pi i h x)``, (S, N, H)."""
    angle = 2 * math.pi * along.unsqueeze(2) * h.to(along)
    return torch.complex(torch.cos(angle), torch.sin(angle))


class ReciprocalSum(Protocol):
    """A way to sum over the atoms of structures at reciprocal vectors, and back."""

    h: Tensor

    def factors(self) -> Tensor: ...
    def energies(self, potential: Tensor) -> Tensor: ...


def batch_energies(sum_: ReciprocalSum, lattice: Lattice, gaussians: Gaussians, n_kinds: int) -> Tensor:
    """Energies of atoms over e^2 / (4 pi eps0), each with itself included, (S, N) in e^2/Å.

    Args:
        sum_: over the atoms of the structures.
        lattice: of the structures.
        gaussians: their width, and what may be neglected.
        n_kinds: C, of charges.
    """
    factors = sum_.factors()
    split = factors.reshape(len(factors), -1, n_kinds, *factors.shape[2:])
    weighted = reciprocal_weights(lattice, gaussians, sum_.h).unsqueeze(1) * combine_moments(split, sum_.h).conj()
    return sum_.energies(potentials(weighted, sum_.h, split.shape[1]))
