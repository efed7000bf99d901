"""Evaluating a plan: values by name, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from carten.model.sums import per_structure
from carten.physics import equilibration, polarization
from carten.physics.constants import ELECTRONEGATIVITIES, FIELD, HARDNESSES
from carten.properties import pairs
from carten.properties.derivatives import Leaves, atomic_virials, gradients, gradients_of_atoms, per_volume
from carten.properties.multipoles import dipole, permittivity, quadrupole
from carten.properties.planning import EDGES, DerivativePlan, Drawn, Partial, responds
from carten.properties.recipes import Recipe, Variable, index_symmetry
from carten.properties.routes import AtomicVirial, Equilibrated, Latent, Multipole, Permittivity, Sum


class Evaluation:
    """Values of the properties of a plan.

    Args:
        plan: what to evaluate.
        at: the structures, and what is differentiated with respect to.
        read: value of a property that is read from the features, by name; it is also given :meth:`value`, for the
            properties it takes.
        told: the variables.
        keep: whether values will be differentiated with respect to parameters.
        drawn: rows wanted of what is differentiated; all by default.
    """

    def __init__(
        self,
        plan: DerivativePlan,
        at: Leaves,
        read: Callable[[str, Callable[[str], Tensor]], Tensor],
        told: Mapping[str, Variable],
        keep: bool,
        drawn: Drawn | None = None,
    ) -> None:
        self.plan = plan
        self.at = at
        self.told = told
        self.keep = keep
        self.drawn = drawn or {}
        self._read = read
        self._values: dict[str, Tensor] = {}
        self._derivatives: dict[tuple[Partial, str], Tensor] = {}
        ends = [name for name, row in plan.rows.items() if row.scope == "pair"]
        self._left = len(plan.steps) + len(ends) + sum(responds(row) for row in plan.rows.values())

    def value(self, name: str) -> Tensor:
        """(S, 3, ..), (N, 3, ..) or (P, 3, ..)."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _evaluate(self, name: str) -> Tensor:
        row, graph = self.plan.rows[name], self.at.graph
        match row.routes[0]:
            case Sum(of):
                return per_structure(self.value(of), graph)
            case Permittivity(of):
                return permittivity(per_volume(self.value(of), self.at, atoms=False))
            case Multipole(charges, dipoles) if row.rank == 1:
                return dipole(self.value(charges), self.value(dipoles) if dipoles else None, graph)
            case Multipole(charges, dipoles):
                return quadrupole(self.value(charges), self.value(dipoles), self._read(name, self.value), graph)
            case Latent(charges, dipoles):
                return self._latent(name, charges, dipoles)
            case Equilibrated() as route:
                return self._equilibrated(route)
            case AtomicVirial(of, sign, divide):
                value = atomic_virials(self._derivative((of, ()), EDGES), self.at)
                value = value if sign == 1 else sign * value
                return per_volume(value, self.at, atoms=True) if divide else value
        if name in self.plan.recipes:
            return self._finish(name, self.plan.recipes[name])
        return self._read(name, self.value)

    def _equilibrated(self, route: Equilibrated) -> Tensor:
        graph, chi = self.at.graph, self.value(ELECTRONEGATIVITIES)
        if FIELD in graph.inputs and FIELD not in self.told:  # else the network sees to it
            chi = equilibration.electronegativities_in_field(chi, graph)
        return equilibration.equilibrated_charges(chi, self.value(HARDNESSES), graph, route.interaction)

    def _latent(self, name: str, charges: str, dipoles: str) -> Tensor:
        values = (self.value(charges), self.value(dipoles) if dipoles else None)
        if not responds(self.plan.rows[name]):
            return polarization.latent_polarization(*values, self.at.graph)
        self._left -= 1
        return polarization.born_charges(*values, self.at.graph, self.at.vectors, self.keep)

    def _finish(self, name: str, how: Recipe) -> Tensor:
        value = self._pairs(how) if self.plan.rows[name].scope == "pair" else self.raw((how.base, how.wrt))
        if list(how.axes) != sorted(how.axes):
            value = value.permute(0, *(1 + axis for axis in how.axes))
        if how.factor != 1.0:
            value = value * how.factor
        return per_volume(value, self.at, self.plan.rows[name].scope == "atom") if how.per_volume else value

    def raw(self, source: Partial) -> Tensor:
        """A derivative as it comes: components of the base, then those of the variables."""
        base, wrt = source
        return self._derivative((base, wrt[:-1]), wrt[-1]) if wrt else self.value(base)

    def _derivative(self, source: Partial, variable: str) -> Tensor:
        if (source, variable) not in self._derivatives:
            self._differentiate(source)
        return self._derivatives[source, variable]

    def _differentiate(self, source: Partial) -> None:
        """Everything that a source is differentiated with respect to, in one pass for each of its components."""
        value = self.raw(source)
        names = self.plan.steps[source]
        base, wrt = source
        create = [self.keep or (base, (*wrt, name)) in self.plan.sources for name in names]
        retain = self._retain()
        what = f"derivative of {' by '.join((base, *wrt, ' and '.join(names)))}"
        of_atoms = self.plan.rows[base].scope == "atom" or any(self.told[name].scope == "atom" for name in wrt)
        if of_atoms:
            for k, name in enumerate(names):
                more = retain or k < len(names) - 1
                self._derivatives[source, name] = gradients_of_atoms(value, self.at.wrt[name], what, create[k], more)
            return
        symmetry = index_symmetry(self.plan.rows[base], wrt, self.told)
        variables = [self.at.wrt[name] for name in names]
        found = gradients(value, variables, symmetry, what, any(create), retain, self.drawn.get(source))
        self._derivatives.update({(source, name): x for name, x in zip(names, found, strict=True)})

    def _pairs(self, how: Recipe) -> Tensor:
        source, wrt = (how.base, how.wrt[:-1]), self.at.wrt[how.wrt[-1]]
        rows = self.drawn.get(source)
        what = f"derivative of {' by '.join((how.base, *how.wrt))}"
        return pairs.derivative(self.raw(source), wrt, self.at.graph, rows, what, self.keep, self._retain())

    def _retain(self) -> bool:
        """Whether what leads to the values is needed again after the next pass."""
        self._left -= 1
        return self.keep or self._left > 0
