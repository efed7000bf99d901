"""Embeddings of conditions: fields, charges, moments, levels of theory become features of the atoms.

Every embedding adds to the features at several places: to the initial features of the atoms, and to the messages of
each layer before they enter the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.math.radial import chebyshev
from carten.math.symmetry import decompose
from carten.model import conditions
from carten.model.conditions import Category, Coupled, Exchange, Input, Scalar
from carten.model.config import NetworkConfig
from carten.model.interaction import SILU_GAIN
from carten.model.parameters import Features, normal
from carten.ops.space import SCALAR, Part

N_FUNCTIONS = 8
"""Functions of a number."""
N_POWERS = 4
"""Functions of a magnitude."""
INITIAL = 0.1
"""Size of what conditions add at first: products multiply it many times over."""


@dataclass(frozen=True)
class Conditions:
    """What the inputs add for N atoms.

    Args:
        places: features added to the initial features, then to the messages of each layer.
        moments: (N, 3^r) moments, in units of their scale, see :mod:`carten.model.exchange`.
    """

    places: Sequence[Features]
    moments: Sequence[Tensor] = ()


def add(features: Features, more: Features) -> Features:
    """Sum of features; parts that only one of them has are kept."""
    return {**features, **{part: features[part] + x if part in features else x for part, x in more.items()}}


def bounded(value: Tensor) -> Tensor:
    """Chebyshev polynomials of degree 1 to 8 of ``value / sqrt(1 + value^2)``: (...) -> (..., 8), analytic."""
    inside = value * torch.rsqrt(1 + value.square())
    return chebyshev(inside + 1, N_FUNCTIONS + 1, 2.0)[..., 1:]


def powers(square: Tensor, first: int) -> Tensor:
    """``(x / (1 + x))^k`` of a squared magnitude x, k = first .. first + 3: (...) -> (..., 4), analytic at 0."""
    inside = square / (1 + square)
    return torch.stack([inside**k for k in range(first, first + N_POWERS)], dim=-1)


class Perceptron(nn.Module):
    """One hidden layer without biases, zero at zero: (rows, n_in) -> (rows, n_out)."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = normal((n_in, n_out), generator)
        self.second = normal((n_out, n_out), generator)

    def forward(self, values: Tensor) -> Tensor:
        """Unit variance from unit variance."""
        hidden = nn.functional.silu(values @ (self.first * self.first.shape[0] ** -0.5))
        mixed: Tensor = hidden @ (self.second * SILU_GAIN * self.second.shape[0] ** -0.5)
        return nn.functional.silu(mixed)


class Invariants(nn.Module):
    """Scalars at every place from hidden values of atoms, with a gain for each element."""

    def __init__(self, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__()
        n = config.n_channels
        self.weight = normal((config.n_layers + 1, n, n), generator, INITIAL)
        self.element = normal((n_elements, n), generator)

    def forward(self, hidden: Tensor, element: Tensor) -> list[Features]:
        """From (N, channels)."""
        gain = 1 + self.element.index_select(0, element)
        scale = SILU_GAIN * hidden.shape[1] ** -0.5
        return [{SCALAR: ((hidden @ (weight * scale)) * gain).unsqueeze(1)} for weight in self.weight]


class Embedding(nn.Module):
    """Base of all embeddings: the parts they add to the initial features and to messages.

    Args:
        row: the input.
    """

    start: tuple[Part, ...] = (SCALAR,)
    messages: tuple[Part, ...] = (SCALAR,)
    exchanged = 0

    def __init__(self, row: Input) -> None:
        super().__init__()
        self.row = row

    def forward(self, value: Tensor, structure: Tensor, element: Tensor) -> Conditions:
        """From values (S, 3, ..) or (N, 3, ..)."""
        raise NotImplementedError

    def at_atoms(self, rows: Tensor, structure: Tensor) -> Tensor:
        """Rows of structures repeated for each of their atoms; rows of atoms as they are."""
        return rows.index_select(0, structure) if self.row.scope == "structure" else rows


class ScalarEmbedding(Embedding):
    """See :class:`carten.model.conditions.Scalar`."""

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        self.perceptron = Perceptron(N_FUNCTIONS, config.n_channels, generator)
        self.invariants = Invariants(config, n_elements, generator)

    def forward(self, value: Tensor, structure: Tensor, element: Tensor) -> Conditions:
        hidden = self.perceptron(bounded(value / self.row.scale))
        return Conditions(self.invariants(self.at_atoms(hidden, structure), element))


class CategoryEmbedding(Embedding):
    """See :class:`carten.model.conditions.Category`."""

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        n_values = len(row.embed.values) if isinstance(row.embed, Category) else 0
        self.vectors = normal((n_values, config.n_channels), generator)
        self.invariants = Invariants(config, n_elements, generator)

    def forward(self, value: Tensor, structure: Tensor, element: Tensor) -> Conditions:
        hidden = self.vectors.index_select(0, self.at_atoms(value, structure))
        return Conditions(self.invariants(hidden, element))


class TensorEmbedding(Embedding):
    """See :class:`carten.model.conditions.Tensor`: ``part_c = T_part g_c(z, |T|^2)`` for every channel c.

    Tensors of atoms also enter the initial features, so that neighbours are told of them.
    """

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        decomposition = decompose(row.indices)
        copies = {Part(l, row.parity): n for l, n in decomposition.parts}
        self.messages = tuple(copies)
        self.start = self.messages if row.scope == "atom" else ()
        for part in copies:
            basis = torch.tensor(decomposition.basis(part.l)).transpose(0, 1)
            basis = basis.reshape(part.size, copies[part], 3**row.rank)
            self.register_buffer(f"basis_{part.name}", basis, persistent=False)
        n_places = config.n_layers + len(self.start[:1])
        sizes = {part: (n_places, N_POWERS, n * config.n_channels) for part, n in copies.items()}
        self.gains = nn.ParameterDict({p.name: normal(s, generator, INITIAL) for p, s in sizes.items()})
        self.element = nn.ParameterDict({p.name: normal((n_elements, s[2]), generator) for p, s in sizes.items()})

    def forward(self, value: Tensor, structure: Tensor, element: Tensor) -> Conditions:
        scaled = value.reshape(len(value), 3**self.row.rank) / self.row.scale
        functions = powers(scaled.square().sum(1), 0) * N_POWERS**-0.5
        places: list[Features] = [{} for _ in self.gains[self.messages[0].name]]
        for part in self.messages:
            basis = self.get_buffer(f"basis_{part.name}")
            packed = self.at_atoms(torch.einsum("nx,mqx->nmq", scaled, basis), structure)
            by_element = 1 + self.element[part.name].index_select(0, element)
            for place, weight in zip(places, self.gains[part.name], strict=True):
                gain = self.at_atoms(functions @ weight, structure) * by_element
                place[part] = packed @ gain.unflatten(1, (packed.shape[2], -1))
        return Conditions(places if self.start else [{}, *places])


class ExchangeEmbedding(Embedding):
    """See :class:`carten.model.conditions.Exchange`."""

    exchanged = 1

    def __init__(self, row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> None:
        super().__init__(row)
        self.perceptron = Perceptron(N_POWERS, config.n_channels, generator)
        self.invariants = Invariants(config, n_elements, generator)

    def forward(self, value: Tensor, structure: Tensor, element: Tensor) -> Conditions:
        moments = value.reshape(len(value), 3**self.row.rank) / self.row.scale
        hidden = self.perceptron(powers(moments.square().sum(1), 1))
        return Conditions(self.invariants(hidden, element), [moments])


def build(row: Input, config: NetworkConfig, n_elements: int, generator: torch.Generator) -> Embedding:
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
