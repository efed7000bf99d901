"""Derivatives that speak up: nothing that autograd does not know is answered with zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph


@contextmanager
def autograd_recording(enabled: bool = True) -> Iterator[None]:
    """Whether operations are recorded for derivatives, also within the caller's ``torch.inference_mode()``."""
    with torch.inference_mode(False), torch.set_grad_enabled(enabled):
        yield


def recordable(graph: Graph) -> Graph:
    """The graph, with copies of tensors that were made in inference mode, which autograd can't use."""
    changed = {}
    for name in (field.name for field in fields(graph) if field.name != "inputs"):
        if (value := getattr(graph, name)).is_inference():
            changed[name] = value.clone()
    if any(value.is_inference() for value in graph.inputs.values()):
        changed["inputs"] = {name: value.clone() for name, value in graph.inputs.items()}
    return replace(graph, **changed) if changed else graph


def differentiated(graph: Graph) -> bool:
    """Whether the caller will differentiate with respect to tensors of the graph."""
    tensors = (graph.positions, graph.cell, graph.edge_shift, *graph.inputs.values())
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def slopes(
    value: Tensor,
    variables: Sequence[Tensor],
    description: str,
    create: bool,
    retain: bool,
    weights: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Derivatives of the (optionally weighted) sum of values with respect to variables.

    Args:
        value: differentiated.
        variables: tensors that the values follow from.
        description: of the derivative, for errors.
        create: whether the results will be differentiated.
        retain: whether other derivatives of the same values follow.
        weights: of the values, 1 by default.

    Raises:
        ModelError: the values do not depend on a variable, or that they do was not recorded.
    """
    if not value.requires_grad:
        raise ModelError(_unknown(description))
    weights = torch.ones_like(value) if weights is None else weights
    gradients = torch.autograd.grad(
        [value], variables, [weights], create_graph=create, retain_graph=create or retain, allow_unused=True
    )
    if any(slope is None for slope in gradients):
        raise ModelError(_unknown(description))
    return gradients


def _unknown(description: str) -> str:
    return (
        f"there is no {description}: no operation that connects the two was recorded. Either the network does not "
        "couple them (increase model.correlation_order or model.n_layers), or a term or layer detaches its values, or "
        "they were computed within torch.no_grad() or torch.inference_mode()"
    )
