"""Layers that describe themselves: each is written once, as a circuit, and run by the interpreter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from carten.errors import ModelError
from carten.ops import interpreter
from carten.ops.circuit import Circuit
from carten.ops.draft import Draft
from carten.ops.index import Index


class Described(nn.Module):
    """A part of a layer: :meth:`describe` writes what it does to the draft of a circuit.

    A part is not called: it has no ``forward``, and hooks of its own would not run.
    """

    def describe(self, draft: Draft, *arguments: Any) -> Any:
        """Write the operators of this part; returns the values that they make."""
        raise NotImplementedError(f"{type(self).__name__} has to describe itself to a circuit")

    def forward(self, *_: Any) -> Any:
        """Refused.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{type(self).__name__} is a part of a circuit and can't be called: run the layer it is in")


class Composition(NamedTuple):
    """A module, its type, and its submodules at the time when circuits were drawn."""

    module: nn.Module
    type: type
    children: Mapping[str, nn.Module | None]

    @property
    def is_present(self) -> bool:
        """Whether no submodule was exchanged, added or removed since."""
        return type(self.module) is self.type and self.module._modules == self.children


class Layered(nn.Module):
    """A module that runs circuits, which its parts describe.

    Circuits are drawn at construction, and again when a part was exchanged for another.
    """

    _drawn: tuple[list[Composition], Mapping[str, Circuit]] | None = None

    def draw(self) -> Mapping[str, Circuit]:
        """The circuits by name, from the parts as they are now."""
        raise NotImplementedError

    @property
    def circuits(self) -> Mapping[str, Circuit]:
        """Circuits by name; the names of their weights are those of this module's parameters and buffers.

        Raises:
            ModelError: a part does something that circuits don't show.
        """
        if self._drawn is None or not all(composition.is_present for composition in self._drawn[0]):
            parts = [self, *_parts(self)]
            self._drawn = [Composition(part, type(part), dict(part._modules)) for part in parts], self.draw()
        for part, *_ in self._drawn[0]:
            _require_describable(part)
        return self._drawn[1]

    def prepare(self) -> None:
        """Draw the circuits, at the end of construction, so that no plan is built while they run."""
        _ = self.circuits

    def run(
        self,
        circuit: Circuit,
        tensors: Mapping[str, Tensor],
        indices: Mapping[str, Index],
        rows: Mapping[str, int],
        backend: str = "auto",
    ) -> dict[str, Tensor]:
        """Outputs of one of the circuits with the present weights, see :func:`carten.ops.interpreter.run`."""
        return interpreter.run(circuit, {**tensors, **interpreter.weights(self, circuit)}, indices, rows, backend)


def describe(parent: nn.Module, name: str, draft: Draft, *arguments: Any) -> Any:
    """What a submodule makes of values, written to a draft.

    Raises:
        ModelError: it can't describe itself.
    """
    part = parent.get_submodule(name)
    if not isinstance(part, Described):
        raise ModelError(
            f"{name} of {type(parent).__name__} is a {type(part).__name__}, which does not say what it does: derive it "
            "from carten.model.described.Described and implement describe()"
        )
    _require_describable(part)
    return part.describe(draft.within(name), *arguments)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """All submodules but those that run circuits of their own."""
    for child in module.children():
        if not isinstance(child, Layered):
            yield child
            yield from _parts(child)


def _require_describable(part: nn.Module) -> None:
    if not isinstance(part, Described):
        return
    name = type(part).__name__
    if type(part).forward is not Described.forward or "forward" in vars(part):
        raise ModelError(f"{name} has a forward of its own, which would not run: say what it does in describe()")
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks:
        raise ModelError(f"{name} has hooks, which would not run: register them on the layer it is in")
