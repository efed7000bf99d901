"""Radial functions on 0 <= r <= cutoff, for any floating dtype and differentiable to any order, at r = 0 too.

The bases do not vanish smoothly at the cutoff by themselves: multiply them by ``polynomial_envelope``, which brings
value, slope and curvature to zero there.
"""

from math import factorial, pi, sqrt

import torch
from torch import Tensor

SERIES_BELOW = 0.5  # sin(x)/x by its Taylor series for |x| below this: 8 terms, truncation error 0.5^16/17! < 1e-19
SERIES_TERMS = 8


def _check(n: int, cutoff: float) -> None:
    if n < 1 or not cutoff > 0:
        raise ValueError(f"a radial basis needs n >= 1 functions and a cutoff > 0 A, found n = {n}, cutoff = {cutoff}")


def _sine_over_argument(x: Tensor) -> Tensor:
    """sin(x)/x, smooth through x = 0 (the second derivative of torch.sinc is NaN there)."""
    near_zero = x.abs() < SERIES_BELOW
    square = torch.where(near_zero, x, 0.0) ** 2
    series = torch.zeros_like(x)
    for k in reversed(range(SERIES_TERMS)):
        series = series * square + (-1) ** k / factorial(2 * k + 1)
    away = torch.where(near_zero, 1.0, x)
    return torch.where(near_zero, series, torch.sin(away) / away)


def _recurrence(second: Tensor, x: Tensor, n: int) -> Tensor:
    """The first n of P_0 = 1, P_1 = second, P_k = 2 x P_(k-1) - P_(k-2), along a new last axis."""
    values = [torch.ones_like(x), second]
    for _ in range(n - 2):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[:n], dim=-1)


def bessel(r: Tensor, n: int, cutoff: float) -> Tensor:
    """Spherical Bessel functions sqrt(2 / cutoff) sin(k pi r / cutoff) / r, k = 1..n: orthonormal with weight r^2.

    Evaluated as sin(t)/r U_(k-1)(cos t) with t = pi r / cutoff and Chebyshev polynomials U, regular at r = 0.
    r: (...), A. cutoff in A. Returns (..., n) in A^(-3/2); 0 at the cutoff, with a slope: multiply by the envelope.
    Raises ValueError unless n >= 1 and cutoff > 0 (Gasteiger, Gross and Guennemann 2020, Eq. 7).
    """
    _check(n, cutoff)
    angle = r * (pi / cutoff)
    cosine = torch.cos(angle)
    amplitude = sqrt(2 / cutoff) * (pi / cutoff) * _sine_over_argument(angle)
    return amplitude.unsqueeze(-1) * _recurrence(2 * cosine, cosine, n)


def chebyshev(r: Tensor, n: int, cutoff: float) -> Tensor:
    """Chebyshev polynomials of the first kind T_k(2 r / cutoff - 1), k = 0..n-1.

    r: (...), A. cutoff in A. Returns (..., n), no unit, all within [-1, 1] and all 1 at the cutoff: multiply by the
    envelope. Raises ValueError unless n >= 1 and cutoff > 0 (Abramowitz and Stegun 1972, Eq. 22.7.4).
    """
    _check(n, cutoff)
    x = r * (2 / cutoff) - 1
    return _recurrence(x, x, n)


def polynomial_envelope(r: Tensor, cutoff: float, p: int = 5) -> Tensor:
    """Smooth step from 1 at r = 0, flat to order p - 1, to 0 at the cutoff with zero first and second derivative.

    f(u) = 1 - (p+1)(p+2)/2 u^p + p(p+2) u^(p+1) - p(p+1)/2 u^(p+2) with u = r / cutoff, evaluated in the equal form
    (1 - u)^3 sum_(k<p) (k+1)(k+2)/2 u^k, which has no cancellation near the cutoff; exactly 0 beyond it.
    r: (...), A. cutoff in A. Returns (...), no unit.
    Raises ValueError unless p >= 1 and cutoff > 0 (Gasteiger, Gross and Guennemann 2020, Eq. 8).
    """
    if p < 1 or not cutoff > 0:
        raise ValueError(f"the envelope needs a power p >= 1 and a cutoff > 0 A, found p = {p}, cutoff = {cutoff}")
    u = (r / cutoff).clamp(max=1.0)
    series = torch.zeros_like(u)
    for k in reversed(range(p)):
        series = series * u + (k + 1) * (k + 2) / 2
    return (1 - u) ** 3 * series
