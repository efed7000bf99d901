"""Model files: safetensors with a JSON header and a checksum, written atomically, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError, ModelFileError
from carten.model.product import RecursiveProduct
from carten.properties import container
from carten.properties.container import parts as read
from carten.properties.facts import header_facts
from carten.properties.header import FORMAT, Header, checked, current
from carten.properties.members import Uncertainty
from carten.properties.peek import KEY
from carten.properties.potential import Potential

__all__ = ["FORMAT", "KEY", "has_checksum", "header", "load", "read", "save"]

KIND = "a carten model"
COVARIANCE = "uncertainty.covariance"


def save(path: str | Path, model: Potential, provenance: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write a model to one ``.carten`` file.

    Args:
        path: where; the folder must exist.
        model: its weights are stored as they are (training passes the averaged ones).
        provenance: JSON-compatible facts about how it was made.
        overwrite: whether an existing file may be replaced.

    Raises:
        ModelError: weights are not finite.
        ModelFileError: when the file exists, or cannot be written; an existing file then stays intact.
    """
    tensors, header = described(model, provenance)
    container.write(path, KEY, tensors, header, overwrite)


def described(model: Potential, provenance: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that holds a model.

    Raises:
        ModelError: weights are not finite.
    """
    tensors = model.state_dict()
    if model.uncertainty is not None and model.uncertainty.covariance is not None:
        tensors[COVARIANCE] = model.uncertainty.covariance
    if name := _not_finite(tensors):
        raise ModelError(f"{name} has values that are not finite: the model is not worth keeping")
    header = header_facts(model, provenance)
    checked(header)
    return tensors, header


def header(path: str | Path) -> dict[str, Any]:
    """The header of a model file, brought to the current format.

    Raises:
        ModelFileError: when the file is missing, damaged, of another kind, or of a newer format.
    """
    return _read(path)[0].as_dict()


def has_checksum(path: str | Path) -> bool:
    """Whether a model file carries a checksum, by which damage is noticed: files of formats before 6 have none.

    Raises:
        ModelFileError: when the file is missing, damaged, or of another kind.
    """
    return container.read(path, KEY, KIND).is_verified is not None


def _read(path: str | Path) -> tuple[Header, dict[str, Tensor]]:
    content = container.read(path, KEY, KIND)
    try:
        return current(content.header, content.is_verified), content.tensors
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


@torch.inference_mode(False)
def load(path: str | Path, dtype: torch.dtype | None = None, backend: str = "auto") -> Potential:
    """Read a model.

    It evaluates plan by plan what its weights are at the time; :func:`carten.deploy.deploy` makes a compiled library of
    it, which the calculator runs.

    Args:
        path: a ``.carten`` file.
        dtype: of the weights; as they were saved by default.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.

    Raises:
        ModelFileError: when the file is missing, damaged, of another kind, or of a newer format.
    """
    return restored(path, *_read(path), dtype, backend)


def restored(
    path: str | Path, described: Header, tensors: Mapping[str, Tensor], dtype: torch.dtype | None, backend: str
) -> Potential:
    """The model that a header and tensors of a file describe.

    Raises:
        ModelFileError: they describe none.
    """
    weights = {name: value for name, value in tensors.items() if name != COVARIANCE}
    try:
        model = _built(described, weights, backend)
        if described.by_roots:
            weights = _by_numbers(weights, model)
        _require_fitting(weights, model, getattr(torch, described.dtype))
        model.uncertainty = _uncertainty(described, tensors.get(COVARIANCE), model)
    except (ModelError, ModelFileError) as error:
        raise ModelFileError(
            f"{path} does not hold the model its header describes, or one that can't be evaluated here: {error}"
        ) from error
    model.to(dtype or getattr(torch, described.dtype))
    model.load_state_dict(weights)
    model.provenance = described.as_dict()["provenance"]
    return model.freeze()


def _uncertainty(described: Header, covariance: Tensor | None, model: Potential) -> Uncertainty | None:
    """What the file says of the errors of the model.

    Raises:
        ModelFileError: the covariance is not that of the last layer.
    """
    facts = described.uncertainty
    if facts is None:
        if covariance is not None:
            raise ModelFileError(f"{COVARIANCE} that it has no use for")
        return None
    if covariance is not None:
        n = last_layer_size(model)
        if covariance.shape != (n, n) or covariance.dtype != torch.float64 or not torch.isfinite(covariance).all():
            raise ModelFileError(f"{COVARIANCE}: expected {n} x {n} finite numbers in float64")
    return Uncertainty(facts.scales, covariance, facts.draws, facts.facts)


def last_layer_size(model: Potential) -> int:
    """Number of features that the energies are linear in."""
    config = model.config
    return (config.n_layers - 1) * config.n_channels + config.n_readout_channels


def _built(header: Header, weights: Mapping[str, Tensor], backend: str) -> Potential:
    """The model that a header describes, before it gets its weights.

    Raises:
        ModelFileError: it is too large for the weights.
        ModelError: it is none.
    """
    network = header.network
    numbers = sum(value.numel() for value in weights.values())
    layers = (network.radial.n_basis, *network.radial.hidden)
    largest = [network.n_layers * network.n_channels**2, network.n_readout_channels * network.n_channels]
    largest += [first * second for first, second in pairwise(layers)]
    if max(largest) > numbers:
        raise ModelFileError(f"the network has more weights than the {numbers} numbers in the file")
    model = Potential(
        network,
        header.elements,
        header.properties,
        header.neighbours,
        backend=backend,
        inputs=header.inputs,
        terms=header.terms,
    )
    model.design = replace(model.design, pulls_ions=header.pulls_ions)
    return model


def _require_fitting(weights: Mapping[str, Tensor], model: Potential, dtype: torch.dtype) -> None:
    """Check names, shapes, types and values.

    Raises:
        ModelFileError: one is not as the model expects.
    """
    expected = model.state_dict()
    if missing := expected.keys() - weights.keys():
        raise ModelFileError(f"no weights {min(missing)}")
    for name, value in weights.items():
        if name not in expected:
            raise ModelFileError(f"weights {name} that it has no use for")
        if value.shape != expected[name].shape:
            raise ModelFileError(f"{name} has the shape {tuple(value.shape)}, not {tuple(expected[name].shape)}")
        allowed = {dtype, torch.float64} if expected[name].is_floating_point() else {expected[name].dtype}
        if value.dtype not in allowed:
            raise ModelFileError(f"{name} is of type {value.dtype}, not {', '.join(sorted(map(str, allowed)))}")
    if name := _not_finite(weights):
        raise ModelFileError(f"{name} has values that are not finite")


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """The first tensor that has a value that is not finite, or ``""``."""
    return next((name for name, value in weights.items() if not torch.isfinite(value).all()), "")


def _by_numbers(tensors: Mapping[str, Tensor], model: Potential) -> dict[str, Tensor]:
    """Weights of products that divide by the number of paths, from those of products that divided by its root."""
    products = {name: module for name, module in model.named_modules() if isinstance(module, RecursiveProduct)}
    roots = {f"{name}.weight": product.scale.rsqrt() for name, product in products.items()}
    return {name: value * roots[name].to(value.dtype) if name in roots else value for name, value in tensors.items()}
