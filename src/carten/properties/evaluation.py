"""Evaluation of a plan, step by step, from the values that are available."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from carten.model.sums import per_structure
from carten.physics import equilibration, induction, polarization
from carten.physics.equilibration import ChargeInteraction
from carten.physics.names import ELECTRONEGATIVITIES, FIELD, HARDNESSES, POLARIZABILITIES
from carten.physics.pairs import Multipoles
from carten.physics.term import View
from carten.properties import pairs
from carten.properties.derivatives import Leaves, atomic_virials, gradients, gradients_of_atoms, per_volume
from carten.properties.multipoles import dipole, permittivity, quadrupole
from carten.properties.planning import EDGES, DerivativePass, DerivativePlan, Drawn, Partial, responds
from carten.properties.recipes import Recipe, Variable, index_symmetry
from carten.properties.routes import (
    AtomicVirial,
    Derivative,
    Equilibrated,
    Induced,
    Latent,
    Multipole,
    Permittivity,
    Property,
)
from carten.properties.routes import Sum as AtomSum


class PlannedValues:
    """Values of the properties of a plan by name, (S, 3, ..), (N, 3, ..) or (P, 3, ..).

    Args:
        plan: the steps, in which nothing comes before what it follows from.
        leaves: the structures, and what is differentiated with respect to.
        readouts: values that follow from features, by name; of quadrupoles what charges and dipoles add is missing.
        variables: all that may be differentiated with respect to.
        keep: whether values will be differentiated with respect to parameters or structures.
        drawn: rows wanted of what is differentiated; all by default.
        others_follow: whether other values follow from the same features.
    """

    def __init__(
        self,
        plan: DerivativePlan,
        leaves: Leaves,
        readouts: Mapping[str, Tensor],
        variables: Mapping[str, Variable],
        keep: bool,
        drawn: Drawn | None = None,
        others_follow: bool = False,
    ) -> None:
        self.plan = plan
        self.leaves = leaves
        self.values = dict(readouts)
        self.variables = variables
        self.keep = keep
        self.drawn = drawn or {}
        self.others_follow = others_follow
        self._derivatives: dict[Partial, Tensor] = {}

    def follow(self, steps: Iterable[str | DerivativePass]) -> None:
        """Take steps of the plan."""
        for step in steps:
            retain = self.keep or self.others_follow or step != self.plan.last
            if isinstance(step, DerivativePass):
                self._differentiate(step, retain)
            else:
                self.values[step] = self._evaluate(self.plan.rows[step])

    def partial(self, source: Partial) -> Tensor:
        """A derivative as autograd returns it: components of the base, then those of the variables."""
        base, wrt = source
        return self._derivatives[source] if wrt else self.values[base]

    def _evaluate(self, row: Property) -> Tensor:
        """Value of a row by its route, from the available values and derivatives."""
        values, graph = self.values, self.leaves.graph
        match row.routes[0]:
            case AtomSum(of):
                return per_structure(values[of], graph)
            case Permittivity(of):
                return permittivity(per_volume(values[of], self.leaves, atoms=False))
            case Multipole(charges, dipoles) if row.rank == 1:
                return dipole(values[charges], values[dipoles] if dipoles else None, graph)
            case Multipole(charges, dipoles):
                return quadrupole(values[charges], values[dipoles], values[row.name], graph)
            case Latent(charges, dipoles) if responds(row):
                moments = (values[charges], values[dipoles] if dipoles else None)
                return polarization.born_charges(*moments, graph, self.leaves.vectors, self.keep)
            case Latent(charges, dipoles):
                return polarization.latent_polarization(values[charges], values[dipoles] if dipoles else None, graph)
            case Equilibrated() | Induced() as route:
                return self._least(route)
            case AtomicVirial(of, sign, divide):
                virials = sign * atomic_virials(self._derivatives[of, (EDGES,)], self.leaves)
                return per_volume(virials, self.leaves, atoms=True) if divide else virials
            case Derivative():
                return self._finish(row, self.plan.recipes[row.name])
        return values[row.name]

    def _least(self, route: Equilibrated | Induced) -> Tensor:
        """Charges or dipoles of the least energy."""
        graph = self.leaves.graph
        in_field = FIELD in graph.inputs and FIELD not in self.variables  # else the network sees to it
        interaction = ChargeInteraction.of(route.sigma, route.permittivity, route.accuracy)
        if isinstance(route, Induced):
            return self._induced(route, interaction, in_field)
        chi = self.values[ELECTRONEGATIVITIES]
        chi = equilibration.electronegativities_in_field(chi, graph) if in_field else chi
        return equilibration.equilibrated_charges(chi, self.values[HARDNESSES], graph, interaction)

    def _induced(self, route: Induced, interaction: ChargeInteraction, in_field: bool) -> Tensor:
        permanent = self.values[route.permanent] if route.permanent else None
        moments = (None if x is None else x.unsqueeze(1) for x in (permanent, self.values.get(route.quadrupoles)))
        sources = Multipoles(self.values["latent_charges"].unsqueeze(1), *moments)
        view, polarizabilities = View(self.leaves.graph, self.leaves.vectors), self.values[POLARIZABILITIES]
        induced = induction.induced_dipoles(sources, polarizabilities, view, interaction, in_field)
        return induced if permanent is None else induced + permanent

    def _finish(self, row: Property, recipe: Recipe) -> Tensor:
        """A derivative with its axes in order, in its unit, per volume if the recipe says so."""
        value = self._derivatives[recipe.base, recipe.wrt]
        if list(recipe.axes) != sorted(recipe.axes):
            value = value.permute(0, *(1 + axis for axis in recipe.axes))
        if recipe.factor != 1.0:
            value = value * recipe.factor
        return per_volume(value, self.leaves, row.scope == "atom") if recipe.per_volume else value

    def _differentiate(self, step: DerivativePass, retain: bool) -> None:
        """Add derivatives; ``retain`` keeps what leads to the values for further steps."""
        base, wrt = step.source
        value, variables = self.partial(step.source), [self.leaves.wrt[name] for name in step.variables]
        results = [(base, (*wrt, name)) for name in step.variables]
        create = [self.keep or result in self.plan.sources for result in results]
        description = f"derivative of {' by '.join((base, *wrt, ' and '.join(step.variables)))}"
        of_atoms = self.plan.rows[base].scope == "atom" or any(self.variables[x].scope == "atom" for x in wrt)
        if step.into_pairs:
            rows = self.drawn.get(step.source)
            derivatives = [
                pairs.derivative(value, variables[0], self.leaves.graph, rows, description, self.keep, retain)
            ]
        elif of_atoms:
            retains = [retain or k < len(variables) - 1 for k in range(len(variables))]
            derivatives = [
                gradients_of_atoms(value, x, description, create[k], retains[k]) for k, x in enumerate(variables)
            ]
        else:
            symmetry = index_symmetry(self.plan.rows[base], wrt, self.variables)
            rows = self.drawn.get(step.source)
            derivatives = gradients(value, variables, symmetry, description, any(create), retain, rows)
        self._derivatives.update(zip(results, derivatives, strict=True))
