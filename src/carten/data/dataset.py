"""Prepared structures, reproducible splits, and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from carten.data.labels import Frame
from carten.data.neighbours import edges
from carten.data.structures import structure_graph
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array
from carten.model.graph import Graph, batch
from carten.properties.routes import Property
from carten.text import html_table

LOOKED = 1000
"""Structures that a notebook looks at."""


@dataclass(frozen=True)
class Sample:
    """One structure as the model sees it.

    Args:
        graph: the structure, S = 1.
        targets: by property, (1, 3, ...), (N, 3, ...) or (N * N, 3, ...) float64; NaN where there is no label.
        weight: of the structure in the loss.
        index: position in the data set.
    """

    graph: Graph
    targets: Mapping[str, Tensor]
    weight: float
    index: int


@dataclass(frozen=True)
class Batch:
    """Several structures: one graph and its targets.

    Args:
        graph: S structures, N atoms.
        targets: by property, (S, 3, ...), (N, 3, ...) or (pairs, 3, ...) float64; NaN where there is no label.
        weight: (S,) float64, of each structure in the loss.
        index: (S,) int64, positions in the data set.
    """

    graph: Graph
    targets: Mapping[str, Tensor]
    weight: Tensor
    index: Tensor

    def to(self, device: torch.device | str | None = None) -> Batch:
        """Move to a device."""
        return self.map(lambda tensor: tensor.to(device=device))

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """The same with a function of every tensor."""
        return replace(
            self,
            graph=self.graph.map(function),
            targets={name: function(target) for name, target in self.targets.items()},
            weight=function(self.weight),
            index=function(self.index),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Concatenate samples into a batch; structures and atoms keep their order."""
    if not samples:
        raise DataError("a batch needs at least one structure, found none")
    return Batch(
        graph=batch([sample.graph for sample in samples]),
        targets={name: torch.cat([sample.targets[name] for sample in samples]) for name in samples[0].targets},
        weight=torch.tensor([sample.weight for sample in samples], dtype=torch.float64),
        index=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
    )


class Dataset(TorchDataset[Sample]):
    """Structures with their neighbour lists and targets, all in float64.

    Models cast edge vectors to their own precision, once these are formed: positions far from the origin lose nothing.

    Args:
        frames: the structures.
        properties: what is trained on.
        cutoff: of the neighbour lists, in Å.
        prepared: find all neighbour lists now and keep them (data that fits into memory); otherwise they are found anew
            whenever a sample is asked for, which is what workers of a ``DataLoader`` are for.
        n_atoms: (n,) numbers of atoms, where they are known.
        n_edges: (n,) numbers of edges, where they are known.

    Raises:
        DataError: a structure is impossible (see :func:`carten.data.neighbours.edges`); the message names it.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        properties: Sequence[Property],
        cutoff: float,
        prepared: bool = True,
        n_atoms: Array | None = None,
        n_edges: Array | None = None,
    ) -> None:
        self.frames = frames
        self.properties = tuple(properties)
        self.cutoff = cutoff
        self._samples = [_compact(self._sample(index)) for index in range(len(frames))] if prepared else None
        self._n_atoms, self._n_edges = n_atoms, n_edges

    def _repr_html_(self) -> str:
        rows = [("structures", f"{len(self):,}"), ("cutoff", f"{self.cutoff:g} Å")]
        if self._n_atoms is not None:
            rows.append(("atoms", f"{int(self._n_atoms.sum()):,}"))
        looked = [self.frames[index] for index in range(min(len(self), LOOKED))]
        elements = sorted({int(number) for frame in looked for number in frame.numbers})
        of = f" of the first {LOOKED:,}" if len(self) > LOOKED else ""
        rows.append((f"elements{of}", " ".join(chemical_symbols[number] for number in elements)))
        for row in self.properties:
            count = sum(row.name in frame.labels for frame in looked)
            rows.append((f"{row.name} ({row.unit})", f"{count:,}{of}"))
        return html_table(rows)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self.frames):
            raise IndexError(f"sample {index} of {len(self.frames)}")
        return _restored(self._samples[index]) if self._samples is not None else self._sample(index)

    def n_atoms(self) -> Array:
        """(n,) numbers of atoms."""
        if self._n_atoms is None:
            self._n_atoms = np.array([len(frame) for frame in self.frames], dtype=np.int64)
        return self._n_atoms

    def n_edges(self) -> Array:
        """(n,) numbers of edges; finds all neighbour lists once if they are neither prepared nor known."""
        if self._n_edges is None:
            self._n_edges = np.array([self._count(index) for index in range(len(self.frames))], dtype=np.int64)
        return self._n_edges

    def _count(self, index: int) -> int:
        if self._samples is not None:
            return self._samples[index].graph.n_edges
        frame = self.frames[index]
        return int(edges(frame.positions, frame.cell, frame.pbc, self.cutoff)[0].shape[1])

    def _sample(self, index: int) -> Sample:
        frame = self.frames[index]
        graph = structure_graph(frame, self.cutoff, frame.inputs, frame.where)
        targets = {row.name: _target(frame, row) for row in self.properties}
        return Sample(graph=graph, targets=targets, weight=frame.weight, index=index)


def _compact(sample: Sample) -> Sample:
    """The same in a third of the memory, most of which is that of edges: they are small integers."""
    graph = sample.graph
    small = bool((graph.edge_shift.abs() <= torch.iinfo(torch.int8).max).all())
    index, shift = graph.edge_index.to(torch.int32), graph.edge_shift.to(torch.int8) if small else graph.edge_shift
    return replace(sample, graph=replace(graph, edge_index=index, edge_shift=shift))


def _restored(sample: Sample) -> Sample:
    """What :func:`_compact` was made of."""
    graph = sample.graph
    index, shift = graph.edge_index.to(torch.int64), graph.edge_shift.to(torch.float64)
    return replace(sample, graph=replace(graph, edge_index=index, edge_shift=shift))


def _target(frame: Frame, row: Property) -> Tensor:
    lead = row.n_rows(len(frame))
    label = frame.labels.get(row.name)
    if label is None:
        return torch.full((lead, *row.shape), float("nan"), dtype=torch.float64)
    return torch.tensor(label.reshape(lead, *row.shape), dtype=torch.float64)


def split(n_structures: int, parts: Sequence[float | int], seed: int = 0) -> list[list[int]]:
    """Random disjoint parts of ``range(n_structures)``: first what remains (training), then one list per part.

    The same arguments give the same parts, whatever the machine; indices in a part are ascending.

    Args:
        n_structures: how many there are.
        parts: size of each part: a fraction (float, below 1) or a number of structures (int).
        seed: of the permutation.

    Raises:
        ConfigError: a part is negative, a fraction is not below 1, or nothing remains.
    """
    counts = [_count(part, n_structures) for part in parts]
    if sum(counts) >= n_structures:
        raise ConfigError(
            f"parts of {counts} structures leave none of {n_structures} for training; make validation and test smaller"
        )
    order = np.random.default_rng(seed).permutation(n_structures)
    ends = np.cumsum([0, *counts])
    chosen = [sorted(order[start:end].tolist()) for start, end in pairwise(ends)]
    return [sorted(order[ends[-1] :].tolist()), *chosen]


def _count(part: float | int, n_structures: int) -> int:
    if isinstance(part, int) and part >= 0:
        return part
    if isinstance(part, float) and 0.0 <= part < 1.0:
        return max(1, round(part * n_structures)) if part else 0
    raise ConfigError(f"a part is a number of structures (0, 1, ...) or a fraction (0.0 to below 1.0), found {part!r}")
