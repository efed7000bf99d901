"""TensorNet (torchmd-net) with the settings of its published examples, apart from the size.

It finds its neighbours in every evaluation, which is part of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torchmdnet.models.model import create_model

from benchmarks.peers.codes.common import as_array, seed, training_step
from benchmarks.peers.settings import Array, Infer, Job, Settings, Train

MOST_NEIGHBOURS = 128


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).eval().requires_grad_(False)
    numbers, positions, structure, box = _tensors([atoms])

    def run() -> tuple[float, Array]:
        energy, forces = model(numbers, positions.clone(), structure, box=box)
        return float(energy.detach()), as_array(forces)

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    model = _model(job.settings).train()
    numbers, positions, structure, box = _tensors(frames)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        energy, forces = model(numbers, positions.clone(), structure, box=box)
        return energy, forces

    return training_step(model.parameters(), predict, frames)


def _model(size: Settings) -> Any:
    seed()
    return create_model({
        "model": "tensornet",
        "precision": 32,
        "embedding_dimension": size.channels,
        "num_layers": size.layers,
        "num_rbf": 32,
        "rbf_type": "expnorm",
        "trainable_rbf": False,
        "activation": "silu",
        "cutoff_lower": 0.0,
        "cutoff_upper": size.cutoff,
        "max_z": 100,
        "max_num_neighbors": MOST_NEIGHBOURS,
        "equivariance_invariance_group": "O(3)",
        "derivative": True,
        "atom_filter": -1,
        "prior_model": None,
        "output_model": "Scalar",
        "reduce_op": "add",
    })  # fmt: skip


def _tensors(frames: Sequence[Atoms]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Numbers, positions, structure of each atom, and the cell (one for all frames) if they are periodic."""
    numbers = torch.tensor(np.concatenate([frame.numbers for frame in frames]))
    positions = torch.tensor(np.concatenate([frame.positions for frame in frames]), dtype=torch.float32)
    structure = torch.repeat_interleave(torch.arange(len(frames)), torch.tensor([len(frame) for frame in frames]))
    box = torch.tensor(frames[0].cell.array, dtype=torch.float32) if frames[0].pbc.all() else None
    return numbers, positions, structure, box
