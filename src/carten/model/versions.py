"""Whether the weights of a module are still those that something was computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class _Place:
    """Where a module keeps a weight, and the weight, its version and its address at some time."""

    tensors: Mapping[str, Tensor | None]
    name: str
    weight: Tensor
    version: int
    address: int

    def unchanged(self) -> bool:
        weight = self.tensors.get(self.name)
        return weight is self.weight and weight._version == self.version and weight.data_ptr() == self.address


class Versions:
    """Versions of all parameters and stored buffers of a module.

    They notice ``load_state_dict``, steps of optimisers, operations in place and ``torch.func.functional_call``. The
    weights are held, so that no other tensor can come to lie at the same address.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places: list[_Place] = []
        for part in module.modules():
            stored = {n for n in part._buffers if n not in part._non_persistent_buffers_set}
            self._add(part._parameters, part._parameters)
            self._add(part._buffers, stored)

    def _add(self, tensors: Mapping[str, Tensor | None], names: Iterable[str]) -> None:
        for name in names:
            if (weight := tensors[name]) is not None:
                self._places.append(_Place(tensors, name, weight, weight._version, weight.data_ptr()))

    def current(self) -> bool:
        """Whether no weight has been replaced, moved or changed in place."""
        return all(place.unchanged() for place in self._places)
