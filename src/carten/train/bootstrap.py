"""Which readout of an ensemble learns from which structure.

Each member has a random half of the structures, which stays the same through the run (bootstrap without replacement);
in every step one of those that have a structure learns from it. The network that they share learns from all.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixture(index: Tensor, members: int, seed: int, step: int) -> Tensor | None:
    """Weights of the members for each structure of a batch, (S, members): one is 1; None for a single member.

    Args:
        index: (S,) positions of the structures in the data set.
        members: number of readouts.
        seed: of the run; it chooses the halves.
        step: number of the step.
    """
    if members == 1:
        return None
    chosen = []
    for structure in index.tolist():
        half = np.random.default_rng((seed, structure)).permutation(members)[: (members + 1) // 2]
        chosen.append(int(np.random.default_rng((seed, structure, step)).choice(half)))
    return torch.nn.functional.one_hot(torch.tensor(chosen), members).to(index.device, torch.float64)
