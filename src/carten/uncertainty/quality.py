"""How uncertainties compare with errors: coverage of intervals, likelihood, rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from carten.math.arrays import Floats

LEVEL = 0.9
"""Of the intervals that calibration is about."""
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Of the intervals of a calibration curve."""
TINY = 1e-12


@dataclass(frozen=True)
class Quality:
    """What uncertainties are worth, for one property.

    Args:
        count: number of errors (components).
        rmse: of the errors.
        mean: root mean square of the uncertainties, in the same unit.
        coverage: share of the errors within intervals of 90 %, ±1.645 uncertainties.
        nll: mean negative logarithm of the likelihood of the errors, if they were normally distributed.
        spearman: rank correlation of uncertainties and sizes of errors, by structures or atoms.
        curve: share of the errors within the intervals of each of :data:`LEVELS`.
    """

    count: int
    rmse: float
    mean: float
    coverage: float
    nll: float
    spearman: float
    curve: tuple[float, ...]

    @classmethod
    def of(cls, errors: Floats, uncertainties: Floats) -> Quality:
        """From errors (rows, components) and uncertainties (rows,), which are those of one component."""
        sigma = np.maximum(uncertainties, TINY)[:, None]
        ratio = np.abs(errors) / sigma
        sizes = np.sqrt(np.mean(errors**2, axis=1))
        varied = len(sizes) > 2 and np.ptp(sizes) > 0.0 and np.ptp(uncertainties) > 0.0
        return cls(
            count=errors.size,
            rmse=float(np.sqrt(np.mean(errors**2))),
            mean=float(np.sqrt(np.mean(uncertainties**2))),
            coverage=float(np.mean(ratio <= half_width(LEVEL))),
            nll=float(np.mean(0.5 * ratio**2 + np.log(sigma) + 0.5 * np.log(2.0 * np.pi))),
            spearman=float(stats.spearmanr(uncertainties, sizes).statistic) if varied else float("nan"),
            curve=tuple(float(np.mean(ratio <= half_width(level))) for level in LEVELS),
        )


def half_width(level: float) -> float:
    """Half the width of the interval about the mean that a normal variable is in with this probability."""
    return float(stats.norm.ppf(0.5 + 0.5 * level))


def fitting_scale(errors: Floats, uncertainties: Floats) -> float:
    """Factor of the uncertainties by which 90 % of the errors are in intervals of 90 %.

    Quantiles do not depend on the few largest errors, whose distribution has tails that a normal one has not.
    """
    ratio = np.abs(errors) / np.maximum(uncertainties, TINY)[:, None]
    return max(float(np.quantile(ratio, LEVEL)) / half_width(LEVEL), TINY)
