"""What is measured: the size of a model, and one job of a worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Task = Literal["infer", "train"]
Infer = Callable[[], tuple[float, Array]]
"""One evaluation: energy in eV and forces in eV/Å."""
Train = Callable[[], float]
"""One optimiser step; the loss."""

ELEMENTS = (1, 6, 7, 8)
NEIGHBOURS = 16.5
"""Average number of neighbours that normalises sums over edges; its value does not matter for time."""


@dataclass(frozen=True)
class Settings:
    """Size of a model, in the words of the papers of TACE and MACE.

    Args:
        channels: per rank.
        l_features: largest rank of the features that are passed between layers (L).
        l_edges: largest rank of the harmonics of the edges and of the products (l_max).
        correlation: order of the products (ν).
        layers: number of interactions.
        cutoff: in Å.
    """

    channels: int = 64
    l_features: int = 2
    l_edges: int = 3
    correlation: int = 3
    layers: int = 2
    cutoff: float = 5.0


@dataclass(frozen=True)
class Job:
    """What one worker does: one code, one task, one structure file.

    Args:
        code: a module of :mod:`benchmarks.peers.codes`.
        variant: which of its variants (``"eager"``, ``"compiled"``, ...).
        distribution: its name on PyPI.
        task: ``"infer"``, or ``"train"`` on all frames of the file as one batch.
        structures: an extended xyz file.
        settings: of the model.
        threads: number of threads.
        cache: a folder for what is compiled once.
    """

    code: str
    variant: str
    distribution: str
    task: Task
    structures: str
    settings: Settings
    threads: int
    cache: str

    def dump(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        """From :meth:`dump`."""
        found: dict[str, Any] = json.loads(text)
        return cls(**{**found, "settings": Settings(**found["settings"])})

    @property
    def name(self) -> str:
        """Of the model and what is done with it, whatever the structure."""
        size = self.settings
        model = f"{size.channels}-{size.l_features}-{size.l_edges}-{size.correlation}-{size.layers}-{size.cutoff:g}"
        return "-".join(part for part in (self.code, self.variant, self.task, model, str(self.threads)) if part)

    @property
    def compiled(self) -> Path:
        """The folder for whatever this model is compiled to."""
        return Path(self.cache) / "compiled" / self.name

    def artefact(self, name: str) -> Path:
        """A file in :attr:`compiled`, which exists."""
        self.compiled.mkdir(parents=True, exist_ok=True)
        return self.compiled / name
