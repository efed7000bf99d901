"""Model files: safetensors with a JSON header, written atomically, never a pickle."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

import carten
from carten.errors import ModelError, ModelFileError
from carten.model.config import NetworkConfig
from carten.model.product import RecursiveProduct
from carten.physics.config import load_terms
from carten.properties.potential import Potential
from carten.properties.rows import dump, load_input, load_property

FORMAT = 5
KEY = "carten"


def _name_variables(header: dict[str, Any]) -> dict[str, Any]:
    """From format 1, whose derivatives were of first order and whose models had no inputs."""
    rows = []
    for row in header["properties"]:
        routes = [{**r, "wrt": [r["wrt"]]} if r["kind"] == "Derivative" else r for r in row["routes"]]
        rows.append({**row, "routes": routes})
    return {**header, "format": 2, "properties": rows, "inputs": []}


def _list_terms(header: dict[str, Any]) -> dict[str, Any]:
    """From format 2, whose models were networks alone."""
    return {**header, "format": 3, "terms": []}


def _reweigh(header: dict[str, Any]) -> dict[str, Any]:
    """From format 3, whose products divided by roots of numbers of paths: :func:`load` rescales their weights."""
    return {**header, "format": 4, "by_roots": True}


def _exchange_by_densities(header: dict[str, Any]) -> dict[str, Any]:
    """From format 4, whose radial functions depended on the moments that neighbours exchange."""
    if exchanged := [row["name"] for row in header["inputs"] if row["embed"]["kind"] == "Exchange"]:
        raise ModelFileError(
            f"a model of format 4 exchanges {exchanged[0]} in a way that is no longer evaluated: train it anew"
        )
    return {**header, "format": 5}


UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _name_variables,
    2: _list_terms,
    3: _reweigh,
    4: _exchange_by_densities,
}
"""From a format version to the next: header to header."""


def save(path: str | Path, model: Potential, provenance: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write a model to one ``.carten`` file.

    Args:
        path: where; the folder must exist.
        model: its weights are stored as they are (training passes the averaged ones).
        provenance: JSON-compatible facts about how it was made.
        overwrite: whether an existing file may be replaced.

    Raises:
        ModelFileError: when the file exists, or cannot be written; an existing file then stays intact.
    """
    header = {
        "format": FORMAT,
        "version": carten.__version__,
        "network": model.config.model_dump(mode="json"),
        "elements": list(model.elements),
        "neighbours": model.neighbours,
        "properties": [dump(model.properties[name]) for name in model.requested],
        "inputs": [dump(row) for row in model.inputs.values()],
        "terms": [config.model_dump(mode="json") for config in model.term_configs],
        "units": {name: row.unit for name, row in model.properties.items()},
        "reference_energies": _reference_energies(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "provenance": dict(provenance),
    }
    write(path, model.state_dict(), {KEY: json.dumps(header)}, overwrite)


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], overwrite: bool = False) -> None:
    """Write tensors and a header to a safetensors file: to a temporary file, flushed to disk, then renamed.

    Raises:
        ModelFileError: when the file exists, or cannot be written; an existing file then stays intact.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ModelFileError(f"{path} exists already: choose another name or remove it")
    data = serialise({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, dict(header))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error}; what was there before is unchanged") from error


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file.

    Raises:
        ModelFileError: when the file is missing, damaged, or of another kind.
    """
    if not Path(path).is_file():
        raise ModelFileError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} is damaged, cut off, or not a carten file ({error}): restore it from a copy"
        ) from error


def header(path: str | Path) -> dict[str, Any]:
    """The header of a model file, brought to the current format.

    Raises:
        ModelFileError: when the file is missing, damaged, of another kind, or of a newer format.
    """
    return _header(path, read(path)[1])


def _header(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise ModelFileError(f"{path} is a safetensors file but not a carten model: expected a header {KEY!r}")
    try:
        found: dict[str, Any] = json.loads(metadata[KEY])
        version = int(found["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} has a damaged header ({error}): restore it from a copy") from error
    if version > FORMAT:
        raise ModelFileError(
            f"{path} has format {version}, this carten ({carten.__version__}) reads up to {FORMAT}: "
            "please upgrade carten"
        )
    if version < FORMAT and version not in UPGRADES:
        raise ModelFileError(f"{path} has a damaged header: there is no format {version}; restore it from a copy")
    for older in range(version, FORMAT):
        found = UPGRADES[older](found)
    return found


@torch.inference_mode(False)
def load(path: str | Path, dtype: torch.dtype | None = None, backend: str = "auto", exact: bool = False) -> Potential:
    """Read a model for inference.

    Args:
        path: a ``.carten`` file.
        dtype: of the weights; as they were saved by default.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.
        exact: whether radial functions are always evaluated, never looked up, see :meth:`Potential.freeze`.

    Raises:
        ModelFileError: when the file is missing, damaged, of another kind, or of a newer format.
    """
    tensors, metadata = read(path)
    found = _header(path, metadata)
    try:
        model = Potential(
            NetworkConfig.model_validate(found["network"]),
            found["elements"],
            [load_property(row) for row in found["properties"]],
            found["neighbours"],
            backend=backend,
            inputs=[load_input(row) for row in found["inputs"]],
            terms=load_terms(found["terms"]),
        )
        model.to(dtype or getattr(torch, found["dtype"]))
        if found.get("by_roots"):
            tensors = _by_numbers(tensors, model)
        model.load_state_dict(tensors)
    except ModelError as error:
        raise ModelFileError(f"{path} can't be evaluated here: {error}") from error
    except ModelFileError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} does not hold the model its header describes ({error})") from error
    return model.freeze(tabulate=not exact)


def _by_numbers(tensors: Mapping[str, Tensor], model: Potential) -> dict[str, Tensor]:
    """Weights of products that divide by the number of paths, from those of products that divided by its root."""
    products = {name: module for name, module in model.named_modules() if isinstance(module, RecursiveProduct)}
    roots = {f"{name}.weight": product.scale.rsqrt() for name, product in products.items()}
    return {name: value * roots[name].to(value.dtype) if name in roots else value for name, value in tensors.items()}


def _reference_energies(model: Potential) -> dict[str, float] | dict[str, dict[str, float]]:
    """Energies of isolated atoms in eV by atomic number, for people who read the header; by level if there are some."""
    if "energies" not in model.heads:
        return {}
    values = model.heads["energies"].get_buffer("reference")[:, 0].view(-1, len(model.elements)).tolist()
    found = [{str(z): value for z, value in zip(model.elements, row, strict=True)} for row in values]
    return found[0] if model.levels is None else dict(zip(map(str, model.levels.values), found, strict=True))
