"""The same model with another number of members: readouts are linear in the weights in which members differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from carten.properties.potential import Potential

SPREAD = 0.1
"""Of the weights of new members, relative to the root mean square of those that they begin with."""


def averaged(model: Potential) -> Potential:
    """A model with one readout of each property, which is the mean of all members; another model stays as it is."""
    return with_members(model, 1)


@torch.inference_mode(False)
def with_members(model: Potential, members: int, seed: int = 0) -> Potential:
    """A model that predicts as this one, with so many readouts of each property; itself, if that is what it has.

    Of an ensemble with another number of members it takes the mean. Weights of several members are those of the mean
    and normal deviations of :data:`SPREAD`, whose mean is zero.

    Args:
        model: plain, or an ensemble of readouts.
        members: number of readouts.
        seed: of the deviations.
    """
    design = model.design
    if design.config.n_members == members:
        return model
    other = Potential(
        design.config.model_copy(update={"n_members": members}),
        design.elements,
        [design.properties[name] for name in design.requested],
        design.neighbours,
        backend=model.network.backend,
        inputs=list(design.inputs.values()),
        terms=design.terms,
    )
    other.design = replace(other.design, pulls_ions=design.pulls_ions)
    other.to(model.element_of.device, model.dtype)
    generator, expected = torch.Generator().manual_seed(seed), other.state_dict()
    weights = {
        name: value
        if value.shape == expected[name].shape
        else _spread(_mean(value, design.config.n_members), members, generator)
        for name, value in model.state_dict().items()
    }
    other.load_state_dict(weights)
    for name, constant in other.named_buffers():  # those that files leave out, as rounded as the model's
        if constant.shape == model.get_buffer(name).shape:
            constant.copy_(model.get_buffer(name))
    return other.train(model.training).requires_grad_(model.network.embedding.requires_grad)


def _mean(value: Tensor, members: int) -> Tensor:
    return value.view(*value.shape[:-1], members, -1).mean(dim=-2)


def _spread(value: Tensor, members: int, generator: torch.Generator) -> Tensor:
    if members == 1:
        return value
    noise = torch.randn(*value.shape[:-1], members, value.shape[-1], generator=generator, dtype=torch.float64)
    noise -= noise.mean(dim=-2, keepdim=True)
    size = SPREAD * value.square().mean().sqrt()
    return (value.unsqueeze(-2) + size * noise.to(value)).flatten(-2)
