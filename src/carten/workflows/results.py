"""What a job gives back: numbers with units, columns, structures and a picture, in Python, notebooks and files."""

from __future__ import annotations

import csv
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from matplotlib.figure import Figure

from carten.data.structures import is_crystal
from carten.data.write import as_json, replacing, write_structure
from carten.deploy import Deployed
from carten.drawing import HEIGHT, LIGHT, WIDTH, Drawing
from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array, Floats
from carten.properties.potential import Potential

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done."""
Model = str | Path | Potential | Deployed | BaseCalculator
"""A model, its file, or any calculator of ASE."""

FORCE = 0.01
"""eV/Å, above which a structure is not relaxed."""


class Quantity(NamedTuple):
    """A number, a tensor or a word, with its unit."""

    name: str
    value: Any
    unit: str = ""


class JobResult(ABC):
    """Result of a job on one structure.

    Attributes:
        job: name of the command.
        size: of the picture: height and width in inches.
    """

    job: ClassVar[str]
    size: ClassVar[tuple[float, float]] = (HEIGHT, WIDTH)

    @abstractmethod
    def quantities(self) -> list[Quantity]:
        """The numbers."""

    @abstractmethod
    def draw(self, figure: Figure) -> None:
        """Draw the picture; colours are ``"C0"``, ``"C1"``, .. and the defaults."""

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        """Tables by name: columns of equal length by name and unit, numbers or words."""
        return {}

    def structures(self) -> list[ase.Atoms]:
        """Structures of the result."""
        return []

    def warnings(self) -> list[str]:
        """What a reader of the numbers must know; the job did not fail."""
        return []

    def failures(self) -> list[str]:
        """What did not converge; the numbers are those that were reached."""
        return []

    def plot(self, path: str | Path | None = None) -> Figure:
        """The picture, also as a file: .svg, .png or .pdf.

        Raises:
            ConfigError: another suffix.
        """
        with Drawing(*self.size, palette=LIGHT) as drawing:
            self.draw(drawing.figure)
            if path is not None:
                drawing.save(Path(path))
        return drawing.figure

    def document(self) -> dict[str, Any]:
        """All numbers, ready for JSON: a value and a unit by name; NaN is null."""
        values = {name: {"value": _finite(as_json(value)), "unit": unit} for name, value, unit in self.quantities()}
        tables = {
            name: {heading: _finite(as_json(np.asarray(column))) for heading, column in columns.items()}
            for name, columns in self.tables().items()
        }
        remarks = {"warnings": self.warnings(), "failures": self.failures()}
        return {"job": self.job, "results": values, "tables": tables, **remarks}

    def save(self, folder: str | Path, name: str | None = None) -> list[Path]:
        """Write numbers (JSON), tables (CSV), structures (extended XYZ) and the picture (SVG, PNG).

        Args:
            folder: is created if it does not exist.
            name: of the files without suffix; that of the job by default.
        """
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        stem = name or self.job
        paths = [folder / f"{stem}.json"]
        with replacing(paths[0]) as file:
            json.dump(self.document(), file, indent=1, allow_nan=False, ensure_ascii=False)
        for table, columns in self.tables().items():
            paths.append(folder / f"{stem}-{table}.csv")
            with replacing(paths[-1]) as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(map(_cells, zip(*columns.values(), strict=True)))
        if structures := self.structures():
            paths.append(folder / f"{stem}.extxyz")
            with replacing(paths[-1]) as file:
                for atoms in structures:
                    write_structure(file, atoms)
        with Drawing(*self.size, palette=LIGHT) as drawing:
            self.draw(drawing.figure)
            for suffix in (".svg", ".png"):
                paths.append(folder / f"{stem}{suffix}")
                drawing.save(paths[-1])
        return paths

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and unit of each number as text; tensors of rank two have a line for each row."""
        for name, value, unit in self.quantities():
            if np.ndim(value) < 2:
                yield name, _text(value), unit
                continue
            for number, row in enumerate(np.asarray(value).reshape(-1, np.shape(value)[-1])):
                yield name if number == 0 else "", _row(row, float(np.abs(value).max())), unit if number == 0 else ""

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in self.lines())
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in (*self.failures(), *self.warnings()))
        with Drawing(*self.size, palette=LIGHT) as drawing:
            self.draw(drawing.figure)
            return f"<table>{rows}</table>{remarks}<div>{drawing.svg(self.job)}</div>"


def as_calculator(model: Model) -> BaseCalculator:
    """A calculator of ASE from a model, in float64 from its file, or the calculator itself."""
    if isinstance(model, BaseCalculator):
        return model
    return Calculator(model, dtype="float64" if isinstance(model, str | Path) else None)


def cutoff_of(calculator: BaseCalculator) -> float:
    """How far the atoms of a model see, Å; 0 for calculators that do not say it."""
    return calculator.cutoff if isinstance(calculator, Calculator) else 0.0


def require_crystal(atoms: ase.Atoms, job: str) -> None:
    """Check that a structure is periodic in three directions.

    Raises:
        DataError: it is not, or it has no atoms.
    """
    if not len(atoms):
        raise DataError(f"{job}: the structure has no atoms")
    if not is_crystal(atoms):
        raise DataError(
            f"{job} needs a crystal, periodic in three directions; {atoms.get_chemical_formula()} has the cell "
            f"{np.round(atoms.cell.cellpar(), 3).tolist()} and pbc {atoms.pbc.tolist()}: set both"
        )


def require_relaxed(force: float) -> list[str]:
    """A failure if a force in eV/Å is larger than :data:`FORCE`: second derivatives want a minimum."""
    if force <= FORCE:
        return []
    return [f"the largest force is {force:.2g} eV/Å, so the structure is not relaxed: run carten relax first"]


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.5g}"
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _row(value, float(np.abs(value).max(initial=0.0)))
    return "  ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _row(numbers: Floats, largest: float) -> str:
    """Numbers in columns, with five digits of the largest one."""
    decimals = max(0, 4 - math.floor(math.log10(largest))) if 1e-12 < largest < np.inf else 0
    return "".join(f"{round(number, decimals) + 0.0:>{decimals + 7}.{decimals}f}" for number in numbers.tolist())


def _cells(row: Sequence[Any]) -> list[str]:
    return [f"{value:.10g}" if isinstance(value, float | np.floating) else str(value) for value in row]


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
