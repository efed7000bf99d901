"""SevenNet (sevenn), plain e3nn without FlashTP or cuEquivariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sevenn._keys as key
import torch
from ase import Atoms
from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
from sevenn.atom_graph_data import AtomGraphData
from sevenn.model_build import build_E3_equivariant_model
from sevenn.train.dataload import unlabeled_atoms_to_graph
from torch_geometric.loader.dataloader import Collater

from benchmarks.peers.codes.common import as_array, seed, training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).eval().requires_grad_(False)
    model.set_is_batch_data(False)
    graph = _graph(atoms, job.settings)

    def run() -> tuple[float, Array]:
        found = model(graph.clone())
        return float(found[key.PRED_TOTAL_ENERGY]), as_array(found[key.PRED_FORCE])

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).train()
    model.set_is_batch_data(True)
    batch = Collater([])([_graph(frame, job.settings) for frame in frames])

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(batch.clone())
        return found[key.PRED_TOTAL_ENERGY], found[key.PRED_FORCE]

    return training_step(model.parameters(), predict, frames)


def _model(size: Settings) -> Any:
    seed()
    config = {
        **DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        key.CUTOFF: size.cutoff,
        key.NODE_FEATURE_MULTIPLICITY: size.channels,
        key.LMAX: size.l_features,
        key.IS_PARITY: False,
        key.NUM_CONVOLUTION: size.layers,
        key.CONV_DENOMINATOR: NEIGHBOURS**0.5,
        key.CHEMICAL_SPECIES: list(ELEMENTS),
        key.NUM_SPECIES: len(ELEMENTS),
        key.TYPE_MAP: {z: index for index, z in enumerate(ELEMENTS)},
        key.SHIFT: 0.0,
        key.SCALE: 1.0,
    }
    return build_E3_equivariant_model(config).float()


def _graph(atoms: Atoms, size: Settings) -> Any:
    graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, size.cutoff))
    return graph.to(torch.device("cpu"))
