"""Multipoles smeared by Gaussians: their interaction in pairs, and with themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Multipoles:
    """Interacting multipoles: C kinds of charges at N atoms, optionally dipoles and quadrupoles. Kinds are independent.

    Args:
        charges: (N, C), e.
        dipoles: (N, C, 3), e Å.
        quadrupoles: (N, C, 3, 3), e Å^2, symmetric and traceless, ``1/2 sum q (3 r_i r_j - r^2 delta_ij)``.
    """

    charges: Tensor
    dipoles: Tensor | None = None
    quadrupoles: Tensor | None = None

    @property
    def order(self) -> int:
        """0, 1 or 2: the highest rank."""
        return 2 if self.quadrupoles is not None else int(self.dipoles is not None)

    def select(self, atoms: Tensor) -> Multipoles:
        """Those of some atoms."""
        return self._each(lambda x: x.index_select(0, atoms))

    def to(self, dtype: torch.dtype) -> Multipoles:
        """In another precision."""
        return self._each(lambda x: x.to(dtype))

    def _each(self, do: Callable[[Tensor], Tensor]) -> Multipoles:
        d, q = self.dipoles, self.quadrupoles
        return Multipoles(do(self.charges), None if d is None else do(d), None if q is None else do(q))


class _Boys(torch.autograd.Function):
    """F_n(t) of order n; its derivative is -F_(n+1)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(t)
        ctx.n = n
        a = n + 0.5
        small = t < 1e-3
        safe = torch.where(small, 1.0, t)
        large = 0.5 * math.gamma(a) * torch.special.gammainc(torch.full_like(safe, a), safe) * safe**-a
        series = sum((-t) ** k / (math.factorial(k) * (2 * n + 2 * k + 1)) for k in range(6))
        return torch.where(small, series, large)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (t,) = ctx.saved_tensors
        return -gradient * boys(t, ctx.n + 1), None


def boys(t: Tensor, n: int) -> Tensor:
    """The Boys function ``F_n(t) = int_0^1 u^(2n) exp(-t u^2) du``, differentiable to any order, stable at t = 0.

    Source: S. F. Boys, Proc. R. Soc. A 200, 542 (1950).
    """
    result: Tensor = _Boys.apply(t, n)  # type: ignore[no-untyped-call]
    return result


def radial(square: Tensor, sigma: float, order: int) -> list[Tensor]:
    """``B_n(r) = (-1/r d/dr)^n [erf(r / (sqrt(2) sigma)) / r]`` for n = 0 .. 2 order, in Å^-(2n+1).

    Args:
        square: r^2, Å^2.
        sigma: Å; 0 for points, ``B_0 = 1/r``.
        order: of the multipoles.
    """
    if sigma == 0.0:
        inverse = square.rsqrt()
        double = [math.prod(range(2 * n - 1, 0, -2)) for n in range(2 * order + 1)]
        return [factor * inverse ** (2 * n + 1) for n, factor in enumerate(double)]
    if order == 0:
        return [_erf_over_r(square, sigma)]
    t = square / (2 * sigma**2)
    return [math.sqrt(2 / math.pi) / sigma ** (2 * n + 1) * boys(t, n) for n in range(2 * order + 1)]


def _erf_over_r(square: Tensor, sigma: float) -> Tensor:
    """The potential of charges alone, of atoms that are apart: cheaper than by Boys functions."""
    inverse = square.rsqrt()
    return torch.erf(square * inverse / (math.sqrt(2) * sigma)) * inverse


def multipole_interaction(b: Sequence[Tensor], r: Tensor, first: Multipoles, second: Multipoles) -> Tensor:
    """Energy of pairs of multipoles over e^2 / (4 pi eps0), summed over their kinds: (P,) in e^2/Å.

    Args:
        b: radial functions of the pairs, (P,) each.
        r: (P, 3) vectors to ``first`` from ``second``, Å.
        first: multipoles of P atoms.
        second: as many.

    Source: A. J. Stone, The Theory of Intermolecular Forces (2013), chapter 3, with damped radial functions.
    """
    q, k = first.charges, second.charges
    total = (q * k).sum(1) * b[0]
    if first.dipoles is None or second.dipoles is None:
        p = m = torch.zeros_like(q)
    else:
        p, m = (torch.einsum("pca,pa->pc", x, r) for x in (first.dipoles, second.dipoles))
        contraction = torch.einsum("pca,pca->p", first.dipoles, second.dipoles)
        total = total + ((q * m - p * k).sum(1) + contraction) * b[1] - (p * m).sum(1) * b[2]
    if first.quadrupoles is None or second.quadrupoles is None:
        return total
    u, v = (torch.einsum("pcab,pb->pca", x, r) / 3 for x in (first.quadrupoles, second.quadrupoles))
    s, t = (torch.einsum("pca,pa->pc", x, r) for x in (u, v))
    total = total + (q * t + s * k).sum(1) * b[2] + (s * m - p * t).sum(1) * b[3]
    if first.dipoles is not None and second.dipoles is not None:
        total = total + 2 * ((first.dipoles * v).sum((1, 2)) - (second.dipoles * u).sum((1, 2))) * b[2]
    contraction = (first.quadrupoles * second.quadrupoles).sum((1, 2, 3)) * (2 / 9)
    return total + (s * t).sum(1) * b[4] - 4 * (u * v).sum((1, 2)) * b[3] + contraction * b[2]


def multipole_self_energy(m: Multipoles, sigma: float) -> Tensor:
    """Energy of Gaussian multipoles with themselves over e^2 / (4 pi eps0), (N,) in e^2/Å.

    ``1/2 q^2 B_0(0) + 1/2 d^2 B_1(0) + 1/9 Q^2 B_2(0)`` with ``B_n(0) = sqrt(2/pi) / ((2n + 1) sigma^(2n+1))``.
    """
    b = [math.sqrt(2 / math.pi) / ((2 * n + 1) * sigma ** (2 * n + 1)) for n in range(3)]
    total = 0.5 * b[0] * m.charges.square().sum(1)
    if m.dipoles is not None:
        total = total + 0.5 * b[1] * m.dipoles.square().sum((1, 2))
    if m.quadrupoles is not None:
        total = total + b[2] / 9 * m.quadrupoles.square().sum((1, 2, 3))
    return total


def within(structure: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs i < j of atoms of the same structure, (2 x P): ``structure`` is ascending, (N,)."""
    n = structure.shape[0]
    atoms = torch.arange(n, device=structure.device)
    last = torch.bincount(structure).cumsum(0).index_select(0, structure)
    others = last - atoms - 1
    first = atoms.repeat_interleave(others)
    start = (others.cumsum(0) - others).index_select(0, first)
    return first, torch.arange(first.shape[0], device=structure.device) - start + first + 1
