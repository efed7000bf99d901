"""Quadratures of the unit sphere, exact for polynomials up to a stated degree."""

from functools import cache

import numpy as np
from scipy.integrate import lebedev_rule

from carten.math.arrays import Floats

# Degrees of Lebedev's rules in SciPy, without 13, 25 and 27: these have negative weights, which amplify round-off.
DEGREES = (*range(3, 12, 2), *range(15, 24, 2), 29, 31, *range(35, 132, 6))


@cache
def sphere(degree: int) -> tuple[Floats, Floats]:
    """Smallest Lebedev rule with positive weights that is exact for all polynomials of total degree <= ``degree``.

    The mean of f over the unit sphere is sum_q w_q f(r_q); the points have the symmetry of the octahedron, inversion
    included. Returns read-only points (Q, 3), unit vectors, and weights (Q,), positive with sum 1, no unit.
    Raises ValueError unless 0 <= degree <= 131 (Lebedev and Laikov 1999, tables of scipy.integrate.lebedev_rule).
    """
    if not 0 <= degree <= DEGREES[-1]:
        raise ValueError(f"the degree of a sphere quadrature must be between 0 and {DEGREES[-1]}, found {degree}")
    points, weights = lebedev_rule(next(available for available in DEGREES if available >= degree))
    points = np.ascontiguousarray(points.T)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    weights = weights / weights.sum()
    points.setflags(write=False)
    weights.setflags(write=False)
    return points, weights
