"""Files of models that know their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import carten
from carten.errors import ModelError, ModelFileError
from carten.properties import container, io
from carten.properties.facts import uncertainty_facts
from carten.properties.header import FORMAT, UncertaintyFacts, current
from carten.properties.members import Uncertainty
from carten.properties.peek import COMMITTEE, peeked
from carten.uncertainty.ensemble import Ensemble, require_alike

MOST_MEMBERS = 256


def model_header(path: str | Path) -> dict[str, Any]:
    """The header of a model file; of a committee, that of the first member with the number of ``members``.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or of a newer format.
    """
    if COMMITTEE not in peeked(path):
        return io.header(path)
    content = container.read(path, io.KEY, io.KIND)
    heads = _heads(path, content)
    return {**heads[0], "uncertainty": content.header["uncertainty"], "members": len(heads)}


def load_ensemble(path: str | Path, dtype: torch.dtype | None = None, backend: str = "auto") -> Ensemble:
    """Read a model that knows its errors.

    Args:
        path: a committee, a model trained with ``model.n_members`` above 1, or one with a posterior.
        dtype: of the weights; as they were saved by default.
        backend: see :func:`carten.load`.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or of a newer format.
        ModelError: the model has no uncertainty.
    """
    if COMMITTEE not in peeked(path):
        try:
            return Ensemble([io.load(path, dtype, backend)])
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
    content = container.read(path, io.KEY, io.KIND)
    heads = _heads(path, content)
    models = []
    for k, head in enumerate(heads):
        prefix = f"{k}."
        tensors = {n.removeprefix(prefix): x for n, x in content.tensors.items() if n.startswith(prefix)}
        models.append(io.restored(path, current(head, content.is_verified), tensors, dtype, backend))
    facts = UncertaintyFacts.model_validate(content.header["uncertainty"])
    try:
        return Ensemble(models, Uncertainty(facts.scales, None, facts.draws, facts.facts))
    except ModelError as error:
        raise ModelFileError(f"{path}: {error}") from error


def save_ensemble(
    path: str | Path, ensemble: Ensemble, provenances: Sequence[Mapping[str, Any]], overwrite: bool = False
) -> None:
    """Write an ensemble to one file; one that shares its network is an ordinary model file with more in it.

    Args:
        path: where; the folder must exist.
        ensemble: what to write.
        provenances: of each of the models.
        overwrite: whether an existing file may be replaced.

    Raises:
        ModelError: weights are not finite.
        ModelFileError: the file exists, or cannot be written.
    """
    if len(ensemble.models) == 1:
        io.save(path, ensemble.model, provenances[0], overwrite)
        return
    parts = [io.described(model, facts) for model, facts in zip(ensemble.models, provenances, strict=True)]
    tensors = {f"{k}.{name}": value for k, (weights, _) in enumerate(parts) for name, value in weights.items()}
    head = {
        "format": FORMAT,
        "version": carten.__version__,
        COMMITTEE: [facts for _, facts in parts],
        "uncertainty": uncertainty_facts(ensemble.uncertainty),
    }
    container.write(path, io.KEY, tensors, head, overwrite)


def provenances(path: str | Path) -> list[dict[str, Any]]:
    """How each of the models in a file was made."""
    if COMMITTEE not in peeked(path):
        return [io.header(path)["provenance"]]
    return [head["provenance"] for head in _heads(path, container.read(path, io.KEY, io.KIND))]


def join(paths: Sequence[str | Path], output: str | Path, overwrite: bool = False) -> Ensemble:
    """Several model files as one committee.

    Raises:
        ModelError: there are fewer than two, they are not alike, or two of them are the same.
        ModelFileError: a file is no model, or the output can't be written.
    """
    if not 2 <= len(paths) <= MOST_MEMBERS:
        raise ModelError(f"a committee has from 2 to {MOST_MEMBERS} models, found {len(paths)}")
    models = [io.load(path) for path in paths]
    require_alike(models, [str(path) for path in paths])
    for k, model in enumerate(models):
        for other in range(k):
            if torch.equal(model.network.embedding, models[other].network.embedding):
                raise ModelError(
                    f"{paths[other]} and {paths[k]} have the same weights: train each with a seed of its own "
                    "(carten train --seed)"
                )
    ensemble = Ensemble(models)
    save_ensemble(output, ensemble, [io.header(path)["provenance"] for path in paths], overwrite)
    return ensemble


def _heads(path: str | Path, content: container.Content) -> list[dict[str, Any]]:
    """Headers of all members.

    Raises:
        ModelFileError: they are damaged, or of a newer format.
    """
    heads, facts = content.header.get(COMMITTEE), content.header.get("uncertainty")
    if not isinstance(heads, list) or not 2 <= len(heads) <= MOST_MEMBERS or not isinstance(facts, dict):
        raise ModelFileError(f"{path} has a damaged header: restore it from a copy")
    if not all(isinstance(head, dict) for head in heads):
        raise ModelFileError(f"{path} has a damaged header: restore it from a copy")
    try:
        UncertaintyFacts.model_validate(facts)
        return [current(head, content.is_verified).as_dict() for head in heads]
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error
