"""Batches on their way from a worker: as one array, since each tensor would cost a visit to its process."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from carten.data.dataset import Batch
from carten.math.arrays import Array

_ALIGNED = 8  # bytes


class Piece(NamedTuple):
    """A tensor among the bytes of others.

    Args:
        start: of its bytes.
        dtype: of its elements.
        shape: of it.
    """

    start: int
    dtype: torch.dtype
    shape: torch.Size


class PackedBatch(NamedTuple):
    """A batch as one array.

    Args:
        content: (bytes,) uint8, the bytes of all tensors.
        layout: the batch with a :class:`Piece` in place of each tensor.
    """

    content: Array
    layout: Batch

    @classmethod
    def of(cls, batch: Batch) -> PackedBatch:
        """Ready to go to another process."""
        parts: list[Tensor] = []
        end = 0

        def piece(tensor: Tensor) -> Piece:
            nonlocal end
            start, content = end, tensor.contiguous().reshape(-1).view(torch.uint8)
            padding = -len(content) % _ALIGNED
            parts.extend([content, content.new_zeros(padding)])
            end += len(content) + padding
            return Piece(start, tensor.dtype, tensor.shape)

        layout = batch.map(piece)
        return cls(torch.cat(parts).numpy(), layout)

    def unpacked(self) -> Batch:
        """The batch."""
        content = torch.from_numpy(self.content)

        def tensor(piece: Piece) -> Tensor:
            size = piece.shape.numel() * piece.dtype.itemsize
            return content[piece.start : piece.start + size].view(piece.dtype).view(piece.shape)

        return self.layout.map(tensor)
