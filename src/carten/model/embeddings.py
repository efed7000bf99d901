"""Embeddings of conditions: fields, charges, moments, levels of theory become features of the atoms.

Every embedding adds to the features at several places: to the initial features of the atoms, and to the messages of
each layer before they enter the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.math.symmetry import decompose
from carten.model import conditions
from carten.model.conditions import Category, Coupled, Exchange, Input, Scalar
from carten.model.config import NetworkConfig
from carten.model.described import Described, describe
from carten.model.exchange import INITIAL
from carten.model.interaction import SILU_GAIN
from carten.model.parameters import Features, FeatureValues, normal
from carten.ops.draft import Draft
from carten.ops.gates import (
    chebyshev_plan,
    gain_plan,
    linear_plan,
    look_up_plan,
    magnitudes_plan,
    square_plan,
    tensor_plan,
)
from carten.ops.operators import CircuitIndex, Value
from carten.ops.space import SCALAR, Part

N_FUNCTIONS = 8
"""Functions of a number."""
N_POWERS = 4
"""Functions of a magnitude."""


@dataclass(frozen=True)
class Conditions:
    """What the inputs add for N atoms.

    Args:
        places: features added to the initial features, then to the messages of each layer.
        moments: (N, 3^r) moments, in units of their scale, see :mod:`carten.model.exchange`.
    """

    places: Sequence[Features]
    moments: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Atoms:
    """The atoms that embeddings add to.

    Args:
        rows: ``all`` or ``own``.
        n_elements: number of elements.
        places: what is added to: 0 for the initial features, k for the messages of layer k.
    """

    rows: str
    n_elements: int
    places: range

    def element(self, draft: Draft) -> CircuitIndex:
        """Their elements."""
        return draft.index("all_element" if self.rows == "all" else "element", self.rows, self.n_elements)

    def structure(self, draft: Draft) -> CircuitIndex:
        """Their structures."""
        return draft.index("all_structure" if self.rows == "all" else "structure", self.rows, "structures")


def bounded(draft: Draft, value: Value, scale: float) -> Value:
    """Chebyshev polynomials of degree 1 to 8 of ``x / sqrt(1 + x^2)``, x = value / scale: (rows, 8), analytic."""
    one = draft.apply("one", value)
    _, shifted = draft.run(square_plan(1, scale), [value, one], str(value.rows))
    root = draft.apply("inverse_root", shifted)
    (functions,) = draft.run(chebyshev_plan(N_FUNCTIONS, scale), [value, root, one], str(value.rows))
    return functions


def powers(draft: Draft, value: Value, scale: float, first: int) -> Value:
    """``(x / (1 + x))^k`` of ``x = |value / scale|^2``, k = first .. first + 3: (rows, 4), analytic at 0."""
    square, shifted = draft.run(square_plan(value.size, scale), [value, draft.apply("one", value)], str(value.rows))
    operands = [square, draft.apply("inverse", shifted), draft.apply("one", square)]
    (functions,) = draft.run(magnitudes_plan(first, N_POWERS), operands, str(value.rows))
    return functions


class Perceptron(Described):
    """One hidden layer without biases, zero at zero: (rows, n_in) -> (rows, 1, n_out)."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = normal((n_in, n_out), generator)
        self.second = normal((n_out, n_out), generator)

    def describe(self, draft: Draft, values: Value) -> Value:
        """Unit variance from unit variance."""
        n_in, n_out = self.first.shape
        hidden = draft.apply("silu", draft.mix(values, draft.weight("first", self.first.shape), n_in**-0.5))
        second = draft.weight("second", self.second.shape)
        return draft.apply("silu", draft.mix(hidden, second, SILU_GAIN * n_out**-0.5))


class Invariants(Described):
    """Scalars at every place from hidden values of atoms or structures, with a gain for each element."""

    def __init__(self, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__()
        n = config.n_channels
        self.weight = normal((config.n_layers + 1, n, n), generator, INITIAL)
        self.element = normal((n_elements, n), generator)

    def describe(self, draft: Draft, hidden: Value, atoms: Atoms) -> list[FeatureValues]:
        """From (rows, 1, channels)."""
        n_elements, n = self.element.shape
        gain = draft.weight("element", (n_elements, 1, n))
        indices = {"element": atoms.element(draft)}
        if hidden.rows != atoms.rows:
            indices["structure"] = atoms.structure(draft)
        plan = gain_plan(("element",), "structure" if hidden.rows != atoms.rows else "")
        places: list[FeatureValues] = []
        for place in atoms.places:
            mixed = draft.mix(hidden, draft.weight("weight", (n, n), place), SILU_GAIN * n**-0.5)
            (value,) = draft.run(plan, [mixed, gain], atoms.rows, indices)
            places.append({SCALAR: value})
        return places


class Embedding(Described):
    """Base of all embeddings: the parts they add to the initial features and to messages.

    Args:
        row: the input.
    """

    start: tuple[Part, ...] = (SCALAR,)
    messages: tuple[Part, ...] = (SCALAR,)
    exchanged = False

    def __init__(self, row: Input) -> None:
        super().__init__()
        self.row = row

    def describe(self, draft: Draft, atoms: Atoms) -> list[FeatureValues]:
        """Contributions at each of the places of atoms."""
        raise NotImplementedError

    def describe_moments(self, draft: Draft, atoms: Atoms) -> list[Value]:
        """What neighbours exchange."""
        return []

    def rows(self, atoms: Atoms) -> str:
        """Rows of the values."""
        return "structures" if self.row.scope == "structure" else atoms.rows

    def value(self, draft: Draft, atoms: Atoms) -> Value:
        """The input, (rows, 3^r)."""
        return draft.input(self.row.name, self.rows(atoms), 3**self.row.rank)


class ScalarEmbedding(Embedding):
    """See :class:`carten.model.conditions.Scalar`."""

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        self.perceptron = Perceptron(N_FUNCTIONS, config.n_channels, generator)
        self.invariants = Invariants(config, n_elements, generator)

    def describe(self, draft: Draft, atoms: Atoms) -> list[FeatureValues]:
        functions = bounded(draft, self.value(draft, atoms), self.row.scale)
        hidden = describe(self, "perceptron", draft, functions)
        places: list[FeatureValues] = describe(self, "invariants", draft, hidden, atoms)
        return places


class CategoryEmbedding(Embedding):
    """See :class:`carten.model.conditions.Category`."""

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        n_values = len(row.embed.values) if isinstance(row.embed, Category) else 0
        self.vectors = normal((n_values, config.n_channels), generator)
        self.invariants = Invariants(config, n_elements, generator)

    def describe(self, draft: Draft, atoms: Atoms) -> list[FeatureValues]:
        n_values, n = self.vectors.shape
        index = draft.index(self.row.name, self.rows(atoms), n_values)
        vectors = draft.weight("vectors", (n_values, 1, n))
        (hidden,) = draft.run(look_up_plan(), [vectors], self.rows(atoms), {"row": index})
        places: list[FeatureValues] = describe(self, "invariants", draft, hidden, atoms)
        return places


def parts_of_input(row: Input, config: NetworkConfig) -> dict[Part, int]:
    """The irreducible parts of the values of an input, with multiplicities."""
    time_parity = row.time_parity if config.time_reversal else 1
    return {Part(l, row.parity, time_parity): copies for l, copies in decompose(row.indices).parts}


class TensorEmbedding(Embedding):
    """See :class:`carten.model.conditions.Tensor`: ``part_c = T_part g_c(z, |T|^2)`` for every channel c.

    Tensors of atoms also enter the initial features, so that they reach the neighbours.
    """

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        decomposition = decompose(row.indices)
        self.copies = parts_of_input(row, config)
        self.messages = tuple(self.copies)
        self.start = self.messages if row.scope == "atom" else ()
        bases = {part: np.swapaxes(decomposition.basis(part.l), 0, 1) / row.scale for part in self.copies}
        self.maps = {part: basis.reshape(-1, 3**row.rank) for part, basis in bases.items()}
        n_places = config.n_layers + len(self.start[:1])
        sizes = {part: (n_places, N_POWERS, n * config.n_channels) for part, n in self.copies.items()}
        self.gains = nn.ParameterDict({p.name: normal(s, generator, INITIAL) for p, s in sizes.items()})
        self.element = nn.ParameterDict({p.name: normal((n_elements, s[2]), generator) for p, s in sizes.items()})

    def describe(self, draft: Draft, atoms: Atoms) -> list[FeatureValues]:
        value = self.value(draft, atoms)
        functions = powers(draft, value, self.row.scale, 0)
        packed = {part: self._packed(draft, value, part) for part in self.messages}
        skipped = 0 if self.start else 1
        places: list[FeatureValues] = []
        for place in atoms.places:
            weight = place - skipped
            parts = self.messages if weight >= 0 else ()
            places.append({part: self._part(draft, atoms, part, packed[part], functions, weight) for part in parts})
        return places

    def _packed(self, draft: Draft, value: Value, part: Part) -> Value:
        """The components of a part, ordered (m, copy)."""
        matrix = tuple(map(tuple, self.maps[part].tolist()))
        (packed,) = draft.run(linear_plan(matrix), [value], str(value.rows))
        return packed

    def _part(self, draft: Draft, atoms: Atoms, part: Part, packed: Value, functions: Value, place: int) -> Value:
        copies, of_structures = self.copies[part], self.row.scope == "structure"
        _, n_in, n_out = self.gains[part.name].shape
        gain = draft.mix(functions, draft.weight(f"gains.{part.name}", (n_in, n_out), place), N_POWERS**-0.5, copies)
        by_element = draft.weight(f"element.{part.name}", (atoms.n_elements, copies, n_out // copies))
        indices = {"element": atoms.element(draft)}
        if of_structures:
            indices["structure"] = atoms.structure(draft)
        plan = tensor_plan(part.size, copies, of_structures)
        (value,) = draft.run(plan, [packed, gain, by_element], atoms.rows, indices)
        return value


class ExchangeEmbedding(Embedding):
    """See :class:`carten.model.conditions.Exchange`."""

    exchanged = True

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        self.perceptron = Perceptron(N_POWERS, config.n_channels, generator)
        self.invariants = Invariants(config, n_elements, generator)

    def describe(self, draft: Draft, atoms: Atoms) -> list[FeatureValues]:
        hidden = describe(self, "perceptron", draft, powers(draft, self.value(draft, atoms), self.row.scale, 1))
        places: list[FeatureValues] = describe(self, "invariants", draft, hidden, atoms)
        return places

    def describe_moments(self, draft: Draft, atoms: Atoms) -> list[Value]:
        size = 3**self.row.rank
        matrix = tuple(tuple(float(a == b) / self.row.scale for b in range(size)) for a in range(size))
        return list(draft.run(linear_plan(matrix), [self.value(draft, atoms)], atoms.rows))


def build_embedding(row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> Embedding:
    """The embedding that a row asks for."""
    match row.embed:
        case Scalar():
            return ScalarEmbedding(row, config, n_elements, generator)
        case Category():
            return CategoryEmbedding(row, config, n_elements, generator)
        case conditions.Tensor():
            return TensorEmbedding(row, config, n_elements, generator)
        case Exchange():
            return ExchangeEmbedding(row, config, n_elements, generator)
        case Coupled():
            raise ModelError(f"the network is not told the input {row.name!r}, which terms couple to")
