"""Linear maps of channels: matrix products of all components of all rows."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from carten.ops.index import Index

FEW_KINDS = 8
"""Up to so many kinds, a GPU multiplies by the matrices of all of them."""


def mix(x: Tensor, weight: Tensor, scale: float) -> Tensor:
    """``scale x W`` of every component: (rows, size, n_in), (n_in, n_out) to (rows, size, n_out).

    Input of paths and channels, (rows, size * paths, n_in / paths), is taken as it lies in memory.
    """
    mixed: Tensor = _components(x, len(weight)) @ (weight * scale)
    return mixed


def mix_by_kind(x: Tensor, weight: Tensor, scale: float, kinds: Index) -> Tensor:
    """As :func:`mix`, with weights (kinds, n_in, n_out) by the kind of a row."""
    weight = weight * scale
    x = _components(x, weight.shape[1])
    if x.is_cuda and len(weight) <= FEW_KINDS:  # no look at the kinds from the host
        chosen = nn.functional.one_hot(kinds.values, len(weight)).to(x)
        apart = chosen.view(len(x), 1, -1, 1) * x.unsqueeze(2)
        return apart.flatten(2) @ weight.flatten(0, 1)
    if kinds.order is not None:
        x = x.index_select(0, kinds.order)
    chunks = torch.split(x, kinds.counts)
    mixed = [chunk @ weight[kind] for kind, chunk in enumerate(chunks) if len(chunk)]
    if not mixed:
        return x @ weight[0]
    joined = torch.cat(mixed)
    return joined if kinds.inverse is None else joined.index_select(0, kinds.inverse)


def _components(x: Tensor, n_in: int) -> Tensor:
    return x if x.dim() == 3 and x.shape[2] == n_in else x.reshape(len(x), prod(x.shape[1:]) // n_in, n_in)
