"""The parts of a library: C++ of its phases and kernels, and its constants."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carten.deploy.deviations import DEVIATIONS
from carten.deploy.phases import Circuits, Scheme, schedule
from carten.deploy.sealed import mark
from carten.deploy.source import PlanKernel, Source, write_phases
from carten.math.arrays import Array
from carten.ops import compiler
from carten.ops.codegen import source as kernel_source
from carten.properties.planning import ENERGIES

NATIVE = Path(__file__).with_name("native")
OPS = Path(compiler.__file__).parent
_ALIGNED = 64

ENTRIES = (
    "header", "numbers", "n_intervals", "scales", "shifts", "defaults", "reach", "core", "zbl",
)  # fmt: skip
"""First entries of the table of constants; then two for each head but the energies, two for each weight."""


@dataclass(frozen=True)
class HeadData:
    """Baselines of a head, and how its values are assembled.

    Args:
        scale: of all values.
        shift: (kinds, scalars), added to the scalars.
        assembly: (packed, 3^rank).
        sizes: numbers in each of the packed parts.
        positive: whether values are made positive.
        unit: of the values.
    """

    scale: float
    shift: Array
    assembly: Array
    sizes: tuple[int, ...]
    positive: bool = False
    unit: str = ""


@dataclass(frozen=True)
class InputData:
    """An input: its row in short, and where its values go."""

    name: str
    unit: str
    per_atom: bool
    components: int
    n_categories: int = 0
    default: float | None = None
    level: bool = False


@dataclass(frozen=True)
class Radial:
    """Radial functions: a table of ``n_intervals``, or the basis that exact networks take (0 intervals)."""

    cutoff: float
    n_intervals: int
    basis: str
    n_basis: int
    envelope_power: int
    elements: bool


@dataclass(frozen=True)
class Bound:
    """A model as data: circuits, weights, baselines.

    Args:
        weights: by name; of those that levels of theory have apart, one for each level.
        zbl: reach and core size of pairs of elements in Å, and the constants of the repulsion; None without.
        calibration: what forces of deviations are multiplied by.
    """

    circuits: Circuits
    weights: Mapping[str, Sequence[Array]]
    heads: Mapping[str, HeadData]
    inputs: Sequence[InputData]
    radial: Radial
    numbers: Sequence[int]
    dtype: str
    header: Mapping[str, Any]
    zbl: tuple[Array, Array, Array] | None = None
    calibration: float = 1.0


@dataclass(frozen=True)
class Parts:
    """What a library is compiled from.

    Args:
        main: C++ of the phases.
        kernels: plans they call.
        constants: read-only data.
        dtype: precision.
    """

    main: str
    kernels: Sequence[PlanKernel]
    constants: bytes
    dtype: str

    @cached_property
    def sources(self) -> list[str]:
        """All C++."""
        return [self.main, *(_kernel(each, self.dtype) for each in self.kernels)]

    @cached_property
    def digest(self) -> str:
        """Of all that the library depends on but its generator."""
        digest = hashlib.sha256(self.constants)
        digest.update("\n".join([self.main, self.dtype, *(each.function for each in self.kernels)]).encode())
        return digest.hexdigest()


def library_parts(bound: Bound) -> Parts:
    """C++ and constants of a model."""
    scheme = schedule(bound.circuits)
    heads = sorted(bound.heads, key=lambda name: name != ENERGIES)
    source = write_phases(scheme, heads)
    main = _main(bound, scheme, source, heads)
    return Parts(main, tuple(source.kernels), constants(bound, source, heads), bound.dtype)


def _kernel(each: PlanKernel, dtype: str) -> str:
    """C++ of one plan, with nothing visible but its function."""
    text = kernel_source(each.plan, _scalar(dtype), each.channels, each.followed)
    lines = text.splitlines()
    left_out = ("#include <", 'extern "C" int64_t run(')
    body = "\n".join(line for line in lines if not line.startswith(left_out) or "immintrin" in line)
    body = body.replace("#if defined(__SSE2__)\n#include <immintrin.h>\n#endif", "")
    headers = ("cstdint", "atomic", "cstdlib", "cstring", "type_traits", "utility")
    return "\n".join(
        [
            *(f"#include <{name}>" for name in headers),
            "#if defined(__SSE2__)\n#include <immintrin.h>\n#endif",
            f"namespace {{\n{body}\n}}",
            f'extern "C" __attribute__((visibility("hidden"))) bool {each.function}(const int64_t* a);',
            f'extern "C" bool {each.function}(const int64_t* a) {{',
            "  const Job job(a);",
            "  if (job.n == 0) return job.clear(0, job.rows), false;",
            "  Share share;\n  share.adds = true;\n  job(0, job.n, share);\n  return share.wrong;\n}\n",
        ]
    )


def _scalar(dtype: str) -> str:
    return {"float32": "float", "float64": "double"}[dtype]


def _main(bound: Bound, scheme: Scheme, source: Source, heads: Sequence[str]) -> str:
    """C++ of the phases and of what runs them."""
    read = {path.name: path.read_text(encoding="utf-8") for path in (*NATIVE.glob("*.h"), *OPS.glob("*.h"))}
    others = [name for name in heads if name != ENERGIES]
    radial = bound.radial
    infos = [_readout_info(name, bound.heads[name]) for name in others]
    flags = {
        "tabulated": radial.n_intervals > 0,
        "zbl": bound.zbl is not None,
        "energies": ENERGIES in heads,
        "bessel": radial.basis == "bessel",
        "element_dependent": radial.elements,
    }
    numbers = {
        "n_layers": len(scheme.layers),
        "n_elements": len(bound.numbers),
        "n_weights": len(source.weights),
        "n_transposes": sum(transposed for *_, transposed in source.weights),
        "n_arrays": len(source.arrays),
        "n_scattered": len(source.scattered),
        "n_inputs": len(bound.inputs),
        "n_readouts": len(others),
        "n_deviations": bound.heads[DEVIATIONS].assembly.shape[1] if DEVIATIONS in bound.heads else 0,
        "n_basis": radial.n_basis,
        "envelope_power": radial.envelope_power,
        "atom_work": source.work["own"],
        "edge_work": source.work["edges"],
        "n_exchanged": max((sum(scheme.values[n].width for n in names) for names in scheme.features), default=0),
    }
    text = [
        *(f"#include <{name}>" for name in ("cmath", "cstdint", "cstdio", "cstdlib", "cstring", "new")),
        read["carten_model.h"],
        'asm(".hidden carten_data");\nextern "C" const char carten_data[];',
        f"typedef {_scalar(bound.dtype)} S;",
        "constexpr int64_t C = 64;  // vectors are as wide as the processor's",
        *(f"constexpr bool model_{name} = {str(value).lower()};" for name, value in flags.items()),
        *(f"constexpr int64_t model_{name} = {value};" for name, value in numbers.items()),
        f"constexpr double model_cutoff = {radial.cutoff!r}, model_calibration = {bound.calibration!r};",
        *(f"constexpr int64_t entry_{name} = {n};" for n, name in enumerate(ENTRIES)),
        f"constexpr int64_t entry_head = {len(ENTRIES) - 2}, entry_weights = {len(ENTRIES) + 2 * len(others)};",
        "enum Rows { structure_rows, own_rows, all_rows };",
        "struct Kept { Rows rows; int64_t width; };\nstruct Scattered { int array; int number; int64_t width; };",
        "struct Transpose { int number, stored; int64_t levels, matrices, rows, columns; };",
        "struct Input { bool per_atom; int array; int category; bool level; };",
        _tables(bound, scheme, source, infos),
        *(
            f'extern "C" __attribute__((visibility("hidden"))) bool {each.function}(const int64_t*);'
            for each in source.kernels
        ),
        *(read[name] for name in ("vectors.h", "matrix.h", "memory.h", "threads.h", "view.h", "runtime.h")),
        *(_readout(n, name, bound.heads[name], heads) for n, name in enumerate(others)),
        *source.functions,
        _functions(scheme, source),
        *(read[name] for name in ("geometry.h", "evaluation.h")),
    ]
    return "\n".join(text) + "\n"


def _tables(bound: Bound, scheme: Scheme, source: Source, infos: Sequence[str]) -> str:
    """Tables of what there is: arrays, inputs, readouts."""
    rows = {"structures": "structure_rows", "own": "own_rows", "all": "all_rows"}
    kept = [f"{{{rows[str(scheme.values[name].rows)]}, {scheme.values[name].width}}}" for name in source.arrays]
    inputs, described = [], []
    for row in bound.inputs:
        array = source.arrays.get(f"input/{row.name}", -1)
        category = scheme.categories.get(row.name, (-1, False, 0))[0]
        inputs.append(f"{{{int(row.per_atom)}, {array}, {category}, {int(row.level)}}}")
        required = int(row.default is None)
        facts = (_text(row.name), _text(row.unit), int(row.per_atom), row.components, row.n_categories, required)
        described.append(f"{{{', '.join(map(str, facts))}}}")
    return "\n".join(
        [
            f"static const Kept model_kept[] = {{{', '.join([*kept, '{own_rows, 0}'])}}};",
            f"static const Input model_inputs[] = {{{', '.join([*inputs, '{}'])}}};",
            f"static const carten_input model_input_infos[] = {{{', '.join([*described, '{}'])}}};",
            f"static const carten_readout model_readout_infos[] = {{{', '.join([*infos, '{}'])}}};",
            f"static const Transpose model_transposes[] = {{{', '.join([*_transposes(bound, source), '{}'])}}};",
        ]
    )


def _transposes(bound: Bound, source: Source) -> Iterator[str]:
    """Weights that are made from others: number, that of the other, levels, matrices, their rows and columns."""
    for (name, scale, transposed), number in source.weights.items():
        if transposed:
            *kinds, rows, columns = bound.weights[name][0].shape
            stored, levels = source.weights[name, scale, False], len(bound.weights[name])
            yield f"{{{number}, {stored}, {levels}, {math.prod(kinds)}, {rows}, {columns}}}"


def _readout_info(name: str, head: HeadData) -> str:
    return f"{{{_text(name)}, {_text(head.unit)}, {head.assembly.shape[1]}}}"


def _text(text: str) -> str:
    """A literal of C."""
    return (
        json.dumps(text, ensure_ascii=True) if text.isascii() else json.dumps(text.encode("ascii", "replace").decode())
    )


def _readout(n: int, name: str, head: HeadData, heads: Sequence[str]) -> str:
    """What a readout is, for the function that assembles its values."""
    n_flat, components = head.assembly.shape
    position = heads.index(name)
    n_scalars = head.shift.shape[1] if head.shift.ndim > 1 else 0
    sizes = ", ".join(map(str, head.sizes))
    return (
        f"struct Readout{position} {{\n"
        f"  static constexpr int number = {n}, head = {n + 1}, n_parts = {len(head.sizes)}, n_scalars = {n_scalars};\n"
        f"  static constexpr int n_flat = {n_flat}, components = {components};\n"
        f"  static constexpr bool positive = {str(head.positive).lower()};\n"
        f"  static constexpr int64_t size[] = {{{sizes}}};\n}};"
    )


def _functions(scheme: Scheme, source: Source) -> str:
    """Tables of phases by layer."""
    backs = {phase.name: phase.name for phase in scheme.backs}
    layers = range(len(scheme.layers))
    names = {
        "layers": [phase.name for phase in scheme.layers],
        "sends": [phase.name for phase in scheme.sends],
        "receives": [phase.name for phase in scheme.receives],
        "backs": [backs.get(f"back{k}", "nullptr") for k in layers],
    }
    lines = ["typedef bool (*Phase)(const View&, const Chunk&);"]
    lines += [f"static const Phase model_{name}[] = {{{', '.join(functions)}}};" for name, functions in names.items()]
    memory = ", ".join(f"{phase.name}_memory" for phase in scheme.phases)
    deviations = scheme.deviations[0].name if scheme.deviations else "nullptr"
    lines.append(f"static const Phase model_deviations = {deviations};")
    lines.append(f"static const int64_t* const model_memory[] = {{{memory}}};")
    for kind, lists in (("exchanged", scheme.features), ("returned", scheme.returned)):
        for k, names_of_layer in enumerate(lists):
            numbers = [*(str(source.arrays[name]) for name in names_of_layer), "-1"]
            lines.append(f"static const int {kind}{k}[] = {{{', '.join(numbers)}}};")
        lines.append(f"static const int* const model_{kind}[] = {{{', '.join(f'{kind}{k}' for k in layers)}}};")
    for k in layers:
        phases = [*(phase for phase in scheme.backs if phase.name == f"back{k}"), *scheme.layers[k : k + 1]]
        writes = {name for phase in phases for operator in phase.gradient for name in operator.writes}
        entries = [
            f"{{{source.arrays[name]}, {number}, {scheme.values[name].width}}}"
            for number, name in enumerate(source.scattered)
            if name in writes
        ]
        lines.append(f"static const Scattered scattered{k}[] = {{{', '.join([*entries, '{-1, 0, 0}'])}}};")
    lines.append(f"static const Scattered* const model_scattered[] = {{{', '.join(f'scattered{k}' for k in layers)}}};")
    return "\n".join(lines)


def constants(bound: Bound, source: Source, heads: Sequence[str]) -> bytes:
    """The read-only data: a mark, a table of offsets, and what they lead to."""
    scalar = np.dtype(bound.dtype)
    n_entries = len(ENTRIES) + 2 * (len(heads) - (ENERGIES in heads)) + 2 * len(source.weights)
    data = bytearray(mark() + bytes(8 * n_entries))
    table: list[int] = []

    def put(content: bytes) -> int:
        data.extend(bytes(-len(data) % _ALIGNED))
        offset = len(data)
        data.extend(content)
        return offset

    def doubles(values: npt.ArrayLike) -> int:
        return put(np.ascontiguousarray(values, dtype=np.float64).tobytes())

    none = np.zeros(1)
    energies = bound.heads.get(ENERGIES)
    scales = [energies.scale if energies else 0.0]
    scales += [bound.heads[name].scale for name in heads if name != ENERGIES]
    reach, core, zbl = bound.zbl or (none, none, none)
    table.append(put(json.dumps(bound.header).encode() + b"\0"))
    table.append(put(np.asarray(bound.numbers, dtype=np.int32).tobytes()))
    table.append(bound.radial.n_intervals)
    table.append(doubles(scales))
    table.append(doubles(energies.shift if energies else none))
    table.append(doubles([0.0 if row.default is None else row.default for row in bound.inputs] or none))
    table += [doubles(reach), doubles(core), doubles(zbl)]
    for name in heads:
        if name != ENERGIES:
            head = bound.heads[name]
            table += [doubles(head.shift if head.shift.size else none), doubles(head.assembly)]
    for name, scale, transposed in source.weights:
        if transposed:  # made when the library is loaded
            table += [0, 0]
            continue
        arrays = [np.asarray(array, dtype=np.float64) * scale for array in bound.weights[name]]
        offsets = [put(np.ascontiguousarray(array, dtype=scalar).tobytes()) for array in arrays]
        steps = {after - before for before, after in pairwise(offsets)}
        if len(steps) > 1:
            raise ValueError(f"levels of {name} differ in size")
        table += [offsets[0], steps.pop() if steps else 0]
    struct.pack_into(f"<{len(table)}q", data, len(mark()), *table)
    return bytes(data)
