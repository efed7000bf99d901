"""MACE (mace-torch), plain torch without cuEquivariance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

from benchmarks.peers.codes.common import as_array, seed, training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    network = model(job.settings).eval().requires_grad_(False)
    batch = inputs([atoms], job.settings)

    def run() -> tuple[float, Array]:
        found = forward(network, batch)
        return float(found["energy"].detach()), as_array(found["forces"])

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    network = model(job.settings).train()
    batch = inputs(frames, job.settings)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = network(dict(batch), training=True, compute_force=True)
        return found["energy"], found["forces"]

    return training_step(network.parameters(), predict, frames)


def model(size: Settings) -> torch.nn.Module:
    """ScaleShiftMACE with the blocks that ``mace_run_train`` chooses."""
    from e3nn import o3  # after mace, which lets the tables of e3nn 0.4 be read

    seed()
    hidden = o3.Irreps([(size.channels, (l, (-1) ** l)) for l in range(size.l_features + 1)])
    network: torch.nn.Module = modules.ScaleShiftMACE(
        r_max=size.cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=size.l_edges,
        interaction_cls=modules.RealAgnosticResidualInteractionBlock,
        interaction_cls_first=modules.RealAgnosticResidualInteractionBlock,
        num_interactions=size.layers,
        num_elements=len(ELEMENTS),
        hidden_irreps=hidden,
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=NEIGHBOURS,
        atomic_numbers=list(ELEMENTS),
        correlation=size.correlation,
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return network.float()


def forward(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Energy and forces."""
    found: dict[str, torch.Tensor] = network(dict(batch), compute_force=True)
    return found


def inputs(frames: Sequence[Atoms], size: Settings) -> dict[str, torch.Tensor]:
    """Structures as MACE takes them."""
    table = AtomicNumberTable(list(ELEMENTS))
    keys = data.KeySpecification()
    graphs = [
        data.AtomicData.from_config(data.config_from_atoms(frame, keys), z_table=table, cutoff=size.cutoff)
        for frame in frames
    ]
    found: dict[str, torch.Tensor] = torch_geometric.Batch.from_data_list(graphs).to_dict()
    return found
