"""carten: the compiled library that the calculator uses, and training; both look radial functions up where they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ase import Atoms

from benchmarks.peers.codes import common
from benchmarks.peers.codes.common import training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train
from carten.data.neighbours import graph
from carten.deploy.graphs import GraphEvaluator
from carten.model.config import NetworkConfig
from carten.model.graph import Graph, batch
from carten.ops.record import recorded
from carten.properties.potential import Potential
from carten.properties.spec import property_table

WANTED = ("energy", "forces")


class Inference:
    """An evaluation by the library, and one by torch whose work can be counted."""

    def __init__(self, model: Potential, system: Graph) -> None:
        self.system = system
        self._library = GraphEvaluator(model)
        self._model = model.train()
        self._model.network.choose_tables()

    def __call__(self) -> tuple[float, Array]:
        values = self._library(self.system, WANTED)
        return float(values["energy"][0]), values["forces"]

    def with_torch(self) -> None:
        """The same work."""
        self._model(self.system, WANTED)


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    return Inference(_model(job.settings, job.variant).freeze(), graph(atoms, job.settings.cutoff))


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    model = _model(job.settings, job.variant).train()
    model.network.choose_tables()
    several = batch([graph(frame, job.settings.cutoff, dtype=torch.float32) for frame in frames])

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(several, WANTED)
        return found["energy"], found["forces"]

    return training_step(model.parameters(), predict, frames)


def multiply_adds(run: Callable[[], object]) -> float:
    """Multiply-adds of torch and of plans, which are counted as their compiled code performs them."""
    counted = run.with_torch if isinstance(run, Inference) else run
    with recorded() as plans:
        by_torch = common.multiply_adds(counted)
    return by_torch + sum(plan.multiply_adds for plan in plans)


def _model(size: Settings, preset: str) -> Potential:
    config = NetworkConfig.model_validate({
        "preset": preset,
        "cutoff": size.cutoff,
        "n_layers": size.layers,
        "n_channels": size.channels,
        "correlation_order": size.correlation,
        "l_max_edges": size.l_edges,
        "l_max_features": size.l_features,
    })  # fmt: skip
    rows = [property_table()[name] for name in WANTED]
    return Potential(config, ELEMENTS, rows, NEIGHBOURS).float()
