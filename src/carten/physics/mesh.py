"""Structure factors by a particle mesh: charges spread on a grid by B-splines, then a fast Fourier transform."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torchpme.lib import MeshInterpolator

from carten.errors import ModelError
from carten.physics.reciprocal import Gaussians, Lattice

NODES = 5
"""Points of the mesh on which a charge is spread, in each direction."""
ERROR = 0.03
"""Relative error of forces at a spacing of one width of the Gaussians, measured; it falls with the power NODES."""
POINTS = 2**27
"""Of a mesh, at most: 1 GiB of numbers."""


def shape(lattice: Lattice, gaussians: Gaussians) -> tuple[int, int, int]:
    """Points of the mesh in each direction.

    Args:
        lattice: of one structure.
        gaussians: their width, and the accuracy of the energy.

    Raises:
        ModelError: the mesh would be too large.
    """
    lengths = lattice.cell.detach()[0].norm(dim=1).tolist()
    first, second, third = needed(lengths, gaussians)
    if first * second * third > POINTS:
        raise ModelError(
            f"electrostatics to an accuracy of {gaussians.accuracy:g} with Gaussians of {gaussians.width:.3g} Å takes "
            f"a mesh of {first} x {second} x {third} points for a cell of {', '.join(f'{x:.4g}' for x in lengths)} Å, "
            f"more than {POINTS}: ask for less accuracy, or use wider Gaussians"
        )
    return first, second, third


def needed(lengths: Sequence[float], gaussians: Gaussians) -> tuple[int, int, int]:
    """Points in each direction that the accuracy takes, for lattice vectors of these lengths in Å."""
    spacing = min(gaussians.width * (gaussians.accuracy / ERROR) ** (1 / NODES), math.pi / gaussians.complete)
    first, second, third = (max(next_fast_len(math.ceil(x / spacing) + 1, real=True), NODES) for x in lengths)
    return first, second, third


class Mesh:
    """Sums over the atoms of one structure at the reciprocal vectors of a mesh, and back; see :class:`reciprocal.Sum`.

    The size of the transforms is such that the energy of an atom with itself is right on average over its places in the
    mesh.

    Args:
        values: (1, N, M).
        fractional: (1, N, 3) positions in units of the lattice vectors.
        points: of the mesh.

    Source: U. Essmann et al., J. Chem. Phys. 103, 8577 (1995); M. Deserno, C. Holm, J. Chem. Phys. 109, 7678 (1998).
    """

    def __init__(self, values: Tensor, fractional: Tensor, points: tuple[int, int, int]) -> None:
        unit = torch.eye(3, dtype=values.dtype, device=values.device)
        self._spread: Any = MeshInterpolator(unit, torch.tensor(points, device=values.device), NODES, "P3M")
        self._spread.compute_weights(fractional[0])
        self._values = values[0]
        self._points = points
        axes = [_frequencies(n, half=axis == 2).to(values) for axis, n in enumerate(points)]
        first, second, third = (_correction(h, n) for h, n in zip(axes, points, strict=True))
        self._correction = first[:, None, None] * second[:, None] * third
        self.h = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def factors(self) -> Tensor:
        """``sum_i m_i exp(i k . r_i)``, (1, M, n1, n2, n3/2 + 1) complex."""
        transformed: Tensor = torch.fft.rfftn(self._spread.points_to_mesh(self._values), dim=(1, 2, 3))
        corrected: Tensor = transformed.conj() * self._correction
        return corrected.unsqueeze(0)

    def energies(self, potential: Tensor) -> Tensor:
        """``Re sum_k m_i potential exp(i k . r_i)`` of every atom, (1, N)."""
        corrected = potential[0] * self._correction
        at_points = torch.fft.irfftn(corrected, s=self._points, dim=(1, 2, 3), norm="forward")
        acting: Tensor = self._spread.mesh_to_points(at_points)
        return (acting * self._values).sum(1).unsqueeze(0)


def _frequencies(n: int, half: bool) -> Tensor:
    frequencies: Tensor = torch.fft.rfftfreq(n) if half else torch.fft.fftfreq(n)
    return frequencies.mul(n).round()


def _correction(h: Tensor, n: int) -> Tensor:
    """``(sum_m U(h + m n)^2)^(-1/2)`` of the Fourier transform U of the spline."""
    aliases = torch.stack([torch.sinc(h / n + m) ** (2 * NODES) for m in range(-3, 4)])
    return aliases.sum(0).rsqrt()
