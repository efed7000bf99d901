"""The network: embedding, layers of interaction and product, tensor features of every atom after each layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from carten.model import product
from carten.model.config import NetworkConfig
from carten.model.edges import Edges, describe
from carten.model.interaction import Interaction
from carten.model.kinds import Kinds
from carten.model.parameters import ElementLinear, Features, Linear, channels, normal
from carten.ops.index import Index
from carten.ops.space import SCALAR, Space


class Layer(nn.Module):
    """``h' = Linear(product(interaction(h))) + Linear_z(h)``.

    ``space`` are the parts of the target that the products make or the features have.
    """

    def __init__(
        self,
        config: NetworkConfig,
        features: Space,
        target: Space,
        n_elements: int,
        neighbours: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n = config.n_channels
        self.elements = config.product.elements
        self.interaction = Interaction(config, features, n_elements, neighbours, generator)
        kinds = n_elements if self.elements else 1
        made = product.reachable(config, self.interaction.target, target)
        self.product = product.build(config, self.interaction.target, made, kinds, generator)
        self.out = Linear(channels(made, n), n, generator)
        kept = Space(tuple(part for part in target.parts if part in features))
        self.residual = ElementLinear(channels(kept, n), n, n_elements, generator)
        self.space = Space(tuple(part for part in target.parts if part in made or part in kept))

    def forward(self, features: Features, edges: Edges) -> Features:
        """Features of the next layer."""
        kinds = edges.kinds if self.elements else Kinds.one(edges.kinds)
        message = self.product(self.interaction(features, edges), kinds, edges.backend)
        result: Features = self.out(message)
        for part, value in self.residual(features, edges.kinds).items():
            result[part] = result[part] + value if part in result else value
        return result


class Network(nn.Module):
    """Equivariant message passing on atoms of ``n_elements`` kinds.

    Args:
        config: hyperparameters.
        n_elements: number of elements.
        target: parts wanted after the last layer; earlier layers keep all up to ``l_max_features``. What each layer has
            is in ``spaces``: parts that no product of the layer makes are left out.
        neighbours: average number of neighbours, normalises sums over edges.
        generator: source of the initial weights.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_elements: int,
        target: Space,
        neighbours: float,
        generator: torch.Generator,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.embedding = normal((n_elements, config.n_channels), generator)
        hidden = Space.up_to(config.l_max_features, config.odd_products)
        self.layers = nn.ModuleList()
        self.spaces: list[Space] = []
        for wanted in [*[hidden] * (config.n_layers - 1), target]:
            features = self.spaces[-1] if self.spaces else Space((SCALAR,))
            layer = Layer(config, features, wanted, n_elements, neighbours, generator)
            self.layers.append(layer)
            self.spaces.append(layer.space)

    def forward(self, vectors: Tensor, edge_index: Tensor, element: Tensor) -> list[Features]:
        """Features after each layer.

        Args:
            vectors: (E, 3) from centre to neighbour, Å.
            edge_index: (2, E) centre and neighbour, sorted by centre.
            element: (N,) row of each atom's element.
        """
        n_atoms = element.shape[0]
        centre, neighbour = Index(edge_index[0], n_atoms, ascending=True), Index(edge_index[1], n_atoms)
        kinds = Kinds(Index(element, self.embedding.shape[0]))
        edges = describe(vectors, centre, neighbour, kinds, self.config, self.backend)
        features: Features = {SCALAR: self.embedding.index_select(0, element).unsqueeze(1)}
        result = []
        for layer in self.layers:
            features = layer(features, edges)
            result.append(features)
        return result
