"""What all codes share that run on torch: the loss, the optimiser and one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import iread
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.peers.settings import Job, Train

PRODUCTS = (torch.ops.aten.mul, torch.ops.aten.mul_, torch.ops.aten.addcmul, torch.ops.aten.addcmul_)
Predict = Callable[[], tuple[Tensor, Tensor]]
"""Energies (S,) in eV and forces (N, 3) in eV/Å, both with a graph."""


def training_step(parameters: Iterable[torch.nn.Parameter], predict: Predict, frames: Sequence[Atoms]) -> Train:
    """One step of AdamW on ``mean (dE / n_atoms)² + 10 mean dF²`` with made-up labels."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([len(frame) for frame in frames])
    energies = torch.zeros(len(frames))
    forces = torch.randn(int(counts.sum()), 3, generator=generator)
    optimiser = torch.optim.AdamW(list(parameters), lr=1e-4, amsgrad=True, fused=True)

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        energy, force = predict()
        loss = ((energy.reshape(-1) - energies) / counts).square().mean() + 10.0 * (force - forces).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation
        optimiser.step()
        return float(loss.detach())

    return step


def multiply_adds(run: Callable[[], object]) -> float:
    """Multiply-adds that torch does in a run, of products of matrices and of products of equal numbers of numbers."""
    products = _Products()
    with products:
        run()
    return products.multiply_adds


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation
    """Counts while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds = 0.0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = getattr(func, "_overloadpacket", None)
        if packet in flop_registry:
            self.multiply_adds += flop_registry[packet](*args, **(kwargs or {}), out_val=result) / 2
        elif packet in PRODUCTS and all(isinstance(x, Tensor) and x.numel() > 1 for x in args[:2]):
            self.multiply_adds += result.numel()
        return result


def seed() -> None:
    """Let a code that draws its weights from torch's global generator draw the same ones in every process."""
    torch.manual_seed(0)


def as_array(forces: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """As a numpy array, for the check of the worker."""
    return forces.detach().double().numpy()


def read_first(job: Job) -> Atoms:
    """The first structure of a job."""
    return next(iter(iread(job.structures)))
