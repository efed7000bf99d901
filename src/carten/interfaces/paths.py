"""The two ways to evaluate a model for a calculator: a compiled library, and torch. What runs is decided here."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from carten import deploy
from carten.deploy import Deployed, Evaluator, files
from carten.deploy.results import Row, result_of, value_of
from carten.errors import ConfigError, ModelError, ModelFileError
from carten.interfaces.skin import SkinList
from carten.math.arrays import Array, Floats
from carten.pretrained import located

if TYPE_CHECKING:
    import torch

    from carten.model.conditions import Input
    from carten.model.graph import Graph
    from carten.properties.potential import Potential

_COMPILED = ("auto", "cpp")
"""Back ends of which a library is one."""


class ModelPaths:
    """A snapshot of a model, evaluated by its library where that is possible, else with torch.

    Args:
        model: a file, a model, or a library.
        device: where torch evaluates; a library needs the CPU.
        dtype: precision of both.
        backend: as :func:`carten.load` takes it.
        options: skin in Å, and number of threads.

    Attributes:
        path: ``"library"`` or ``"torch"``: what ran last, or will run first.
        rows: the properties by name.
    """

    def __init__(
        self,
        model: str | Path | Potential | Deployed,
        device: torch.device | str | None,
        dtype: str | None,
        backend: str,
        options: tuple[float, int | None],
    ) -> None:
        if dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', found {dtype!r}")
        self._file = located(model) if isinstance(model, str | Path) else None
        self._device, self._dtype, self._backend = device, dtype, backend
        self._model: Potential | None = None
        self._threads = options[1]
        self._library: Deployed | None = model if isinstance(model, Deployed) else None
        if device is not None:
            _find_device(device)
        if self._file is None and self._library is None:
            self._model = _snapshot(model, device, dtype)  # type: ignore[arg-type]
        compiled = backend in _COMPILED and str(device or "cpu") == "cpu" and not self._elsewhere()
        if compiled and self._library is None:
            self._library = self._deployed()
        if self._library is None and self._file is not None and files.is_library(self._file):
            raise ConfigError(f"{self._file} is a library: it runs on the CPU, with backend='auto'")
        header = self._library.header if self._library is not None else None
        rows = header["rows"] if header is not None else _rows(self.model)
        self.rows = {row["name"]: Row(**row) for row in rows}
        self.cutoff = self._library.cutoff if self._library is not None else self.model.cutoff
        self.elements = self._library.elements if self._library is not None else self.model.elements
        self._neighbours = SkinList(self.cutoff, options[0])
        self._evaluator: Evaluator | None = None
        self._inputs: Mapping[str, Input] | None = None
        readable = self._library is not None and any(row.source for row in self.rows.values())
        self.path = "library" if readable else "torch"

    def _elsewhere(self) -> bool:
        """Whether a model that was passed lies on another device than the CPU."""
        return self._model is not None and self._model.element_of.device.type != "cpu"

    def _deployed(self) -> Deployed | None:
        """The library; None, and said where it is not by design, if the model can't be compiled."""
        try:
            if self._file is not None:
                return deploy.open_file(self._file, self._dtype)
            if self._model is None or _beyond(self._model):
                return None
            return deploy.deploy(self._model)
        except ModelFileError:
            raise
        except ModelError as error:
            if "a library cannot have" not in str(error):
                warnings.warn(f"the model is evaluated with torch, which is slower: {error}", stacklevel=4)
            return None

    @property
    def library(self) -> Deployed | None:
        """The library, if it evaluates energies."""
        return self._library if "energy" in self.rows and self.rows["energy"].source else None

    def facts(self) -> Iterator[tuple[str, str]]:
        """What the model is, line by line."""
        if self._file is not None:
            yield "file", str(self._file)
        if self.library is None:
            from carten.properties.facts import model_facts

            yield from model_facts(self.model)
        else:
            from carten.deploy.facts import library_facts

            yield from library_facts(self.library.header)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs of the model by name."""
        if self._inputs is None:
            if self._library is not None and not self._library.header["inputs"]:
                self._inputs = {}
            elif self._library is not None and self._model is None:
                from carten.properties.rows import load_input

                self._inputs = {row["name"]: load_input(row) for row in self._library.header["inputs"]}
            else:
                self._inputs = self.model.inputs
        return self._inputs

    @property
    def model(self) -> Potential:
        """The exact model.

        Raises:
            ModelError: there is only a library.
        """
        if self._model is None:
            if self._file is None or files.is_library(self._file):
                raise ModelError("a library has no derivatives beyond forces and stress: use the .carten file")
            from carten.properties.io import load

            self._model = _snapshot(load(self._file, backend=self._backend), self._device, self._dtype)
        return self._model

    @property
    def models(self) -> tuple[Potential, ...]:
        """The exact model alone."""
        return (self.model,)

    def evaluate(self, atoms: ase.Atoms, names: Sequence[str], input_values: Mapping[str, Array]) -> dict[str, Floats]:
        """Properties by name, (1, 3, ..), (N, 3, ..) or (N * N, 3, ..)."""
        values: dict[str, Floats] = {}
        compiled = [name for name in names if self._library is not None and self.rows[name].source]
        rest = [name for name in names if name not in compiled]
        if compiled and self._library is not None:
            values = self._step(self._library, atoms, compiled, input_values)
            self.path = "library"
        if rest:
            values |= self._torch(atoms, rest, input_values)
            self.path = "torch"
        return values

    def along_with(self, names: Sequence[str]) -> list[str]:
        """What comes with properties at no cost."""
        return []

    def graph(self, atoms: ase.Atoms, input_values: Mapping[str, Array], device: torch.device | str) -> Graph:
        """The structure as torch evaluates it; the neighbour list is kept while atoms move little."""
        return self._neighbours.graph(atoms, input_values, device)

    def _step(
        self, library: Deployed, atoms: ase.Atoms, names: Sequence[str], input_values: Mapping[str, Array]
    ) -> dict[str, Floats]:
        if self._evaluator is None:
            self._evaluator = library.evaluator(self._threads)
        if library.inputs:
            self._evaluator.tell({name: value for name, value in input_values.items() if name in library.inputs})
        sources = {name: self.rows[name].source for name in names}
        results_wanted = {result_of(source) for source in sources.values()}
        elements, pairs = library.rows_of(atoms.numbers), self._neighbours.pairs(atoms)
        results = self._evaluator.step(elements, atoms.positions, atoms.cell.array, pairs, tuple(results_wanted))
        volume = atoms.get_volume() if any(self.rows[name].per_volume for name in names) else np.nan
        return {name: value_of(self.rows[name], results, volume) for name, source in sources.items()}

    def _torch(self, atoms: ase.Atoms, names: Sequence[str], input_values: Mapping[str, Array]) -> dict[str, Floats]:
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            graph = self.graph(atoms, input_values, self.model.element_of.device)
            values = self.model(graph, list(names))
            return {name: value.detach().to("cpu", torch.float64).numpy() for name, value in values.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_evaluator": None}


def _snapshot(model: Potential, device: torch.device | str | None, dtype: str | None) -> Potential:
    """A copy of a model for evaluation."""
    import torch

    with torch.inference_mode(False):
        copied = copy.deepcopy(model).to(device=device, dtype=None if dtype is None else getattr(torch, dtype))
        return copied.freeze()


def _find_device(device: torch.device | str) -> None:
    """Check that a device can be used.

    Raises:
        ConfigError: it can't.
    """
    if str(device) == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device {str(device)!r} can't be used here: {str(error).splitlines()[0]}") from error


def _rows(model: Potential) -> list[dict[str, Any]]:
    from carten.deploy.bind import rows

    return rows(model)


def _beyond(model: Potential) -> list[str]:
    from carten.deploy.bind import beyond

    return beyond(model)
