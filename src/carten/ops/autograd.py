"""What torch does around an operator, asked through functions that torch does not document: all of them are here.

``tests/ops/test_autograd.py`` shows that they answer as they did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def is_transformed(gradients: Iterable[Tensor] = ()) -> bool:
    """Whether a transform of ``torch.func`` is active, or a gradient is a batch of ``is_grads_batched``."""
    active = torch._C._are_functorch_transforms_active()
    return bool(active) or any(torch._C._functorch.is_legacy_batchedtensor(gradient) for gradient in gradients)


def is_needed(node: Any) -> bool:
    """Whether the backward pass that runs goes through a node: forces need no gradients of weights."""
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf that the pass ends at
        return True
