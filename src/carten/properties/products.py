"""Products of Hessians with vectors, without the matrix: for systems whose Hessian does not fit into memory."""

from __future__ import annotations

from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.model.slopes import autograd_recording, slopes
from carten.properties.planning import DerivativePass
from carten.properties.potential import Potential


class Products:
    """``(v H)_b = sum_a v_a H_ab`` for a property H of pairs of atoms, the Hessian by default.

    The values of atoms that H is the derivative of are evaluated once; each product is one pass over the network.

    Args:
        model: in evaluation mode.
        graph: one structure, or several: products do not mix them.
        name: of the property.

    Raises:
        ModelError: the model has no such property of pairs of atoms.
    """

    def __init__(self, model: Potential, graph: Graph, name: str = "hessian") -> None:
        row = model.properties.get(name)
        if row is None or row.scope != "pair":
            raise ModelError(f"the model has no property {name!r} of pairs of atoms")
        plan = model.planned((name,))
        recipe = plan.recipes[name]
        if list(recipe.axes) != sorted(recipe.axes):
            raise ModelError(f"property {name!r} is evaluated with its indices in another order: there are no products")
        with autograd_recording():
            planned = model.evaluation(graph, plan)
            last = DerivativePass((recipe.base, recipe.wrt[:-1]), recipe.wrt[-1:], into_pairs=True)
            planned.follow(plan.steps[: plan.steps.index(last)])
            self._value = planned.partial((recipe.base, recipe.wrt[:-1]))
        self._wrt = planned.leaves.wrt[recipe.wrt[-1]]
        self._factor = recipe.factor
        self._description = f"derivative of {' by '.join((recipe.base, *recipe.wrt))}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the vectors, (N, 3) for positions."""
        return tuple(self._value.shape)

    def __call__(self, vectors: Tensor) -> Tensor:
        """A product in the unit of the property, of vectors of :attr:`shape`."""
        if vectors.shape != self._value.shape:
            raise ValueError(f"expected vectors of shape {tuple(self._value.shape)}, found {tuple(vectors.shape)}")
        with autograd_recording():
            weights = (vectors.clone() if vectors.is_inference() else vectors).to(self._value)
            (product,) = slopes(self._value, [self._wrt], self._description, create=False, retain=True, weights=weights)
        return product * self._factor
