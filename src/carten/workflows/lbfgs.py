"""Limited-memory BFGS for many independent problems at once."""

from __future__ import annotations

from collections import deque

import numpy as np

from carten.math.arrays import Array, Floats

MEMORY = 20
"""Steps that are remembered."""
STIFFNESS = 70.0
"""Curvature before anything is known, eV/Å^2."""
RISE = 1e-3
"""eV that the energy may rise in a step."""
SMALLEST_COSINE = 1e-8
"""Cosine of the angle between a step and the change of the gradient below which nothing is learned from it."""
SMALLEST_CURVATURE = 1e-30
"""Curvature of steps that are too short to tell anything, eV."""


class ManyLBFGS:
    """Quasi-Newton steps of several problems, whose variables lie one after the other in one array.

    Without a line search, as is usual for atoms: no evaluation is spent on anything but the next step, whose length is
    limited instead. A problem whose energy rises forgets what it knew.

    Args:
        problem: (n,) problem of each variable, ascending from 0.
        longest_step: of three variables that belong together (an atom), in Å.

    Source: D. C. Liu and J. Nocedal, Math. Program. 45, 503 (1989).
    """

    def __init__(self, problem: Array, longest_step: float = 0.2) -> None:
        self.problem = problem
        self.n_problems = int(problem[-1]) + 1 if len(problem) else 0
        self.longest_step = longest_step
        self._history: deque[tuple[Floats, Floats, Floats]] = deque(maxlen=MEMORY)
        self._last: tuple[Floats, Floats, Floats] | None = None

    def step(self, variables: Floats, gradient: Floats, energies: Floats) -> Floats:
        """The change of the variables (n,) from their gradient (n,) and the energies (problems,)."""
        if self._last is not None:
            self._remember(variables, gradient, energies)
        self._last = variables.copy(), gradient.copy(), energies.copy()
        direction = -gradient
        factors = []
        for moved, turned, inverse in reversed(self._history):
            factor = inverse * self._dot(moved, direction)
            direction = direction - factor[self.problem] * turned
            factors.append(factor)
        direction = direction / STIFFNESS
        for (moved, turned, inverse), factor in zip(self._history, reversed(factors), strict=True):
            back = inverse * self._dot(turned, direction)
            direction = direction + (factor - back)[self.problem] * moved
        return self._limited(direction)

    def select(self, kept: Array) -> None:
        """Go on with some of the problems only, (problems,) bool."""
        variables = kept[self.problem]
        numbers = np.cumsum(kept) - 1
        self.problem = numbers[self.problem[variables]]
        self.n_problems = int(kept.sum())
        pairs = [(moved[variables], turned[variables], inverse[kept]) for moved, turned, inverse in self._history]
        self._history = deque(pairs, maxlen=MEMORY)
        if self._last is not None:
            before, gradient, energies = self._last
            self._last = before[variables], gradient[variables], energies[kept]

    def _remember(self, variables: Floats, gradient: Floats, energies: Floats) -> None:
        if self._last is None:
            return
        before, gradient_before, energies_before = self._last
        moved, turned = variables - before, gradient - gradient_before
        curvature = self._dot(moved, turned)
        rises = energies > energies_before + RISE
        steepest = np.sqrt(self._dot(moved, moved) * self._dot(turned, turned))
        usable = (curvature > np.maximum(SMALLEST_COSINE * steepest, SMALLEST_CURVATURE)) & ~rises
        inverse = np.where(usable, 1 / np.where(usable, curvature, 1.0), 0.0)
        history = [(s, y, np.where(rises, 0.0, rho)) for s, y, rho in self._history]
        self._history = deque([*history, (moved, turned, inverse)], maxlen=MEMORY)

    def _dot(self, left: Floats, right: Floats) -> Floats:
        sums: Floats = np.bincount(self.problem, left * right, self.n_problems).astype(np.float64)
        return sums

    def _limited(self, step: Floats) -> Floats:
        """Steps of all problems, shortened where something would move too far."""
        lengths = np.linalg.norm(step.reshape(-1, 3), axis=1)
        longest = np.zeros(self.n_problems)
        np.maximum.at(longest, self.problem[::3], lengths)
        scale = np.minimum(1.0, self.longest_step / np.maximum(longest, 1e-300))
        limited: Floats = step * scale[self.problem]
        return limited
