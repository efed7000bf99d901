"""Products of Hessians with vectors, without the matrix: for systems whose Hessian does not fit into memory."""

from __future__ import annotations

from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.model.slopes import recording, slopes
from carten.properties.planning import Pass
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
        how = plan.recipes[name]
        if list(how.axes) != sorted(how.axes):
            raise ModelError(f"property {name!r} is evaluated with its indices in another order: there are no products")
        with recording():
            planned = model.evaluation(graph, plan)
            planned.follow(plan.steps[: plan.steps.index(Pass((how.base, how.wrt[:-1]), how.wrt[-1:], True))])
            self._value = planned.partial((how.base, how.wrt[:-1]))
        self._wrt = planned.at.wrt[how.wrt[-1]]
        self._factor = how.factor
        self._what = f"derivative of {' by '.join((how.base, *how.wrt))}"

    def __call__(self, vectors: Tensor) -> Tensor:
        """(N, 3) times the unit of the property, from (N, 3)."""
        if vectors.shape != self._value.shape:
            raise ValueError(f"expected vectors of shape {tuple(self._value.shape)}, found {tuple(vectors.shape)}")
        with recording():
            weights = (vectors.clone() if vectors.is_inference() else vectors).to(self._value)
            (product,) = slopes(self._value, [self._wrt], self._what, create=False, retain=True, weights=weights)
        return product * self._factor
