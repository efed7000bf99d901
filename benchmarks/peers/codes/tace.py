"""TACE 0.1.0, the Cartesian code of the paper, with the defaults of its model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms
from tace.dataset.element import TorchElement
from tace.dataset.graph import from_atoms
from tace.dataset.quantity import KEYS, KeySpecification, update_keyspec_from_kwargs
from tace.models.v1 import default
from tace.models.v1.tace import TACEV1
from tace.models.v1.wrapper import WrapModelV1
from torch_geometric.data import Batch

from benchmarks.peers.codes.common import as_array, seed, training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train

WANTED = ["energy", "forces"]


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).eval().requires_grad_(False)
    batch = _batch([atoms], job.settings)

    def run() -> tuple[float, Array]:
        found = model(dict(batch))
        return float(found["energy"].detach()), as_array(found["forces"])

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).train()
    batch = _batch(frames, job.settings)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(dict(batch))
        return found["energy"], found["forces"]

    return training_step(model.parameters(), predict, frames)


def _model(size: Settings) -> Any:
    seed()
    statistics: dict[str, Any] = {
        "atomic_numbers": list(ELEMENTS),
        "avg_num_neighbors": NEIGHBOURS,
        "atomic_energy": dict.fromkeys(ELEMENTS, 0.0),
    }
    sections = {
        name.lower(): copy.deepcopy(getattr(default, name))
        for name in ("RADIAL_BASIS", "RADIAL_MLP", "ANGULAR_BASIS", "INTER", "PROD", "READOUT_EMLP", "LONG_RANGE")
    }
    sections["prod"]["correlation"] = size.correlation
    network = TACEV1(
        cutoff=size.cutoff,
        statistics=[statistics],
        lmax=size.l_edges,
        Lmax=size.l_features,
        num_layers=size.layers,
        num_channel=size.channels,
        num_channel_hidden=size.channels,
        target_property=WANTED,
        scale_shift={**default.SCALE_SHIFT, "scale_type": None, "shift_type": None},
        short_range=copy.deepcopy(default.SHORT_RANGE),
        conservation=copy.deepcopy(default.CONSERVATION),
        universal_embedding={},
        **sections,
    )
    return WrapModelV1(network).float()


def _batch(frames: Sequence[Atoms], size: Settings) -> dict[str, torch.Tensor]:
    keys = KeySpecification()
    update_keyspec_from_kwargs(keys, KEYS)
    element = TorchElement(list(ELEMENTS))
    graphs = [
        from_atoms(
            element, frame, size.cutoff, max_neighbors=None, keyspec=keys, target_property=WANTED, training=False
        )
        for frame in frames
    ]
    found: dict[str, torch.Tensor] = Batch.from_data_list(graphs).to_dict()
    return found
