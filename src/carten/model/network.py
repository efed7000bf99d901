"""The network: embedding, layers of interaction and product, tensor features of every atom after each layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.model import product
from carten.model.compiled import Compiled, Grid
from carten.model.config import NetworkConfig
from carten.model.edges import Edges, describe
from carten.model.embeddings import Conditions, add
from carten.model.exchange import Exchange
from carten.model.inputs import Inputs
from carten.model.interaction import Interaction
from carten.model.kinds import Kinds
from carten.model.parameters import ElementLinear, Features, Linear, channels, normal
from carten.model.tables import tabulate
from carten.model.versions import Versions
from carten.ops import linear
from carten.ops.index import Index
from carten.ops.library import choose
from carten.ops.record import recording
from carten.ops.space import SCALAR, Space


class Layer(nn.Module):
    """``h' = Linear(product(interaction(h))) + Linear_z(h)``.

    ``space`` are the parts of the target that the products make or the features have. Inputs are added to what the
    interaction gives.
    """

    def __init__(
        self,
        config: NetworkConfig,
        features: Space,
        target: Space,
        n_elements: int,
        neighbours: float,
        generator: torch.Generator,
        inputs: Inputs | None = None,
    ) -> None:
        super().__init__()
        n = config.n_channels
        self.elements = config.product.elements
        self.interaction = Interaction(config, features, n_elements, neighbours, generator)
        factors = self.interaction.target
        if inputs is not None:
            factors = Space.of((*factors.parts, *inputs.messages.parts))
        kinds = n_elements if self.elements else 1
        made = product.reachable(config, factors, target)
        self.product = product.build(config, factors, made, kinds, generator)
        self.out = Linear(channels(made, n), n, generator)
        kept = Space(tuple(part for part in target.parts if part in features))
        self.residual = ElementLinear(channels(kept, n), n, n_elements, generator)
        self.space = Space(tuple(part for part in target.parts if part in made or part in kept))
        n_exchanged = inputs.n_exchanged if inputs is not None else 0
        self.exchanges = nn.ModuleList(Exchange(config, n_elements, neighbours, generator) for _ in range(n_exchanged))

    def forward(
        self, features: Features, edges: Edges, told: Features | None = None, moments: Sequence[Tensor] = ()
    ) -> Features:
        """Features of the next layer; ``told`` is what inputs add, ``moments`` are those that atoms exchange."""
        kinds = edges.kinds if self.elements else edges.kinds.one
        message = self.interaction(features, edges)
        if told:
            message = add(message, told)
        for exchange, own in zip(self.exchanges, moments, strict=True):
            message = add(message, exchange(features, own, edges))
        result: Features = self.out(self.product(message, kinds, edges.backend))
        for part, value in self.residual(features, edges.kinds).items():
            result[part] = linear.add(result[part], value) if part in result else value
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
        inputs: embeddings of what the network is told besides the atoms.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_elements: int,
        target: Space,
        neighbours: float,
        generator: torch.Generator,
        backend: str = "auto",
        inputs: Inputs | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.inputs = inputs
        self.embedding = normal((n_elements, config.n_channels), generator)
        hidden = Space.up_to(config.l_max_features, config.odd_products)
        self.layers = nn.ModuleList()
        self.n_intervals = 0
        self.n_trained_intervals = 0
        self._call: Compiled | None = None
        self._versions: Versions | None = None
        self.spaces: list[Space] = []
        for wanted in [*[hidden] * (config.n_layers - 1), target]:
            first = inputs.start if inputs is not None else Space((SCALAR,))
            features = self.spaces[-1] if self.spaces else first
            layer = Layer(config, features, wanted, n_elements, neighbours, generator, inputs)
            self.layers.append(layer)
            self.spaces.append(layer.space)

    @property
    def tabulable(self) -> bool:
        """Whether the radial networks depend on nothing but the length of an edge."""
        return not self.config.radial.elements

    def tabulate(self, tolerance: float = 1e-6) -> None:
        """Tabulate the radial networks, see :func:`carten.model.tables.tabulate`; for inference.

        Where the tolerance can't be met the exact network stays in use, with a warning. Tables are made anew when
        weights have changed.
        """
        interactions = [module for module in self.modules() if isinstance(module, Interaction)]
        self._call = self._versions = None
        with torch.inference_mode(False), torch.no_grad():
            try:
                self.n_intervals = tabulate(interactions, self.config, tolerance)
            except ModelError as error:
                self.n_intervals = 0
                warnings.warn(f"radial functions are evaluated exactly, which is slower: {error}", stacklevel=2)
            else:
                self._versions = Versions(self)

    def _present_intervals(self) -> int:
        """Number of intervals of tables of the present weights; 0 where the exact network has to be used."""
        if not self.n_intervals or torch._C._are_functorch_transforms_active():
            return 0
        if self._versions is None or not self._versions.current():
            if any(weight.is_inference() or not weight.is_leaf for weight in self.parameters()):
                return 0
            self.tabulate()
        return self.n_intervals

    def _compiled(self, vectors: Tensor) -> Compiled | None:
        """All layers in one call of compiled code, where tables and fixed weights allow it."""
        if self.backend not in ("auto", "cpp") or self.config.product.kind != "recursive":
            return None
        if torch.compiler.is_compiling() or recording() or choose([vectors, self.embedding], "auto") != "cpp":
            return None
        if self._call is None:
            weights = (*self.parameters(), *self.buffers())
            grid = Grid(self.n_intervals, frozenset(size for weight in weights for size in weight.shape))
            self._call = Compiled(self._propagate, self.config, self.spaces, self.embedding, grid)
        return self._call

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        current = self._versions is not None and self._versions.current()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._call, self._versions = None, Versions(self) if current else None
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; after training tables are made anew (fused optimisers leave no trace)."""
        if mode:
            self._call = self._versions = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        current = self._versions is not None and self._versions.current()
        return {**self.__dict__, "_call": None, "_versions": current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._versions = Versions(self) if state["_versions"] else None

    def train_on_tables(self, n_intervals: int = 256) -> None:
        """In training mode, look radial functions up in tables of the present weights, made at every step.

        The work of the radial networks then does not grow with the number of edges. 256 intervals are exact to 3e-6.
        Evaluation is not concerned; nor are second derivatives in space, and networks that can't be tabulated.
        """
        self.n_trained_intervals = n_intervals if self.tabulable else 0

    def forward(
        self,
        vectors: Tensor,
        edge_index: Tensor,
        element: Tensor,
        told: Conditions | None = None,
        exact: bool = True,
        again: bool = True,
    ) -> list[Features]:
        """Features after each layer.

        Args:
            vectors: (E, 3) from centre to neighbour, Å.
            edge_index: (2, E) centre and neighbour, sorted by centre.
            element: (N,) row of each atom's element.
            told: what :attr:`inputs` add.
            exact: whether to evaluate the radial networks even where there are tables, whose second derivatives are
                rough.
            again: whether derivatives of the features will be differentiated.
        """
        n_intervals = 0 if exact else self.n_trained_intervals if self.training else self._present_intervals()
        once = told is None and n_intervals and not (again or self.training)
        if once and (compiled := self._compiled(vectors)) is not None:
            return compiled(vectors, edge_index, element)
        n_atoms = element.shape[0]
        centre, neighbour = Index(edge_index[0], n_atoms, ascending=True), Index(edge_index[1], n_atoms)
        kinds = Kinds(Index(element, self.embedding.shape[0]))
        ends = (centre, neighbour)
        edges = describe(vectors, ends, kinds, self.config, self.backend, n_intervals)
        features: Features = {SCALAR: self.embedding.index_select(0, element).unsqueeze(1)}
        if told is not None:
            features = add(features, told.places[0])
        return self._propagate(features, edges, told)

    def _propagate(self, features: Features, edges: Edges, told: Conditions | None = None) -> list[Features]:
        result = []
        for k, layer in enumerate(self.layers, start=1):
            features = layer(features, edges, *((told.places[k], told.moments) if told is not None else ()))
            result.append(features)
        return result
