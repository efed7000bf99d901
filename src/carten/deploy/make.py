"""From a model to a library: bound, compiled, compared with the model, kept."""

from __future__ import annotations

import copy
import hashlib
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms

from carten.data.neighbours import graph
from carten.deploy.bind import bind
from carten.deploy.deployed import Deployed, PairList
from carten.deploy.library import Bound, Parts, library_parts
from carten.deploy.sealed import LEVELS, needed_features, sealed
from carten.errors import ConfigError, ModelError
from carten.model.conditions import Category, Coupled
from carten.ops import cache, compiler
from carten.ops.fingerprint import fingerprint
from carten.properties.potential import Potential

ASSEMBLY = """
.section .rodata
.balign 64
.global carten_data
.hidden carten_data
carten_data:
.incbin "constants.bin"
.section .note.GNU-stack,"",%progbits
"""
EXPORTS = b"{ global: carten_*; local: *; };"
LINK = ("data.s", "-static-libstdc++", "-static-libgcc", "-Wl,-z,defs", "-Wl,--version-script=exports", "-pthread")
SUFFIX = ".so"
AGREEMENT = {"float64": 1e-9, "float32": 2e-4}
"""Largest difference between a library with exact radial functions and the model, relative to the largest force."""
OF_TABLES = 2e-5
"""What tables may add to it: relative to the largest value of a radial function they are right to 1e-6."""


def compile_model(
    model: Potential,
    dtype: str | None = None,
    exact: bool = False,
    march: str = "native",
    provenance: Mapping[str, Any] | None = None,
) -> Deployed:
    """A snapshot of a model as a compiled library; the model stays as it is.

    The library is compared with the exact model once, when it is made. Where tables of radial functions can't reach
    their tolerance, the radial networks are evaluated instead, and that is said.

    Args:
        model: a model, on any device.
        dtype: ``"float32"`` or ``"float64"``, that of the model by default.
        exact: whether radial networks are always evaluated.
        march: processor: ``"native"``, or ``"x86-64-v2"`` to ``"x86-64-v4"``.
        provenance: the header of the model's file, kept in the library.

    Raises:
        ModelError: the model has terms that a library can't have, there is no compiler, or the library does not do what
            the model does.
        ConfigError: an unknown dtype or processor.
    """
    dtype = str(model.dtype).removeprefix("torch.") if dtype is None else dtype
    if dtype not in AGREEMENT:
        raise ConfigError(f"dtype must be 'float32' or 'float64', found {dtype!r}")
    if march != "native" and march not in LEVELS:
        raise ConfigError(f"--march: expected native or one of {', '.join(LEVELS)}, found {march!r}")
    with torch.inference_mode(False), torch.no_grad():
        bound = bind(model, dtype, exact)
        if not exact and not bound.radial.n_intervals and not bound.radial.elements:
            warnings.warn("tables can't reproduce the radial functions of this model: they are evaluated", stacklevel=2)
        pieces = library_parts(_for_processor(bound, march, provenance))
        name = hashlib.sha256(f"{pieces.digest} {march} {fingerprint(__file__)}".encode()).hexdigest()[:32]
        for content in cache.read_kept(name, SUFFIX):
            return Deployed(content)
        compiler.check()  # a compiler that is broken or hangs is known after a minute
        made_library = Deployed(_compiled(pieces, march))
        _require_same(made_library, model, AGREEMENT[dtype] + OF_TABLES * (bound.radial.n_intervals > 0))
    cache.keep(name, SUFFIX, made_library.content)
    return made_library


def _for_processor(bound: Bound, march: str, provenance: Mapping[str, Any] | None) -> Bound:
    facts = {"march": march, "machine": platform.machine(), "features": list(needed_features(march))}
    return replace(bound, header={**bound.header, **facts, "model": provenance})


def _compiled(pieces: Parts, march: str) -> bytes:
    """The content of a library file."""
    attempts: Sequence[Sequence[str]] = compiler.ATTEMPTS
    if march != "native":
        attempts = tuple((f"-march={march}", *flags[1:]) for flags in compiler.ATTEMPTS[:2])
    files = {"data.s": ASSEMBLY.encode(), "constants.bin": pieces.constants, "exports": EXPORTS}
    return sealed(compiler.linked(pieces.sources, attempts, LINK, files))


def _require_same(library: Deployed, model: Potential, tolerance: float) -> None:
    """Compare a library with its model on a few atoms of all elements.

    Raises:
        ModelError: they differ.
    """
    atoms, input_values = _sample(model)
    exact = copy.deepcopy(model).to("cpu", torch.float64).eval().requires_grad_(False)
    exact.network.backend = "reference"
    sample = graph(atoms, model.cutoff, input_values)
    names = [name for name in ("energies", "forces") if name in exact.properties]
    names += [name for name in library.readouts if name in exact.properties and exact.properties[name].scope == "atom"]
    names = [*dict.fromkeys(names)]
    with torch.enable_grad():
        expected = {name: value.numpy() for name, value in exact(sample, names).items()}
    centre, neighbour = (row.contiguous().numpy() for row in sample.edge_index)
    evaluator = library.evaluator()
    evaluator.tell({name: value for name, value in input_values.items() if name in library.inputs})
    elements, pairs = library.rows_of(atoms.numbers), PairList(centre, neighbour, np.zeros((len(centre), 3), np.int32))
    results = evaluator.step(elements, atoms.positions, np.zeros((3, 3)), pairs, names)
    for name in names:
        values, compiled = (x.reshape(len(atoms), -1) for x in (expected[name], results[name]))
        if not np.isfinite(values).all() and not np.isfinite(compiled).all():
            continue  # weights that are no numbers: both say so
        size = max(float(np.abs(values - values.mean(axis=0)).max()), 1e-3 * float(np.abs(values).max()), 1e-12)
        error = float(np.abs(compiled - values).max()) / size
        if not error <= tolerance:
            raise ModelError(
                f"{name} of the compiled model differ from those of the model by {error:.1e} of their size: the model "
                "does something that its circuits do not say, so that it can be evaluated in Python only"
            )


def _sample(model: Potential) -> tuple[Atoms, dict[str, npt.NDArray[Any]]]:
    """Atoms of all elements, some 1.5 Å apart, and values for all inputs."""
    generator = np.random.default_rng(0)
    numbers = [*model.elements, *generator.choice(model.elements, 8)][: max(8, len(model.elements))]
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)[: len(numbers)]
    positions = grid * min(1.5, 0.4 * model.cutoff)
    atoms = Atoms(numbers=numbers, positions=positions + generator.normal(0, 0.1, positions.shape))
    input_values: dict[str, npt.NDArray[Any]] = {}
    for row in model.inputs.values():
        if isinstance(row.embed, Coupled):
            continue
        n = len(atoms) if row.scope == "atom" else 1
        if isinstance(row.embed, Category):
            input_values[row.name] = generator.integers(0, len(row.embed.values), n)
        else:
            input_values[row.name] = generator.normal(0, row.scale, (n, *row.shape))
    return atoms, input_values
