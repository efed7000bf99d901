"""Options shared by several commands, and the objects they become."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carten.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from carten.data.labels import Label
    from carten.model.conditions import Input
    from carten.properties.potential import Potential
    from carten.properties.routes import Property
    from carten.uncertainty import Ensemble

ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model: run/best.carten, or a name: organic.", show_default=False)
]
DataFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA...", help="Structures: extended XYZ, .traj, VASP, CIF, ..., ASE databases.", show_default=False
    ),
]
FileFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="ASE's name of the format of the structures, for files that you trust (default: recognised; only formats "
        "whose readers run no code are).",
        show_default=False,
    ),
]
LabelArguments = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="PROPERTY=KEY[:UNIT]",
        help="Name and unit of a label in the file, e.g. energy=E_dft:kcal/mol. May be repeated.",
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ... (default: a GPU if available).", show_default=False)
]
Dtype = Annotated[
    Literal["float32", "float64"] | None,
    typer.Option(help="Precision (default: the one used in training).", show_default=False),
]
Backend = Annotated[Literal["auto", "cpp", "reference", "triton"], typer.Option(help="Backend for the tensor kernels.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results to a JSON file.")]


def load_model(path: Path, device: str | None, dtype: str | None, backend: str) -> Potential:
    """Load a model onto a device in a precision.

    Raises:
        ConfigError: the device is not available.
        ModelFileError: the file is not a model.
    """
    import torch

    from carten.properties.io import load

    precision = None if dtype is None else getattr(torch, dtype)
    return load(path, dtype=precision, backend=backend).to(find_device(device))


def load_any_model(path: Path, device: str | None, dtype: str | None, backend: str) -> Potential | Ensemble:
    """Load a model, as an ensemble where it has uncertainties, see :func:`load_model`."""
    import torch

    from carten.uncertainty import has_uncertainty, load_ensemble

    if not has_uncertainty(path):
        return load_model(path, device, dtype, backend)
    precision = None if dtype is None else getattr(torch, dtype)
    return load_ensemble(path, precision, backend).to(find_device(device))


def find_device(name: str | None) -> torch.device:
    """A device by its name; by default a GPU if there is one, else the CPU.

    Raises:
        ConfigError: the device is not available.
    """
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def parse_labels(texts: Sequence[str] | None, rows: Mapping[str, Property | Input]) -> dict[str, Label]:
    """Labels by property (or input) from ``PROPERTY=KEY[:UNIT]``.

    Raises:
        ConfigError: a text does not have this form, or names no property.
    """
    from carten.data.labels import Label

    labels = {}
    for text in texts or ():
        name, separator, key_and_unit = text.partition("=")
        key, _, unit = key_and_unit.partition(":")
        if not separator or not key:
            raise ConfigError(f"--label: expected PROPERTY=KEY or PROPERTY=KEY:UNIT, found {text!r}")
        if name not in rows:
            raise ConfigError(f"--label: no property {name!r}; there are {', '.join(rows)}")
        labels[name] = Label(rows[name], key, unit or None)
    return labels


def trained_labels(
    header: Mapping[str, Any], rows: Mapping[str, Property] | Mapping[str, Input], section: str = "properties"
) -> dict[str, Label]:
    """Labels of all properties (or inputs) of a model, named as in its training data; none is required.

    Args:
        header: of the model file.
        rows: the properties or inputs by name.
        section: of the configuration, ``"properties"`` or ``"inputs"``.
    """
    from carten.data.labels import Label

    configured = header["provenance"].get("config", {}).get(section, {})
    labels = {}
    for name, row in rows.items():
        options = configured.get(name, {})
        labels[name] = Label(row, options.get("key") or name, options.get("unit"), required=False)
    return labels


def require_new(path: Path | None, overwrite: bool) -> None:
    """Check before anything is computed that a file can be written.

    Raises:
        FileExistsError: it exists and must not be replaced.
        IsADirectoryError: it is a folder.
        FileNotFoundError: its folder does not exist.
        PermissionError: its folder is not writable.
    """
    if path is None:
        return
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file to write")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already: choose another name, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder for {path.name}; create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"{path}: no permission to write there")


def parse_energies(option: str, texts: Sequence[str]) -> dict[str, float]:
    """Energies in eV by element, from ``ELEMENT=EV``.

    Raises:
        ConfigError: a text is not of this form.
    """
    energies = {}
    for text in texts:
        symbol, _, energy = text.partition("=")
        try:
            energies[symbol] = float(energy)
        except ValueError as error:
            raise ConfigError(f"{option}: expected ELEMENT=EV, for example Cu=-3.72, found {text!r}") from error
    return energies
