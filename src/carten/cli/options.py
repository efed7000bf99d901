"""Options that several commands share, and what they turn into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carten.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from carten.data.labels import Label
    from carten.properties.potential import Potential
    from carten.properties.spec import Input, Property

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A model, e.g. run/best.carten.", show_default=False)]
DataFiles = Annotated[
    list[Path],
    typer.Argument(metavar="DATA...", help="Structures: any file ASE reads, ASE databases.", show_default=False),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="PROPERTY=KEY[:UNIT]",
        help="What a label is called in the file and its unit there, e.g. energy=E_dft:kcal/mol. Repeat for more.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; a GPU if there is one.", show_default=False)]
Dtype = Annotated[
    Literal["float32", "float64"] | None, typer.Option(help="As the model was trained by default.", show_default=False)
]
Backend = Annotated[Literal["auto", "cpp", "reference", "triton"], typer.Option(help="What runs the heavy operations.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers to a JSON file.")]


def load_model(path: Path, device: str | None, dtype: str | None, backend: str) -> Potential:
    """The model of a file, where and in the precision it is wanted.

    Raises:
        ConfigError: there is no such device.
        ModelFileError: the file is no model.
    """
    import torch

    from carten.properties.io import load

    precision = None if dtype is None else getattr(torch, dtype)
    return load(path, dtype=precision, backend=backend).to(find_device(device))


def find_device(name: str | None) -> torch.device:
    """A device by its name, the best there is without one, or a ``ConfigError``."""
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def parse_labels(given: Sequence[str] | None, rows: Mapping[str, Property | Input]) -> dict[str, Label]:
    """Labels by property (or input) from ``PROPERTY=KEY[:UNIT]``.

    Raises:
        ConfigError: one is not of this form, or names no property.
    """
    from carten.data.labels import Label

    labels = {}
    for text in given or ():
        name, separator, rest = text.partition("=")
        key, _, unit = rest.partition(":")
        if not separator or not key:
            raise ConfigError(f"--label: expected PROPERTY=KEY or PROPERTY=KEY:UNIT, found {text!r}")
        if name not in rows:
            raise ConfigError(f"--label: no property {name!r}; there are {', '.join(rows)}")
        labels[name] = Label(rows[name], key, unit or None)
    return labels


def trained_labels(
    header: Mapping[str, Any], rows: Mapping[str, Property] | Mapping[str, Input], section: str = "properties"
) -> dict[str, Label]:
    """Labels of all properties (or inputs) of a model, called as in its training data; none is required.

    Args:
        header: of the model file.
        rows: the properties or inputs by name.
        section: of the configuration, ``"properties"`` or ``"inputs"``.
    """
    from carten.data.labels import Label

    configured = header["provenance"].get("config", {}).get(section, {})
    labels = {}
    for name, row in rows.items():
        given = configured.get(name, {})
        labels[name] = Label(row, given.get("key") or name, given.get("unit"), required=False)
    return labels


def require_new(path: Path | None, overwrite: bool) -> None:
    """Check before anything is computed that a file can be written.

    Raises:
        FileExistsError: it is there and not to be replaced.
        FileNotFoundError: its folder is not there.
    """
    if path is None:
        return
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already: choose another name, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder for {path.name}; make it first")
