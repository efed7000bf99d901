"""A deployed model: a snapshot that can't change, called through the C interface of its library. No torch in here."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carten.deploy.sealed import header_of, read_library, require_whole
from carten.errors import ModelError
from carten.math.arrays import Floats
from carten.ops.compiler import load_bytes
from carten.text import html_table

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairList:
    """Pairs of atoms, both directions of each, sorted by centre.

    Args:
        centre: (P,) the atoms whose neighbours are listed.
        neighbour: (P,) their neighbours.
        shifts: (P, 3) lattice vectors that are crossed.
    """

    centre: _Integers
    neighbour: _Integers
    shifts: npt.NDArray[np.int32]


def usual_threads() -> int:
    """Threads of an evaluation: as many as OpenMP programs take, OMP_NUM_THREADS or the cores this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # noqa: TID251  the platform's convention
    if setting.isdigit() and int(setting) > 0:
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _ReadoutInfo(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("unit", ctypes.c_char_p), ("components", ctypes.c_int32))


class _InputInfo(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("unit", ctypes.c_char_p),
        *((name, ctypes.c_int32) for name in ("per_atom", "components", "n_categories", "required")),
    )


class _Info(ctypes.Structure):
    _fields_ = (
        *(
            (n, ctypes.c_int32)
            for n in ["interface", "scalar_bytes", "n_layers", "n_elements", "n_readouts", "n_inputs", "n_deviations"]
        ),
        ("cutoff", ctypes.c_double),
        ("numbers", ctypes.POINTER(ctypes.c_int32)),
        ("readouts", ctypes.POINTER(_ReadoutInfo)),
        ("inputs", ctypes.POINTER(_InputInfo)),
        ("exchanged", ctypes.c_int64),
        ("header", ctypes.c_char_p),
    )


class Deployed:
    """A model as a compiled library. Nothing changes it; threads may share it; it is pickled by value.

    Args:
        content: of the library.
        where: what messages call it.

    Attributes:
        header: what it says about itself: elements, properties, inputs, network, provenance.
        cutoff: Å.

    Raises:
        ModelFileError: the content is damaged, no library of carten, or for another processor.
    """

    def __init__(self, content: bytes, where: str = "the library") -> None:
        require_whole(content, where)
        self._content = content
        self.header: Mapping[str, Any] = header_of(content)
        self._library = _declared(load_bytes(content))
        info = self._library.carten_describe().contents
        self.cutoff = float(info.cutoff)
        self.elements: tuple[int, ...] = tuple(info.numbers[: info.n_elements])
        self.readouts: dict[str, int] = {r.name.decode(): r.components for r in info.readouts[: info.n_readouts]}
        self.n_deviations = int(info.n_deviations)
        self._inputs: dict[str, _InputInfo] = {i.name.decode(): i for i in info.inputs[: info.n_inputs]}
        self._rows = np.full(119, -1, dtype=np.int32)
        self._rows[list(self.elements)] = np.arange(len(self.elements), dtype=np.int32)

    @classmethod
    def read(cls, path: str | Path) -> Deployed:
        """The model of a library file, see :func:`carten.deploy.sealed.read_library`."""
        return cls(read_library(path), str(path))

    @property
    def content(self) -> bytes:
        """Of the library file."""
        return self._content

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs besides the atoms."""
        return tuple(self._inputs)

    def _repr_html_(self) -> str:
        from carten.deploy.facts import library_facts

        return html_table(library_facts(self.header))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._content,)

    def __deepcopy__(self, _: Any) -> Deployed:
        return self

    def rows_of(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Positions of atomic numbers among the elements; -1 for those it does not know."""
        known = np.where((numbers >= 0) & (numbers < len(self._rows)), numbers, 0)
        return self._rows[known]

    def evaluator(self, threads: int | None = None) -> Evaluator:
        """Memory and threads (see :func:`usual_threads`) for evaluations, of one caller at a time."""
        return Evaluator(self._library, self, usual_threads() if threads is None else threads)


class Evaluator:
    """Evaluates a deployed model; belongs to one thread at a time.

    Args:
        library: of the model.
        model: the model.
        threads: that an evaluation uses.
    """

    def __init__(self, library: ctypes.CDLL, model: Deployed, threads: int) -> None:
        self.model = model
        self._library = library
        self._state = library.carten_create()
        if not self._state:
            raise MemoryError("no memory for an evaluation")
        self._require(library.carten_threads(self._state, threads))

    def __del__(self) -> None:
        if state := getattr(self, "_state", None):
            self._library.carten_destroy(state)

    def tell(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Set inputs, (1, 3, ..) or (N, 3, ..) by name; those that are not among them get their defaults back.

        Raises:
            ModelError: an input the model does not have, or values of another shape.
        """
        if unknown := set(values) - set(self.model.inputs):
            raise ModelError(f"the library has no input {sorted(unknown)[0]!r}; it has {', '.join(self.model.inputs)}")
        for name, info in self.model._inputs.items():
            if name not in values:
                self._require(self._library.carten_set_input(self._state, name.encode(), 0, None))
                continue
            array = np.ascontiguousarray(values[name], dtype=np.float64).reshape(-1, info.components)
            self._require(self._library.carten_set_input(self._state, name.encode(), len(array), _address(array)))

    def step(
        self,
        elements: npt.NDArray[np.int32],
        positions: Floats,
        cell: Floats,
        pairs: PairList,
        names: Sequence[str],
    ) -> dict[str, Floats]:
        """Energies of atoms, and what else is wanted of ``forces``, ``virial``, ``virials``, readouts and deviations.

        Deviations of members of an ensemble are ``energies_deviations`` (N, D), a readout, ``forces_deviations``
        (D, N, 3) and ``virial_deviations`` (D, 3, 3).

        Args:
            elements: (N,) positions among the elements of the model.
            positions: (N, 3) Å.
            cell: (3, 3) Å, rows are lattice vectors.
            pairs: all that are closer than the cutoff, and any others.
            names: of what is wanted.

        Raises:
            ModelError: the library refuses; the message says why.
        """
        n = len(elements)
        elements = _array("elements", elements, (n,), np.int32)
        positions = _array("positions", positions, (n, 3), np.float64)
        cell = _array("cell", cell, (3, 3), np.float64)
        centre, neighbour, shifts = _arrays(pairs)
        shapes = {"energies": (n,), "forces": (n, 3), "virial": (3, 3), "virials": (n, 3, 3)}
        members = self.model.n_deviations
        shapes |= {"forces_deviations": (members, n, 3), "virial_deviations": (members, 3, 3)}
        derived = {"energies", *names} - set(self.model.readouts)  # forces, say, may be read directly
        results = {name: np.zeros(shape) for name, shape in shapes.items() if name in derived}
        readouts = {name: np.zeros((n, size)) for name, size in self.model.readouts.items() if name in names}
        pointers = [_address(readouts[name]) if name in readouts else None for name in self.model.readouts]
        table = (ctypes.c_void_p * len(pointers))(*pointers) if readouts else None
        arrays = [_address(results[name]) if name in results else None for name in shapes]
        self._require(
            self._library.carten_step(
                self._state, n, _address(elements), _address(positions), _address(cell), len(centre),
                _address(centre), _address(neighbour), _address(shifts), *arrays[:4], table, *arrays[4:],
            )
        )  # fmt: skip
        return results | readouts

    def evaluate(
        self,
        elements: npt.NDArray[np.int32],
        pairs: PairList,
        vectors: Floats,
        counted: npt.NDArray[np.int32] | None = None,
    ) -> tuple[Floats, Floats]:
        """Energies of atoms, and their derivatives with respect to vectors (P, 3) from centre to neighbour.

        Raises:
            ModelError: the library refuses; the message says why.
        """
        n = len(elements)
        elements = _array("elements", elements, (n,), np.int32)
        centre, neighbour, _ = _arrays(pairs)
        vectors = _array("vectors", vectors, (len(centre), 3), np.float64)
        energies, gradients = np.zeros(n), np.zeros_like(vectors)
        mask = None if counted is None else _array("counted", counted, (n,), np.int32)
        self._require(
            self._library.carten_evaluate(
                self._state, n, n, _address(elements), len(centre), _address(centre),
                _address(neighbour), _address(vectors), None, None if mask is None else _address(mask),
                _address(energies), _address(gradients), None, None,
            )
        )  # fmt: skip
        return energies, gradients

    def _require(self, failed: int) -> None:
        if failed:
            raise ModelError(self._library.carten_error(self._state).decode("utf-8", "replace"))


def _arrays(pairs: PairList) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Centres, neighbours and shifts of pairs, as the library reads them."""
    n = len(pairs.centre)
    return (
        _array("pairs.centre", pairs.centre, (n,), np.int64),
        _array("pairs.neighbour", pairs.neighbour, (n,), np.int64),
        _array("pairs.shifts", pairs.shifts, (n, 3), np.int32),
    )


def _array(name: str, values: npt.ArrayLike, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """An array without gaps, as the library reads it.

    Raises:
        ModelError: it has another shape: the library would read beyond its end.
    """
    array = np.ascontiguousarray(values, dtype=dtype)
    if array.shape != shape:
        raise ModelError(f"{name} should have the shape {shape}, found {array.shape}")
    return array


def _address(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """A library with the types of its functions."""
    pointer, int64 = ctypes.c_void_p, ctypes.c_int64
    library.carten_describe.restype = ctypes.POINTER(_Info)
    library.carten_create.restype = pointer
    library.carten_destroy.argtypes = (pointer,)
    library.carten_destroy.restype = None
    library.carten_error.argtypes = (pointer,)
    library.carten_error.restype = ctypes.c_char_p
    library.carten_threads.argtypes = (pointer, ctypes.c_int32)
    library.carten_set_input.argtypes = (pointer, ctypes.c_char_p, int64, pointer)
    library.carten_evaluate.argtypes = (pointer, int64, int64, pointer, int64, *(pointer,) * 9)
    library.carten_step.argtypes = (pointer, int64, *(pointer,) * 3, int64, *(pointer,) * 10)
    return library
