"""Cheap labels beside expensive ones: geometries around labelled structures, and a configuration that trains both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms, units
from ase.md.langevin import Langevin

from carten.data.read import read_structures
from carten.errors import ConfigError, DataError
from carten.learning.geometries import NormalModes, bare, bonds, turned_bonds
from carten.learning.labellers import Labeller
from carten.learning.labelling import LEVEL, Labelled, label_structures, write_frames
from carten.train.files import write_text
from carten.workflows.limits import overlapping

SOURCES = ("labelled", "md", "modes", "bonds")
"""Where cheap geometries come from: the labelled structures, dynamics, normal modes, turned bonds."""
TEMPERATURES = (300.0, 600.0)  # K
FRICTION = 0.01  # 1/fs
HELD_OUT = 10  # one labelled structure in so many is for validation
ATTEMPTS = 20  # at a geometry without overlapping atoms


@dataclass(frozen=True)
class Around:
    """Geometries to make.

    Args:
        number: of structures with cheap labels.
        temperatures: of dynamics and normal modes, K.
        sources: of :data:`SOURCES`, each for its share.
        timestep: of dynamics, fs.
        interval: steps of dynamics between two structures.
        seed: of everything random.

    Raises:
        ConfigError: a number is not positive, or a source is unknown.
    """

    number: int = 500
    temperatures: tuple[float, ...] = TEMPERATURES
    sources: tuple[str, ...] = SOURCES
    timestep: float = 0.5
    interval: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("number", "timestep", "interval"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        if not self.temperatures or min(self.temperatures) <= 0.0:
            raise ConfigError(f"temperatures: expected numbers above 0 K, found {list(self.temperatures)}")
        if not self.sources or (unknown := [name for name in self.sources if name not in SOURCES]):
            raise ConfigError(
                f"sources: expected some of {', '.join(SOURCES)}, found {unknown if self.sources else []}"
            )


@dataclass(frozen=True)
class Augmented:
    """What was written.

    Args:
        cheap: structures with cheap labels, and those whose labels failed.
        counts: number of geometries by source.
        config: path of the configuration.
    """

    cheap: Labelled
    counts: dict[str, int] = field(default_factory=dict)
    config: Path = Path()


def augment(
    frames: Sequence[Atoms],
    labeller: Labeller,
    output: Path,
    around: Around,
    level: str = "target",
    jobs: int = 1,
    advance: Callable[[int], None] | None = None,
) -> Augmented:
    """Label geometries around labelled structures cheaply; write them, the labelled ones, and a configuration.

    Beside ``cheap.extxyz`` there are ``cheap.train.extxyz`` and ``cheap.validation.extxyz`` with the labelled
    structures, and ``cheap.yaml``. An interrupted call continues when it is repeated.

    Args:
        frames: with expensive labels.
        labeller: cheap.
        output: extended XYZ.
        around: geometries to make.
        level: name of the expensive level of theory, of structures that do not carry one in ``fidelity``.
        jobs: processes that label.
        advance: called with the number of structures that are labelled.

    Raises:
        ConfigError: both levels have the same name.
        DataError: there are fewer than two structures, or none can be labelled.
    """
    if len(frames) < 2:
        raise DataError(
            f"augment needs at least two labelled structures, one of them for validation; found {len(frames)}"
        )
    levels = {str(atoms.info.get(LEVEL, level)) for atoms in frames}
    if labeller.level_of_theory in levels:
        raise ConfigError(
            f"the labelled structures are of the level {labeller.level_of_theory} already: give another --level"
        )
    geometries = output.with_suffix(".geometries.extxyz")
    if not geometries.exists():  # labels continue with the same ones after an interruption
        write_frames(geometries, around_structures(frames, labeller, around))
    new = [atoms for _, atoms in read_structures(geometries)]
    cheap = label_structures(new, labeller, output, jobs=jobs, advance=advance)
    held_out = set(range(HELD_OUT // 2, len(frames), HELD_OUT)) or {len(frames) - 1}
    named = [_with_level(atoms, level) for atoms in frames]
    parts = {"train": [k for k in range(len(frames)) if k not in held_out], "validation": sorted(held_out)}
    for part, members in parts.items():
        write_frames(output.with_suffix(f".{part}.extxyz"), [named[k] for k in members])
    config = output.with_suffix(".yaml")
    write_text(config, configuration_of_both(output, sorted(levels)[0]))
    geometries.unlink()
    counts = {source: sum(atoms.info.get("source") == source for atoms in new) for source in around.sources}
    return Augmented(cheap, counts, config)


def around_structures(frames: Sequence[Atoms], labeller: Labeller, around: Around) -> list[Atoms]:
    """Geometries from all sources; what one source cannot give comes from the others."""
    rng = np.random.default_rng(around.seed)
    streams = {source: STREAMS[source](frames, labeller, around, rng) for source in around.sources}
    result: list[Atoms] = []
    while streams and len(result) < around.number:
        for source in list(streams):
            atoms = next(streams[source], None)
            if atoms is None:
                del streams[source]
            elif len(result) < around.number:
                atoms.info["source"] = source
                result.append(atoms)
    return result


def _labelled(frames: Sequence[Atoms], _: Labeller, __: Around, rng: np.random.Generator) -> Iterator[Atoms]:
    for k in rng.permutation(len(frames)):
        yield bare(frames[k])


def _md(frames: Sequence[Atoms], labeller: Labeller, around: Around, rng: np.random.Generator) -> Iterator[Atoms]:
    """Langevin dynamics with the cheap forces, a short run from each start in turn."""
    while True:
        for temperature in around.temperatures:
            atoms = bare(frames[int(rng.integers(len(frames)))])
            atoms.calc = labeller.calculator(atoms)
            spread = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
            atoms.set_momenta(spread * rng.standard_normal((len(atoms), 3)))
            friction, timestep = FRICTION / units.fs, around.timestep * units.fs
            dynamics = Langevin(atoms, timestep, temperature_K=temperature, friction=friction, fixcm=False, rng=rng)
            for _ in range(10):
                dynamics.run(around.interval)
                if overlapping(atoms):
                    break
                yield bare(atoms)


def _modes(frames: Sequence[Atoms], labeller: Labeller, around: Around, rng: np.random.Generator) -> Iterator[Atoms]:
    """Normal modes of one relaxed structure for each formula."""
    firsts = {str(atoms.symbols): atoms for atoms in reversed(frames) if not atoms.pbc.any() and len(atoms) > 1}
    modes = [NormalModes(bare(atoms), labeller.calculator(atoms)) for atoms in firsts.values()]
    while modes:
        for temperature in around.temperatures:
            for relaxed in modes:
                for atoms in islice(_sober(lambda: relaxed.sample(temperature, rng)), 1):  # noqa: B023  # used at once
                    yield bare(atoms)


def _bonds(frames: Sequence[Atoms], _: Labeller, __: Around, rng: np.random.Generator) -> Iterator[Atoms]:
    """Labelled molecules with their rotatable bonds turned."""
    starts = [bare(atoms) for atoms in frames if not atoms.pbc.any()]
    starts = [atoms for atoms in starts if turned_bonds(atoms, np.random.default_rng(0)) is not None]
    while starts:
        start = starts[int(rng.integers(len(starts)))]
        connected = bonds(start)
        turned = _sober(lambda: turned_bonds(start, rng))  # noqa: B023  # used at once
        yield from islice((atoms for atoms in turned if bonds(atoms) == connected), 1)


def _sober(make: Callable[[], Atoms | None]) -> Iterator[Atoms]:
    """Those of some attempts that have no overlapping atoms."""
    for _ in range(ATTEMPTS):
        atoms = make()
        if atoms is not None and not overlapping(atoms):
            yield atoms


STREAMS = {"labelled": _labelled, "md": _md, "modes": _modes, "bonds": _bonds}


def configuration_of_both(cheap: Path, target: str) -> str:
    """A configuration that trains both levels and is validated on the expensive one.

    Args:
        cheap: file of the cheap structures, beside which the expensive ones are.
        target: name of the expensive level, which the model has unless another one is asked for.
    """
    train, validation = (cheap.with_suffix(f".{part}.extxyz").name for part in ("train", "validation"))
    document = {
        "data": {"train": [train, cheap.name], "validation": validation, "batch": {"structures": 5}},
        "inputs": {LEVEL: {"default": target}},
        "properties": {"energy": {"weight": 40.0}, "forces": {"weight": 1.0}},
        "model": {"cutoff": 4.5, "n_channels": 32, "l_max_edges": 2, "l_max_features": 1},
        "training": {"epochs": 60, "ema": 0.995},
        "output": f"{cheap.stem}-run",
    }
    head = f"# Two levels of theory in one model: {target} is the target and the default; validation is of it alone."
    return f"{head}\n{yaml.safe_dump(document, sort_keys=False, default_flow_style=None)}"


def _with_level(atoms: Atoms, level: str) -> Atoms:
    atoms.info.setdefault(LEVEL, level)
    return atoms
