"""FlashCart with the settings of its default configuration, apart from the size."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import torch
import yaml
from ase import Atoms
from ase.data import chemical_symbols
from flashcart.data.graph import graph_from_ase
from flashcart.model.flashcart import FlashCartPotential
from flashcart.utils.torch_geometric.batch import Batch

from benchmarks.peers.codes.common import as_array, seed, training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train

KEPT = (
    "n_radial", "path_reduced_product", "nonlinearity", "gate_activation", "gate_bias", "layer_norm",
    "element_agnostic_interaction", "element_agnostic_product", "radial_mapping", "cutoff_poly_order",
    "hidden_radial", "hidden_readout",
)  # fmt: skip


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).eval().requires_grad_(False)
    graph = graph_from_ase(atoms, model.elements, job.settings.cutoff)

    def run() -> tuple[float, Array]:
        found = model.predict(graph, compute_forces=True)
        return float(found["energy"].detach()), as_array(found["forces"])

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).train()
    graphs = [graph_from_ase(frame, model.elements, job.settings.cutoff) for frame in frames]
    for graph in graphs:
        del graph.batch
    batch = Batch.from_data_list(graphs)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model.predict(batch, compute_forces=True, create_graph=True)
        return found["energy"], found["forces"]

    return training_step(model.parameters(), predict, frames)


def _model(size: Settings) -> Any:
    seed()
    defaults = yaml.safe_load(files("flashcart").joinpath("configs/default.yaml").read_text())
    return FlashCartPotential(
        elements=[chemical_symbols[z] for z in ELEMENTS],
        r_max=size.cutoff,
        n_hidden_feats=size.channels,
        l_max_hidden_feats=size.l_features,
        l_max_edge_attrs=size.l_edges,
        n_interactions=size.layers,
        correlation=size.correlation,
        avg_neighbors=NEIGHBOURS,
        **{key: defaults[key] for key in KEPT},
    ).float()
